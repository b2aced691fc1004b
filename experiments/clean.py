"""Finds mislabelled training images with the sub-centres of a finished point, and lists the rest.

Command   python -m experiments.clean --workdir=runs/noisy --point=subcenter_arcface
Reads     the point's config and checkpoint, and its training images
Options   --point=NAME             needed where the sweep has several points
          --import=MODULE          registers the point's margin, where that is one of your own
          --threshold_deg=75       images this far from their dominant centre, or farther, go
          --output=DIR             instead of the point's directory cleaned/
Writes    cleaned.csv              a row for each training image: kept or not, angle, reason
          summary.json             counts, statistics of the sub-centres, identities left empty
          angles.png, angles.svg   angles to the dominant centre, and the threshold

The rule of Deng et al., Sub-center ArcFace (ECCV 2020): of the K centres of each class the one that
most images are nearest to stays, and images beyond the threshold from it are dropped, whichever
centre they are nearest to. Then train from scratch with one centre per class on what is kept:
--config.data.keep=DIR/cleaned.csv --config.margin.name=arcface
"""

from pathlib import Path
from typing import Any

from absl import flags

import experiments.own_margins  # noqa: F401  # its flag
from experiments import command_line

_POINT = flags.DEFINE_string("point", None, "Which point of the sweep, by its directory's name.")
_THRESHOLD = flags.DEFINE_float(
    "threshold_deg",
    75.0,
    "The angle from which on images are dropped, in degrees; 70 to 80 work.",
    lower_bound=1.0,
    upper_bound=180.0,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where the list goes (default: the directory cleaned of the point)."
)


def clean(
    workdir: Path,
    *,
    point: str | None = None,
    threshold_deg: float = 75.0,
    output: Path | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Writes the cleaned list of a point; returns its path and what ``summary.json`` holds.

    Raises:
      ValueError: a point that is not finished or has one centre per class, or a threshold out of
        range.
      OSError: no such point, no checkpoint, or a directory that cannot be written.
    """
    from arcface_jax.analysis import drop_rule, figures, subcenter_statistics
    from experiments.cleaned_list import write_cleaned_list
    from experiments.files import write_json
    from experiments.finished_point import find_point, restore, saved_settings
    from experiments.images import load_images
    from experiments.point import embed_dataset
    from experiments.provenance import now, provenance

    directory, record = find_point(workdir, point)
    settings = saved_settings(record)
    if settings.margin.centers_per_class < 2:
        raise ValueError(
            f"point {record.name} has the margin {record.margin} with one centre per class, and "
            "the rule compares several; train with subcenter_arcface and a margin.k above 1."
        )
    output = command_line.writable("output", output or directory / "cleaned")
    train = load_images(settings.data, data_dir=data_dir, manual_dir=manual_dir).train
    program, state = restore(
        directory, settings, num_classes=train.num_classes, aligned=train.aligned
    )
    embeddings = embed_dataset(program, state, train, batch_size=settings.evaluation.batch_size)
    statistics = subcenter_statistics(embeddings, train.labels, program.centers(state))
    keep = drop_rule(statistics, threshold_deg=threshold_deg).keep
    on_dominant = statistics.on_dominant
    empty = sorted(set(train.identities) - {train.identities[k] for k in train.labels[keep]})
    summary = {
        "point": record.name,
        "threshold_deg": threshold_deg,
        "dataset": {"name": train.name, "images": len(train), "identities": train.num_classes},
        "kept": {
            "on_dominant": int((keep & on_dominant).sum()),
            "on_other": int((keep & ~on_dominant).sum()),
        },
        "dropped": {
            "on_dominant": int((~keep & on_dominant).sum()),
            "on_other": int((~keep & ~on_dominant).sum()),
        },
        "identities_without_images": empty,
        "statistics": statistics.summary(),
        **provenance(),
        "finished": now(),
    }
    path = output / "cleaned.csv"
    write_cleaned_list(path, train, statistics, keep, threshold_deg=threshold_deg)
    write_json(output / "summary.json", summary)
    counts = summary["statistics"]["histograms"]
    figure = figures.subcenter_histograms(
        figures.SubcenterHistograms(**counts),
        threshold_deg=threshold_deg,
        title=record.margin if record.name == "point" else record.name,
    )
    (output / "angles.png").write_bytes(figures.png(figure))
    (output / "angles.svg").write_text(figures.svg(figure), encoding="utf-8")
    return path, summary


def table(summary: dict[str, Any]) -> str:
    """Counts of the images, as the command prints them.

    >>> print(table({
    ...     "kept": {"on_dominant": 955, "on_other": 8},
    ...     "dropped": {"on_dominant": 5, "on_other": 32},
    ...     "dataset": {"identities": 100},
    ...     "identities_without_images": ["ann"],
    ... }))
    training images               all      kept   dropped
    on the dominant centre        960       955         5
    on another centre              40         8        32
    all                          1000       963        37  (3.70 %)
    1 of 100 identities has no image left.
    """
    kept, dropped = summary["kept"], summary["dropped"]
    rows = [
        (name, kept[key] + dropped[key], kept[key], dropped[key])
        for name, key in (
            ("on the dominant centre", "on_dominant"),
            ("on another centre", "on_other"),
        )
    ]
    total = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    lines = [f"{'training images':23}{'all':>10}{'kept':>10}{'dropped':>10}"]
    lines += ["{:23}{:10}{:10}{:10}".format(*row) for row in [*rows, ("all", *total)]]
    lines[-1] += f"  ({100 * total[2] / total[0]:.2f} %)"
    empty = len(summary["identities_without_images"])
    if empty:
        verb = "has" if empty == 1 else "have"
        lines.append(
            f"{empty} of {summary['dataset']['identities']} identities {verb} no image left."
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_arguments(argv)
    command_line.refuse_flags("config")
    path, summary = clean(
        command_line.named_workdir(),
        point=_POINT.value,
        threshold_deg=_THRESHOLD.value,
        output=Path(_OUTPUT.value) if _OUTPUT.value else None,
        data_dir=command_line.DATA_DIR.value,
        manual_dir=command_line.MANUAL_DIR.value,
    )
    print(table(summary))
    print(f"train on what is kept: --config.data.keep={path}")


if __name__ == "__main__":
    command_line.run(main, resumes=False)
