"""A one-line account of work that takes longer than a few seconds."""

import datetime
import sys
import time
from collections.abc import Iterable, Iterator, Sized


def shown[T](
    items: Iterable[T], *, what: str, total: int | None = None, step: int = 1, after: float = 5.0
) -> Iterator[T]:
    """The same items; from ``after`` seconds on, one line on stderr says how far they are.

    Args:
      items: anything that can be iterated.
      what: what is being done, e.g. "decoding omniglot/train".
      total: how much there is to do; by default ``len(items)`` where it has one.
      step: how much one item counts.
      after: seconds without a word. Work that ends earlier says nothing.

    It tells the rate and, where the total is known, the time left (h:mm:ss). On a terminal the line
    is rewritten each second; elsewhere a line is written every 30 seconds.

    >>> list(shown([1, 2, 3], what="counting"))
    [1, 2, 3]
    """
    if total is None and isinstance(items, Sized):
        total = len(items) * step
    return _counted(items, what, total, step, after)


def _counted[T](
    items: Iterable[T], what: str, total: int | None, step: int, after: float
) -> Iterator[T]:
    start = time.monotonic()
    due = start + after
    on_terminal = sys.stderr.isatty()
    spoke, count = False, 0
    for item in items:
        yield item
        count = count + step if total is None else min(count + step, total)
        now = time.monotonic()
        if now >= due:
            due = now + (1.0 if on_terminal else 30.0)
            rate = count / max(now - start, 1e-9)
            line = f"{what}: {count}, {_per_second(rate)}"
            if total:
                left = datetime.timedelta(seconds=round((total - count) / rate))
                line = f"{what}: {count} of {total}, {_per_second(rate)}, {left} left"
            # Spaces cover what a longer line left.
            print(line, end="    \r" if on_terminal else "\n", file=sys.stderr, flush=True)
            spoke = True
    if spoke:
        print(
            f"{what}: {count} in {time.monotonic() - start:.0f} s    ",
            file=sys.stderr,
            flush=True,
        )


def _per_second(rate: float) -> str:
    """A rate with two digits where it is small.

    >>> _per_second(4.4321), _per_second(1234.5)
    ('4.4/s', '1234/s')
    """
    return f"{rate:.1f}/s" if rate < 10.0 else f"{rate:.0f}/s"
