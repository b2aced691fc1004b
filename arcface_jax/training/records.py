"""A run's record: one JSON object per line, and a progress line for whoever watches."""

import json
import math
import os
import pathlib
import sys
import time
from typing import Any, TextIO


class JsonLines:
    """Appends one JSON object per line; the record that everything else is a view of.

    Args:
      path: file to append to; its directory is created.
      keep_until: where the file exists, lines of this step or later are dropped: a resumed run
        writes them again.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> with JsonLines(path) as lines:
    ...     lines.write({"step": 1, "loss": 2.5})
    >>> read_json_lines(path)
    [{'step': 1, 'loss': 2.5}]
    """

    def __init__(self, path: str | os.PathLike, *, keep_until: int = 0):
        """Opens the file."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if path.exists():
            kept = [line for line in read_json_lines(path) if line["step"] < keep_until]
        self._file = path.open("w")
        for line in kept:
            self.write(line)

    def write(self, values: dict[str, Any]) -> None:
        """One line, flushed: a killed run keeps what it wrote. NaN and infinity become null."""
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_json_lines(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Every whole line of a `JsonLines` file; a last line cut short by a kill is left out.

    Raises:
      ValueError: a line before the last is not JSON; file and line are named.

    >>> read_json_lines("/dev/null")
    []
    """
    lines = pathlib.Path(path).read_text().splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {line[:60]!r}.") from None
    return records


class Progress:
    """One line rewritten in place on a terminal; a line now and then where there is none.

    Args:
      title: printed first.
      total: steps in all.
      stream: where to; standard error by default.
      every: seconds between lines where the stream is no terminal.
    """

    def __init__(self, title: str, total: int, *, stream: TextIO | None = None, every: float = 15):
        """Starts the clock."""
        self._title, self._total = title, total
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._every = 0.2 if self._live else every
        self._shown = time.monotonic()

    def show(self, step: int, *, rate: float, batch_size: int, loss: float, theta: float) -> None:
        """Step, images per second, time left, loss and mean target angle, if it is time."""
        now = time.monotonic()
        if now - self._shown < self._every and step < self._total:
            return
        self._shown = now
        left = (self._total - step) * batch_size / rate if rate > 0 else math.inf
        line = (
            f"{self._title}  {step}/{self._total}  {rate:,.0f} images/s  "
            f"{format_seconds(left)} left  loss {loss:.3f}  theta {theta:.1f} deg"
        )
        self._stream.write(f"\r{line}\033[K" if self._live else line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Ends the line."""
        if self._live:
            self._stream.write("\n")


def format_seconds(seconds: float) -> str:
    """A duration for people.

    >>> format_seconds(3725), format_seconds(59), format_seconds(math.inf)
    ('1:02:05', '0:59', '?')
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
