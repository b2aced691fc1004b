"""The report as one HTML page that needs no other file."""

import base64
import html
import re
from collections.abc import Sequence

from arcface_jax.analysis import figures
from experiments.reporting.blocks import Block, Code, Facts, Fold, Picture, Section, Table, Text


def html_page(title: str, sections: Sequence[Section]) -> str:
    """The report as one HTML page that needs no other file and no network."""
    body = []
    for section in sections:
        if not section.blocks:
            continue
        inner = "\n".join(_html_block(block) for block in section.blocks)
        heading = f"<h2>{_escape(section.heading)}</h2>\n" if section.heading else ""
        body.append(f"<section>\n{heading}{inner}\n</section>")
    return _PAGE.format(
        title=_escape(title),
        body="\n".join(body),
        css=_CSS,
        script=_SCRIPT,
        # An empty icon keeps the browser from asking a server for one.
        icon="data:image/svg+xml;base64," + base64.b64encode(_ICON.encode()).decode(),
    )


def _html_block(block: Block) -> str:
    match block:
        case Text(text=text):
            return f"<p>{_inline(text)}</p>"
        case Code(text=text):
            return f"<pre>{_escape(text)}</pre>"
        case Facts(items=items):
            tiles = "".join(
                f"<div><b>{_escape(value)}</b><span>{_escape(name)}</span></div>"
                for value, name in items
            )
            return f'<div class="facts">{tiles}</div>'
        case Picture(stem=stem, caption=caption):
            drawing = _inline_svg(block.svg, stem=stem, label=caption)
            return f"<figure>{drawing}<figcaption>{_escape(caption)}</figcaption></figure>"
        case Fold(summary=summary, blocks=blocks):
            inner = "\n".join(map(_html_block, blocks))
            return f"<details><summary>{_escape(summary)}</summary>\n{inner}\n</details>"
        case Table():
            return _html_table(block)


def _html_table(table: Table) -> str:
    numeric = [not table.is_text(k) for k in range(len(table.headings))]
    head = ""
    if any(heading for heading, _ in table.headings):
        cells = "".join(
            f'<th scope="col" class="{"n" if n else "t"}" title="{_escape(tip)}">'
            f'<button type="button">{_escape(heading)}</button></th>'
            for (heading, tip), n in zip(table.headings, numeric, strict=True)
        )
        head = f"<thead><tr>{cells}</tr></thead>"
    rows = []
    for row in table.rows:
        cells = []
        for cell, n in zip(row, numeric, strict=True):
            marks = ("n" if n else "t", "best" * cell.best, "key" * bool(cell.color), cell.state)
            classes = " ".join(filter(None, marks))
            order = "" if cell.order is None else f' data-order="{cell.order!r}"'
            dot = (
                f'<i class="dot" style="background:{_themed(cell.color)}"></i>'
                if cell.color
                else ""
            )
            spread = f"<small>{_escape(cell.spread)}</small>" if cell.spread else ""
            cells.append(f'<td class="{classes}"{order}>{dot}{_escape(cell.text)}{spread}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(rows)
    kind = "" if head else ' class="pairs"'
    return f'<div class="scroll"><table{kind}>{head}<tbody>\n{body}\n</tbody></table></div>'


def _inline_svg(document: str, *, stem: str, label: str) -> str:
    """An SVG document as an element of the page, in the page's colours.

    Ids get the figure's stem before them: two figures of one page share glyph names.
    """
    drawing = document[document.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\s(?:xmlns(?::xlink)?|version)="[^"]*"', "", drawing)
    drawing = drawing.replace("xlink:href=", "href=")
    drawing = re.sub(r'\bid="', f'id="{stem}-', drawing)
    drawing = re.sub(r'href="#', f'href="#{stem}-', drawing)
    drawing = re.sub(r"url\(#", f"url(#{stem}-", drawing)
    drawing = _themed(drawing)
    return re.sub(
        r'<svg width="([\d.]+)pt" height="[\d.]+pt"',
        lambda size: (
            f'<svg role="img" aria-label="{_escape(label)}" '
            f'style="max-width:{float(size[1]) * 1.6:.0f}px"'
        ),
        drawing,
        count=1,
    )


def _themed(text: str) -> str:
    """The text with the figures' basic colours replaced by the page's, which know dark mode."""
    for color, variable in _THEME:
        text = text.replace(color, f"var(--{variable})")
    return text


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", _escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


_THEME = (
    (figures.INK, "ink"),
    (figures.RULE, "rule"),
    (figures.PAPER, "card"),
    (figures.OWN, "own"),
    (figures.OTHER, "other"),
)

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<path d="M1 14A13 13 0 0 1 14 1" fill="none" stroke="#0072b2" stroke-width="3"/></svg>'
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{icon}">
<style>{css}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""

_CSS = """
:root { --ink: #24292f; --soft: #59636e; --rule: #d8dee4; --page: #f6f8fa; --card: #ffffff;
  --best: #ddf4e4; --best-ink: #0a5c2b; --warn: #9a4b00; --own: #d55e00; --other: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9ba7b4; --rule: #323a45; --page: #0d1117; --card: #151b23;
    --best: #12351f; --best-ink: #7ee2a0; --warn: #f0a35e; --own: #f08030; --other: #45a5e6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 12px; }
h2 { font-size: 18px; margin: 0 0 10px; }
p { margin: 0 0 12px; max-width: 85ch; }
section { margin: 0 0 20px; padding: 20px 22px; background: var(--card);
  border: 1px solid var(--rule); border-radius: 10px; }
section:first-of-type { padding: 0; background: none; border: 0; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
code { padding: 1px 5px; border-radius: 4px; background: var(--page); border: 1px solid var(--rule);
  overflow-wrap: anywhere; }
pre { margin: 0 0 14px; padding: 10px 12px; border-radius: 6px; background: var(--page);
  border: 1px solid var(--rule); white-space: pre-wrap; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 0 0 14px; }
.facts div { padding: 8px 16px 9px; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; }
.facts b { display: block; font-size: 21px; line-height: 1.3; }
.facts span { color: var(--soft); font-size: 13px; }
.scroll { overflow: auto; max-height: 80vh; margin: 0 0 12px; border: 1px solid var(--rule);
  border-radius: 6px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 13.5px; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--rule); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
thead th { position: sticky; top: 0; z-index: 1; background: var(--page); vertical-align: bottom; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
th[aria-sort="ascending"] button::after { content: " ↑"; }
th[aria-sort="descending"] button::after { content: " ↓"; }
.t { text-align: left; }
.n { text-align: right; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.n small { display: block; color: var(--soft); font-size: 12px; line-height: 1.3; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--card); }
th:first-child { z-index: 2; background: var(--page); }
td.key { min-width: 190px; padding-left: 29px; font-weight: 500; }
.pairs td:first-child { width: 230px; color: var(--soft); }
td.best { background: var(--best); color: var(--best-ink); font-weight: 700; }
td.best small { color: inherit; font-weight: 400; }
td.warn { color: var(--warn); font-weight: 600; white-space: nowrap; }
.dot { float: left; width: 10px; height: 10px; margin: 5px 0 0 -19px; border-radius: 50%; }
figure { margin: 0 0 18px; }
figure:last-child { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { margin: 8px 0 0; max-width: 85ch; color: var(--soft); font-size: 13.5px; }
details { margin: 0 0 12px; }
summary { cursor: pointer; padding: 4px 0; font-weight: 600; }
@media print { body { background: #fff; } .scroll { max-height: none; overflow: visible; }
  section { break-inside: avoid; } }
"""

_SCRIPT = """
"use strict";
for (const head of document.querySelectorAll("thead th")) {
  head.firstElementChild.addEventListener("click", () => {
    const table = head.closest("table"), body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const column = head.cellIndex;
    const sign = down ? -1 : 1, numeric = head.classList.contains("n");
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [a.cells[column], b.cells[column]];
      if (!numeric) return sign * x.textContent.localeCompare(y.textContent);
      const [p, q] = [Number(x.dataset.order ?? NaN), Number(y.dataset.order ?? NaN)];
      if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
      return sign * (p - q);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
"""
