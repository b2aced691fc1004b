"""What a report is made of, whatever the format it is written in."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from arcface_jax.analysis import figures


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One table cell: text, its interval, whether it is the column's best, and its sort key."""

    text: str
    spread: str = ""
    best: bool = False
    order: float | None = None
    color: str = ""
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; headings carry a tooltip."""

    headings: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]

    def is_text(self, column: int) -> bool:
        """Whether no cell of the column is a number."""
        return all(row[column].order is None for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; `code` stands in backquotes, **strong** between stars."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Code:
    """A block of literal text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Large numbers at the head of the page: (value, what it is)."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with the stem of its file and its caption."""

    stem: str
    caption: str
    figure: Figure

    @functools.cached_property
    def svg(self) -> str:
        """The figure as an SVG document."""
        return figures.svg(self.figure)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence["Block"]


Block = Text | Code | Facts | Table | Picture | Fold


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: Sequence[Block]
