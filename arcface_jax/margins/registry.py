"""Every margin by name: what configs, the command line, the docs and the tests walk."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from arcface_jax.margins.rule import MarginRule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A constructor with what a reader wants to know of it; calling it constructs.

    Attributes:
      name: in configs and on the command line.
      constructor: a function or class that returns a margin.
      formula: of the target logit (and what else differs), as text.
      source: paper and equation.
      state: what the margin carries from step to step, or is empty.
    """

    name: str
    constructor: Callable[..., MarginRule]
    formula: str
    source: str
    state: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> MarginRule:
        """The margin with these hyper-parameters."""
        return self.constructor(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """The constructor's, for `inspect` and `help`."""
        return inspect.signature(self.constructor)

    @property
    def defaults(self) -> dict[str, Any]:
        """Hyper-parameters and their defaults."""
        return {name: p.default for name, p in self.__signature__.parameters.items()}


MARGINS: dict[str, Entry] = {}


def register_margin(
    name: str, *, formula: str, source: str, state: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Puts the decorated constructor into `MARGINS`; it is returned as it is.

    Args:
      name: in configs and on the command line.
      formula: of the target logit, as text.
      source: paper and equation.
      state: what the margin carries from step to step.

    Raises:
      ValueError: the name is taken by another constructor, or an argument has no default.

    >>> register_margin("cosface", formula="", source="")(lambda m=0.1: None)
    Traceback (most recent call last):
    ValueError: margin 'cosface' is registered already; take another name.
    """

    def register(constructor: Callable[..., Any]) -> Callable[..., Any]:
        before = MARGINS.get(name)
        if before is not None and before.constructor.__qualname__ != constructor.__qualname__:
            raise ValueError(f"margin {name!r} is registered already; take another name.")
        entry = Entry(
            name=name, constructor=constructor, formula=formula, source=source, state=state
        )
        bare = [key for key, value in entry.defaults.items() if value is inspect.Parameter.empty]
        if bare:
            raise ValueError(
                f"margin {name!r}: {', '.join(bare)} has no default; a config that names the "
                "margin alone must work."
            )
        MARGINS[name] = entry
        return constructor

    return register


def margin_table() -> str:
    """All registered margins as a Markdown table.

    >>> margin_table().splitlines()[0]
    '| name | target logit / s | defaults | state | source |'
    """
    lines = [
        "| name | target logit / s | defaults | state | source |",
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in MARGINS.values():
        defaults = ", ".join(f"{name}={value!r}" for name, value in entry.defaults.items())
        lines.append(
            f"| `{entry.name}` | {entry.formula} | {f'`{defaults}`' if defaults else ''} | "
            f"{entry.state} | {entry.source} |"
        )
    return "\n".join(lines) + "\n"
