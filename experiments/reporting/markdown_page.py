"""The report as a Markdown page."""

import html
from collections.abc import Sequence

from experiments.reporting.blocks import (
    Block,
    Cell,
    Code,
    Facts,
    Fold,
    Picture,
    Section,
    Table,
    Text,
)


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    """The report in GitHub's Markdown; figures are links into ``figures/``."""
    parts = [f"# {title}"]
    for section in sections:
        if not section.blocks:
            continue
        if section.heading:
            parts.append(f"## {section.heading}")
        parts += [_markdown_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: Block) -> str:
    match block:
        case Text(text=text):
            return text
        case Code(text=text):
            return f"```\n{text}\n```"
        case Facts(items=items):
            return " · ".join(f"**{value}** {name}" for value, name in items)
        case Picture(stem=stem, caption=caption):
            return f"![{caption}](figures/{stem}.png)\n\n*{caption}*"
        case Fold(summary=summary, blocks=blocks):
            inner = "\n\n".join(map(_markdown_block, blocks))
            return f"<details><summary>{summary}</summary>\n\n{inner}\n\n</details>"
        case Table(headings=headings, rows=rows):
            align = ["---" if block.is_text(k) else "---:" for k in range(len(headings))]
            lines = [[heading for heading, _ in headings], align]
            lines += [[_markdown_cell(cell) for cell in row] for row in rows]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = html.escape(cell.text, quote=False).replace("|", "\\|").replace("\n", " ")
    text = f"**{text}**" if cell.best else text
    return f"{text} {cell.spread}".strip()
