"""The tables of a report."""

import math
import statistics
from collections.abc import Mapping, Sequence

from arcface_jax.analysis import figures
from experiments.reporting.blocks import Cell, Table
from experiments.reporting.estimates import Estimate, estimate, seed_interval
from experiments.reporting.grouping import Setting, short_text, varying_keys
from experiments.reporting.metrics import Metric, describe_metric
from experiments.reporting.sweep_directory import Point, finite_number

ANGLES: Mapping[str, tuple[str, str]] = {
    "w_ec": ("W-EC", "class centre W to the mean embedding of its class"),
    "w_inter": ("W-Inter", "W to the nearest other W"),
    "intra_train": ("Intra train", "embedding to its class mean, training identities"),
    "inter_train": ("Inter train", "class mean to the nearest other, training identities"),
    "intra_test": ("Intra test", "as Intra, held-out identities"),
    "inter_test": ("Inter test", "as Inter, held-out identities"),
}


def metric_table(settings: Sequence[Setting], keys: Sequence[str]) -> Table:
    """One row a setting: value and 95 % interval of each metric, the best of a column marked."""
    estimates = {key: [estimate(setting, key) for setting in settings] for key in keys}
    columns = []
    for key in keys:
        metric, found = describe_metric(key), estimates[key]
        values = [e.value for e in found if e is not None]
        # Compared as printed: of two numbers that look alike neither is called the better.
        best = None
        if metric.better and len({metric.text(v) for v in values}) > 1:
            best = metric.text(metric.better * max(metric.better * v for v in values))
        columns.append([estimate_cell(metric, e, best=best) for e in found])
    headings = [("setting", "what differs between the settings"), ("points", "finished of all")]
    for key in keys:
        better = {1: " (higher is better)", -1: " (lower is better)", 0: ""}
        headings.append((describe_metric(key).heading, key + better[describe_metric(key).better]))
    rows = [
        [_setting_cell(setting), _count_cell(setting), *(column[k] for column in columns)]
        for k, setting in enumerate(settings)
    ]
    return Table(headings=headings, rows=rows)


def angle_table(settings: Sequence[Setting]) -> Table | None:
    """One row a setting, the statistics of the paper's Table 3 in degrees; None without any."""
    found = dict.fromkeys(key for s in settings for p in s.finished for key in p.angles)
    keys = [k for base in ANGLES for k in (base, f"{base}_min2") if k in found]
    if not keys:
        return None
    headings = [("setting", "what differs between the settings")]
    for key in keys:
        base = key.removesuffix("_min2")
        name, meaning = ANGLES[base]
        few = ("", "") if key == base else (" (≥ 2)", "; identities with at least two images")
        headings.append((name + few[0], meaning + few[1]))
    degrees = Metric(heading="", decimals=2)
    rows = []
    for setting in settings:
        row = [_setting_cell(setting)]
        for key in keys:
            values = [p.angles.get(key) for p in setting.finished]
            values = [v for v in values if v is not None and math.isfinite(v)]
            if not values:
                row.append(Cell(text="–"))
                continue
            mean = statistics.fmean(values)
            spread = f"± {degrees.text(seed_interval(values)[1] - mean)}" if len(values) > 1 else ""
            row.append(Cell(text=degrees.text(mean), spread=spread, order=mean))
        rows.append(row)
    return Table(headings=headings, rows=rows)


def point_table(points: Sequence[Point]) -> Table:
    """One row a point: status, what the run cost, and the config fields that differ."""
    fields = varying_keys(point.config for point in points)
    headings = [("point", "directory below points/"), ("status", "")]
    headings += [
        ("final loss", "training loss of the last step"),
        ("images/s", "training throughput"),
        ("seconds", "wall time of the point"),
        ("compilations", "of the train step"),
    ]
    headings += [(field, "config field") for field in fields]
    rows = []
    for point in points:
        row = [_point_cell(point), _status_cell(point)]
        for value, form in (
            (point.result.get("final_loss"), ".4f"),
            (point.result.get("images_per_second"), ".0f"),
            (point.run.get("seconds"), ".1f"),
            (point.train_step_compilations, ".0f"),
        ):
            number = finite_number(value)
            row.append(
                Cell(text="–") if number is None else Cell(text=format(number, form), order=number)
            )
        for field in fields:
            text = short_text(point.config[field]) if field in point.config else "–"
            row.append(Cell(text=text, order=finite_number(point.config.get(field))))
        rows.append(row)
    return Table(headings=headings, rows=rows)


def estimate_cell(metric: Metric, found: Estimate | None, *, best: str | None = None) -> Cell:
    """An estimate as printed, with its interval; marked where its text is ``best``."""
    if found is None:
        return Cell(text="–")
    text = metric.text(found.value)
    spread = ""
    if found.over == "seeds":
        spread = f"± {metric.text(found.high - found.value)}"
    elif found.over == "identities":
        spread = f"[{metric.text(found.low)}, {metric.text(found.high)}]"
    return Cell(text=text, spread=spread, best=text == best, order=found.value)


def reason_table(points: Sequence[Point]) -> Table:
    """One row a point that has not finished, with the reason."""
    return Table(
        headings=(("point", ""), ("status", ""), ("reason", "")),
        rows=[
            [_point_cell(point), _status_cell(point), Cell(text=point.reason)]
            for point in points
            if point.status != "finished"
        ],
    )


def _setting_cell(setting: Setting) -> Cell:
    return Cell(text=setting.label, color=figures.margin_color(setting.margin))


def _point_cell(point: Point) -> Cell:
    return Cell(text=point.name, color=figures.margin_color(point.margin))


def _status_cell(point: Point) -> Cell:
    return Cell(text=point.status, state="" if point.status == "finished" else "warn")


def _count_cell(setting: Setting) -> Cell:
    done, all_points = len(setting.finished), len(setting.points)
    text = f"{done}" if done == all_points else f"{done} of {all_points}"
    return Cell(text=text, order=done, state="" if done == all_points else "warn")
