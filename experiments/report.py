"""Writes the report of a sweep, finished or not, from the files the sweep left behind.

Command   python -m experiments.report --workdir=DIR
Reads     DIR/sweep.json and DIR/points/*/ (config, run, metrics, angles, result or failure)
Writes    DIR/report/report.html  one self-contained page: nothing is fetched when it is opened
          DIR/report/report.md    the same content for a repository, figures linked
          DIR/report/results.csv  one row a point, full precision
          DIR/report/figures/     every figure as PNG and SVG

Points that differ in nothing but the seed form one setting. A setting with two or more finished
points shows mean +- 95 % Student t interval over its seeds; a setting with one shows that point's
bootstrap interval over the identities. Points that diverged, failed or have not finished are
listed with their reason and count in no mean.

Exit code 0: written; 1: a file of the sweep is damaged (its name is printed); 2: wrong usage, no
sweep in DIR, or DIR/report cannot be written.
"""

from pathlib import Path

from arcface_jax.analysis import figures
from experiments import command_line
from experiments.reporting.blocks import Picture
from experiments.reporting.composition import compose
from experiments.reporting.grouping import group_settings as group_settings
from experiments.reporting.html_page import html_page
from experiments.reporting.markdown_page import markdown_page
from experiments.reporting.pictures import FIGURES
from experiments.reporting.pictures import pictures as pictures
from experiments.reporting.results_csv import results_csv
from experiments.reporting.sweep_directory import SweepError as SweepError
from experiments.reporting.sweep_directory import read_sweep as read_sweep


def write_report(workdir: str | Path) -> Path:
    """Writes ``workdir/report`` and returns the path of its HTML page.

    Args:
      workdir: the directory given to ``experiments.sweep``; its points may be unfinished.

    Raises:
      FileNotFoundError: no sweep there.
      SweepError: a file of the sweep is damaged (it is named).
      OSError: the report cannot be written.
    """
    sweep = read_sweep(workdir)
    title, sections = compose(sweep)
    folder = Path(workdir) / "report"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in FIGURES:  # a figure that this sweep no longer has must not stay behind
        for suffix in (".png", ".svg"):
            (folder / "figures" / f"{name}{suffix}").unlink(missing_ok=True)
    for block in (block for section in sections for block in section.blocks):
        if isinstance(block, Picture):
            stem = folder / "figures" / block.stem
            stem.with_suffix(".png").write_bytes(figures.png(block.figure))
            stem.with_suffix(".svg").write_text(block.svg, encoding="utf-8")
    (folder / "results.csv").write_text(results_csv(sweep), encoding="utf-8")
    (folder / "report.md").write_text(markdown_page(title, sections), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(html_page(title, sections), encoding="utf-8")
    return page


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_arguments(argv)
    command_line.refuse_flags("config", "data_dir", "manual_dir")
    try:
        page = write_report(command_line.named_workdir())
    except SweepError as error:
        command_line.fail(error, code=1)
    print(page)


if __name__ == "__main__":
    command_line.run(main)
