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

Exit code 0: written; 1: a file of the sweep is damaged (its name is printed); 2: wrong usage.
"""

import base64
import csv
import dataclasses
import functools
import html
import io
import json
import math
import re
import statistics
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from absl import app
from absl.flags import argparse_flags
from matplotlib.figure import Figure

from arcface_jax.analysis import figures

MAX_PANELS = 12
PHASES = ("start", "middle", "end")
FIGURES = ("theta_histograms", "pair_angles", "target_logits", "loss_curves", "target_angles")


class SweepError(ValueError):
    """A sweep that cannot be read; the message is one line and names the file."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        """Keeps the message on one line."""
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a sweep as found on disk.

    Attributes:
      name: directory name below ``points/``.
      overrides: dotted config path -> value, what distinguishes the point from the base config.
      config: the resolved config, flat, dotted path -> value.
      status: "finished", "diverged", "failed", "unfinished" or "not started".
      reason: why the status is not "finished"; empty otherwise.
      metrics: metric -> value, as fractions.
      intervals: metric -> (low, high), bootstrap over the identities.
      angles: name -> degrees, None where the loss has no class centres.
      target: (theta_deg, target cosine) of the point's margin, or None.
      history: metrics.jsonl by column, float[steps] each, NaN where a row lacks the key.
      histograms: arrays of angles.npz, or empty.
      run: run.json, or empty.
      result: result.json, or empty.
    """

    name: str
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    status: str
    reason: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    angles: Mapping[str, float | None]
    target: tuple[np.ndarray, np.ndarray] | None
    history: Mapping[str, np.ndarray]
    histograms: Mapping[str, np.ndarray]
    run: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def margin(self) -> str:
        """Name of the point's margin."""
        return str(self.config.get("margin.name", self.overrides.get("margin.name", "margin")))

    @property
    def seed(self) -> Any:
        """Seed of the point, None if the config has none."""
        return self.overrides.get("seed", self.config.get("seed"))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as found on disk: what ``sweep.json`` says, and its points in their order."""

    name: str
    config: Mapping[str, Any]
    info: Mapping[str, Any]
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The points that differ in nothing but the seed, and the label that tells them apart."""

    label: str
    margin_label: str
    points: tuple[Point, ...]

    @property
    def finished(self) -> tuple[Point, ...]:
        """The points that count in the means."""
        return tuple(point for point in self.points if point.status == "finished")

    @property
    def margin(self) -> str:
        """Name of the setting's margin."""
        return self.points[0].margin


def read_sweep(workdir: str | Path) -> Sweep:
    """The sweep in ``workdir``, finished or not.

    Args:
      workdir: the directory given to ``experiments.sweep``.

    Raises:
      SweepError: no such directory, no sweep in it, or a damaged file (named).
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise SweepError(
            f"{workdir}: no such directory; --workdir is the one given to experiments.sweep.",
            exit_code=2,
        )
    path = workdir / "sweep.json"
    if not path.is_file():
        raise SweepError(
            f"{workdir} is no sweep: it has no sweep.json; --workdir is the directory given to "
            "experiments.sweep.",
            exit_code=2,
        )
    info = _read_object(path)
    rows = _get(path, info, "points", list)
    base = _get(path, info, "config", dict)
    points = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise SweepError(f'{path}: every entry of "points" needs a "name", got {row!r:.80}.')
        points.append(_read_point(workdir / "points" / row["name"], row, base))
    return Sweep(name=workdir.resolve().name, config=base, info=info, points=tuple(points))


def _read_point(folder: Path, row: Mapping[str, Any], base: Mapping[str, Any]) -> Point:
    optional = {
        name: _read_object(folder / f"{name}.json") if (folder / f"{name}.json").is_file() else {}
        for name in ("config", "run", "result", "failed")
    }
    overrides = row.get("overrides") or {}
    history = _read_history(folder / "metrics.jsonl")
    result_path, result = folder / "result.json", optional["result"]
    if result_path.is_file() and result.get("status") not in ("finished", "diverged"):
        raise SweepError(
            f'{result_path}: "status" must be "finished" or "diverged", got '
            f"{result.get('status')!r}; delete the file and run the sweep again to redo the point."
        )
    status, reason = _status(folder, optional, history)
    target = result.get("target")
    try:
        curve = (
            (np.asarray(target["theta_deg"], float), np.asarray(target["logit"], float))
            if target
            else None
        )
        intervals = {
            key: (float(low), float(high))
            for key, (low, high) in (result.get("intervals") or {}).items()
        }
        metrics = _numbers(result.get("metrics") or {})
        angles = {
            key: None if value is None else float(value)
            for key, value in (result.get("angles") or {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SweepError(
            f"{result_path}: a value is missing or of the wrong kind "
            f"({type(error).__name__}: {error})."
        ) from error
    return Point(
        name=row["name"],
        overrides=overrides,
        config=_flat(optional["config"] or base) | ({} if optional["config"] else overrides),
        status=status,
        reason=reason,
        metrics=metrics,
        intervals=intervals,
        angles=angles,
        target=curve,
        history=history,
        histograms=_read_histograms(folder / "angles.npz"),
        run=optional["run"],
        result=result,
    )


def _status(
    folder: Path, files: Mapping[str, Mapping[str, Any]], history: Mapping[str, np.ndarray]
) -> tuple[str, str]:
    steps = history.get("step", np.zeros(0))
    reached = f"at step {steps[-1]:.0f}" if steps.size else "before the first step was written"
    result, failed = files["result"], files["failed"]
    if result.get("status") == "finished":
        return "finished", ""
    if result:
        said = result.get("reason") or result.get("error")
        return "diverged", str(said or f"the loss stopped being finite {reached}")
    if failed:
        lines = str(failed.get("error", "")).strip().splitlines() or ["no message"]
        # The last line of a traceback is the error itself.
        return "failed", lines[-1] if lines[0].startswith("Traceback") else lines[0]
    if folder.is_dir():
        return "unfinished", f"running or interrupted {reached}"
    return "not started", "no directory yet"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SweepError(
            f"{path}: cannot be read as JSON ({error}); delete the file and run the sweep again."
        ) from error
    if not isinstance(value, dict):
        raise SweepError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value


def _get(path: Path, values: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(values.get(key), kind):
        raise SweepError(
            f'{path}: "{key}" must be a {kind.__name__}, got {type(values.get(key)).__name__}.'
        )
    return values[key]


def _read_history(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for k, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(_numbers(json.loads(line)))
        except (AttributeError, ValueError) as error:
            if k == len(lines) - 1:  # a running sweep is still writing this line
                break
            raise SweepError(f"{path}, line {k + 1}: not a JSON object ({error}).") from error
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: np.array([row.get(key, math.nan) for row in rows]) for key in keys}


def _read_histograms(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SweepError(f"{path}: cannot be read as an npz file ({error}).") from error
    bins = found["edges"].size - 1 if "edges" in found else -1
    wrong = [k for k, v in found.items() if k not in ("edges", "steps") and v.shape != (bins,)]
    if bins < 1 or wrong:
        raise SweepError(f'{path}: "edges" is missing or does not fit {", ".join(wrong) or "it"}.')
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries; JSON's null is a number that could not be had."""
    return {
        key: math.nan if value is None else float(value)
        for key, value in values.items()
        if value is None or isinstance(value, int | float)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, and what the interval is over ("seeds", "identities", "")."""

    value: float
    low: float
    high: float
    over: str


def student_t_quantile(freedom: int, *, confidence: float = 0.95) -> float:
    """Two-sided quantile t of Student's distribution: P(-t < T < t) = ``confidence``.

    With T = sqrt(k) tan(phi) the density of phi is proportional to cos(phi)^(k-1).

    >>> f"{student_t_quantile(1):.3f} {student_t_quantile(2):.3f}"
    '12.706 4.303'
    """
    if freedom < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(f"need freedom >= 1 and 0 < confidence < 1, got {freedom}, {confidence}.")
    phi = np.linspace(0.0, np.pi / 2, 200_001)
    density = np.cos(phi) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(confidence, mass / mass[-1], phi)))


def seed_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % Student t interval of the mean of two or more independent values.

    >>> seed_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = student_t_quantile(len(values) - 1) * error
    return mean - half, mean + half


def estimate(setting: Setting, metric: str) -> Estimate | None:
    """A setting's metric over its finished points, None where no point has it."""
    having = [p for p in setting.finished if math.isfinite(p.metrics.get(metric, math.nan))]
    if not having:
        return None
    values = [point.metrics[metric] for point in having]
    if len(values) > 1:
        low, high = seed_interval(values)
        return Estimate(value=statistics.fmean(values), low=low, high=high, over="seeds")
    low, high = having[0].intervals.get(metric, (math.nan, math.nan))
    over = "identities" if math.isfinite(low) and math.isfinite(high) else ""
    return Estimate(value=values[0], low=low, high=high, over=over)


def group_settings(sweep: Sweep) -> list[Setting]:
    """The sweep's settings in the order in which their first points stand."""
    groups: dict[str, list[Point]] = {}
    for point in sweep.points:
        rest = {key: value for key, value in point.overrides.items() if key != "seed"}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(point)
    varying = [key for key in _varying(p.overrides for p in sweep.points) if key != "seed"]
    varying.sort(key=lambda key: not key.startswith("margin."))
    settings = [
        Setting(
            label=_label(points[0], varying),
            margin_label=_label(points[0], [k for k in varying if k.startswith("margin.")]),
            points=tuple(points),
        )
        for points in groups.values()
    ]
    repeated = {name for name, n in Counter(s.label for s in settings).items() if n > 1}
    return [
        dataclasses.replace(s, label=f"{s.label} ({s.points[0].name})")
        if s.label in repeated
        else s
        for s in settings
    ]


def _varying(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys that are absent from a table or whose value differs between two, in order."""
    tables = list(tables)
    keys = dict.fromkeys(key for table in tables for key in table)
    return [
        key
        for key in keys
        if len({json.dumps(table.get(key, "absent"), sort_keys=True) for table in tables}) > 1
    ]


def _label(point: Point, varying: Sequence[str]) -> str:
    last = Counter(key.rsplit(".", 1)[-1] for key in varying)
    parts = [point.margin]
    for key in varying:
        if key == "margin.name" or key not in point.overrides:
            continue
        name, value = key.rsplit(".", 1)[-1], _short(point.overrides[key])
        if name == "name":
            parts.append(value)
        elif key == "scale":
            parts.append(f"s={value}")
        else:
            parts.append(f"{name if last[name] == 1 else key}={value}")
    return " ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "none"
    if isinstance(value, int | float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is shown: column heading, factor, decimals, and which direction is better."""

    heading: str
    factor: float = 1.0
    decimals: int = 4
    better: int = 0

    def text(self, value: float | None) -> str:
        """The value in the metric's unit, a dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{value * self.factor:.{self.decimals}f}"


METRICS: Mapping[str, Metric] = {
    "eer": Metric(heading="EER %", factor=100.0, decimals=2, better=-1),
    "auc": Metric(heading="AUC", decimals=4, better=1),
    "rank1": Metric(heading="rank-1 %", factor=100.0, decimals=2, better=1),
    "pair_accuracy": Metric(heading="pair accuracy %", factor=100.0, decimals=2, better=1),
    "pair_accuracy_std": Metric(heading="pair accuracy, fold std %", factor=100.0, decimals=2),
}

ANGLES: Mapping[str, tuple[str, str]] = {
    "w_ec": ("W-EC", "class centre W to the mean embedding of its class"),
    "w_inter": ("W-Inter", "W to the nearest other W"),
    "intra_train": ("Intra train", "embedding to its class mean, training identities"),
    "inter_train": ("Inter train", "class mean to the nearest other, training identities"),
    "intra_test": ("Intra test", "as Intra, held-out identities"),
    "inter_test": ("Inter test", "as Inter, held-out identities"),
}


def describe_metric(key: str) -> Metric:
    """How the metric of this key is shown; unknown keys are shown as they are.

    >>> describe_metric("tar_at_far_1e-3").heading
    'TAR % @ FAR 1e-3'
    """
    capped = re.fullmatch(r"(.+)_max(\d+)", key)
    if capped:
        base = describe_metric(capped[1])
        return dataclasses.replace(base, heading=f"{base.heading} (≤ {capped[2]} images/id)")
    if key.startswith("tar_at_far_"):
        far = key.removeprefix("tar_at_far_")
        return Metric(heading=f"TAR % @ FAR {far}", factor=100.0, decimals=2, better=1)
    return METRICS.get(key, Metric(heading=key))


def _metric_keys(points: Iterable[Point]) -> tuple[list[str], list[str]]:
    """The metrics of the main table and the others, in a fixed order."""
    found = dict.fromkeys(key for point in points for key in point.metrics)
    known = [key for key in found if key.startswith("tar_at_far_") and "_max" not in key]
    known += [key for key in METRICS if key in found and not key.endswith("_std")]
    return known, [key for key in found if key not in known]


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
        columns.append([_estimate_cell(metric, e, best=best) for e in found])
    headings = [("setting", "what differs between the settings"), ("points", "finished of all")]
    for key in keys:
        better = {1: " (higher is better)", -1: " (lower is better)", 0: ""}
        headings.append((describe_metric(key).heading, key + better[describe_metric(key).better]))
    rows = [
        [_setting_cell(setting), _count_cell(setting), *(column[k] for column in columns)]
        for k, setting in enumerate(settings)
    ]
    return Table(headings=headings, rows=rows)


def _estimate_cell(metric: Metric, found: Estimate | None, *, best: str | None) -> Cell:
    if found is None:
        return Cell(text="–")
    text = metric.text(found.value)
    spread = ""
    if found.over == "seeds":
        spread = f"± {metric.text(found.high - found.value)}"
    elif found.over == "identities":
        spread = f"[{metric.text(found.low)}, {metric.text(found.high)}]"
    return Cell(text=text, spread=spread, best=text == best, order=found.value)


def _setting_cell(setting: Setting) -> Cell:
    return Cell(text=setting.label, color=figures.margin_color(setting.margin))


def _count_cell(setting: Setting) -> Cell:
    done, all_points = len(setting.finished), len(setting.points)
    text = f"{done}" if done == all_points else f"{done} of {all_points}"
    return Cell(text=text, order=done, state="" if done == all_points else "warn")


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
    fields = _varying(point.config for point in points)
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
        good = point.status == "finished"
        row = [
            Cell(text=point.name, color=figures.margin_color(point.margin)),
            Cell(text=point.status, state="" if good else "warn"),
        ]
        for value, form in (
            (point.result.get("final_loss"), ".4f"),
            (point.result.get("images_per_second"), ".0f"),
            (point.run.get("seconds"), ".1f"),
            (_compilations(point), ".0f"),
        ):
            number = _number(value)
            row.append(
                Cell(text="–") if number is None else Cell(text=format(number, form), order=number)
            )
        for field in fields:
            text = _short(point.config[field]) if field in point.config else "–"
            row.append(Cell(text=text, order=_number(point.config.get(field))))
        rows.append(row)
    return Table(headings=headings, rows=rows)


def _compilations(point: Point) -> float | None:
    found = point.result.get("compilations") or point.run.get("compilations")
    return _number(found.get("train_step") if isinstance(found, dict) else found)


def _number(value: Any) -> float | None:
    """The value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def pictures(settings: Sequence[Setting]) -> dict[str, Picture | str]:
    """File stem -> picture, or the sentence that says why there is none."""
    found: dict[str, Picture | str] = {}
    angles = _representatives(settings, lambda p: _theta_histograms(p) is not None)
    note = _panel_note(angles)
    shown = angles[:MAX_PANELS]
    found["theta_histograms"] = (
        Picture(
            stem="theta_histograms",
            caption=(
                "Angle of training embeddings to their own class centre, θ_y, and to the nearest "
                "wrong one, at the start, the middle and the end of training. Each panel is scaled "
                f"to its own peak.{note}"
            ),
            figure=figures.theta_histogram_grid(
                {s.label: h for s, p in shown if (h := _theta_histograms(p)) is not None}
            ),
        )
        if shown
        else "No point has written its angle histograms yet."
    )
    pairs = _representatives(settings, lambda p: _pair_histograms(p) is not None)
    found["pair_angles"] = (
        Picture(
            stem="pair_angles",
            caption=(
                "Angle between two embeddings of identities never seen in training. The less the "
                f"two histograms overlap, the better the verification.{_panel_note(pairs)}"
            ),
            figure=figures.pair_angle_histograms(
                {
                    _pair_title(s, p): h
                    for s, p in pairs[:MAX_PANELS]
                    if (h := _pair_histograms(p)) is not None
                }
            ),
        )
        if pairs
        else "No point has written held-out pair angles yet."
    )
    curves, curve_margins = _target_curves(settings)
    found["target_logits"] = (
        Picture(
            stem="target_logits",
            caption=(
                "What each margin makes of the target cosine, without the scale s; one curve per "
                "distinct margin."
            ),
            figure=figures.target_logit_curves(curves, margins=curve_margins),
        )
        if curves
        else "No finished point has a target-logit curve yet."
    )
    plots: dict[str, tuple[str, Callable[..., Figure], str]] = {
        "loss": (
            "loss_curves",
            figures.loss_curves,
            "Training loss; its level depends on margin and scale, so compare shapes, not heights. "
            "A cross marks where a loss stopped being finite.",
        ),
        "theta_target_deg": (
            "target_angles",
            figures.target_angle_curves,
            "Mean angle of the training batch to its own class centres: the same unit for all.",
        ),
    }
    for column, (stem, draw, caption) in plots.items():
        having = _representatives(settings, lambda p, c=column: _has_column(p, c))
        found[stem] = (
            Picture(
                stem=stem,
                caption=caption + _panel_note(having),
                figure=draw(
                    {
                        s.label: (p.history["step"], p.history[column])
                        for s, p in having[:MAX_PANELS]
                    },
                    margins={s.label: s.margin for s, _ in having},
                ),
            )
            if having
            else f"No point has logged {column} yet."
        )
    return found


def _representatives(
    settings: Sequence[Setting], usable: Callable[[Point], bool]
) -> list[tuple[Setting, Point]]:
    """One point a setting: the first finished one that has the data, else the first that has."""
    chosen = []
    for setting in settings:
        candidates = [p for p in (*setting.finished, *setting.points) if usable(p)]
        if candidates:
            chosen.append((setting, candidates[0]))
    return chosen


def _panel_note(chosen: Sequence[tuple[Setting, Point]]) -> str:
    seeds = sorted({str(point.seed) for _, point in chosen[:MAX_PANELS]})
    repeated = any(len(setting.points) > 1 for setting, _ in chosen)
    note = f" One point a setting (seed {', '.join(seeds)})." if repeated else ""
    if len(chosen) > MAX_PANELS:
        note += f" The first {MAX_PANELS} of {len(chosen)} settings in the sweep's order."
    return note


def _has_column(point: Point, column: str) -> bool:
    values = point.history.get(column)
    return "step" in point.history and values is not None and bool(np.isfinite(values).any())


def _theta_histograms(point: Point) -> figures.ThetaHistograms | None:
    arrays = point.histograms
    phases = [phase for phase in PHASES if f"theta_y_{phase}" in arrays]
    if not phases:
        return None
    wrong = {p: arrays[k] for p in phases if (k := f"nearest_wrong_{p}") in arrays}
    return figures.ThetaHistograms(
        edges_deg=arrays["edges"],
        target={phase: arrays[f"theta_y_{phase}"] for phase in phases},
        nearest_wrong=wrong,
    )


def _pair_histograms(point: Point) -> figures.PairHistograms | None:
    arrays = point.histograms
    if "pairs_genuine" not in arrays or "pairs_impostor" not in arrays:
        return None
    if not (arrays["pairs_genuine"].any() and arrays["pairs_impostor"].any()):
        return None
    return figures.PairHistograms(
        edges_deg=arrays["edges"],
        genuine=arrays["pairs_genuine"],
        impostor=arrays["pairs_impostor"],
    )


def _pair_title(setting: Setting, point: Point) -> str:
    rate = point.metrics.get("eer", math.nan)
    return setting.label + (f" · EER {100 * rate:.2f} %" if math.isfinite(rate) else "")


def _target_curves(
    settings: Sequence[Setting],
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, str]]:
    """The distinct target-logit curves: settings that differ in s or data share one."""
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    margins: dict[str, str] = {}
    seen: set[bytes] = set()
    for setting in settings:
        curve = next((p.target for p in setting.points if p.target is not None), None)
        if curve is None or len(curves) == MAX_PANELS:
            continue
        key = setting.margin.encode() + curve[1].tobytes()
        if key not in seen:
            seen.add(key)
            free = setting.margin_label not in curves
            label = setting.margin_label if free else setting.label
            curves[label], margins[label] = curve, setting.margin
    return curves, margins


def compose(sweep: Sweep) -> tuple[str, list[Section]]:
    """Title and sections of the report; the same for every output format."""
    settings = group_settings(sweep)
    main_keys, other_keys = _metric_keys(sweep.points)
    drawn = pictures(settings)
    title = f"Sweep report: {sweep.name}"
    return title, [
        Section(heading="", blocks=_opening(sweep, settings, main_keys)),
        Section(heading="Results", blocks=_results(settings, main_keys, other_keys)),
        Section(heading="Points without a result", blocks=_without_result(sweep)),
        Section(heading="Angle statistics", blocks=_angles(settings)),
        Section(heading="Angle distributions", blocks=[_block(drawn["theta_histograms"])]),
        Section(heading="Held-out pair angles", blocks=[_block(drawn["pair_angles"])]),
        Section(heading="Target-logit curves", blocks=[_block(drawn["target_logits"])]),
        Section(
            heading="Training curves",
            blocks=[_block(drawn["loss_curves"]), _block(drawn["target_angles"])],
        ),
        Section(heading="How it was made", blocks=_provenance(sweep)),
    ]


def _block(found: Picture | str) -> Block:
    return found if isinstance(found, Picture) else Text(text=found)


def _opening(sweep: Sweep, settings: Sequence[Setting], keys: Sequence[str]) -> list[Block]:
    swept = []
    for key in _varying(point.overrides for point in sweep.points):
        values = list(
            dict.fromkeys(_short(p.overrides[key]) for p in sweep.points if key in p.overrides)
        )
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        swept.append(f"`{key}` ({', '.join(values[:8])}{more})")
    config = _flat(sweep.config)
    fixed = [
        f"{name} `{config[key]}`"
        for key, name in (("data.name", "data"), ("model.name", "model"), ("steps", "steps"))
        if key in config and f"`{key}`" not in " ".join(swept)
    ]
    counts = Counter(point.status for point in sweep.points)
    seconds = sum(float(point.run.get("seconds") or 0.0) for point in sweep.points)
    facts = [
        (str(len(settings)), _plural(len(settings), "setting")),
        (f"{counts['finished']} / {len(sweep.points)}", "points finished"),
    ]
    facts += [(str(n), status) for status, n in counts.items() if status != "finished"]
    if seconds:
        facts.append((_duration(seconds), "of runs in all"))
    text = (f"Swept: {', '.join(swept)}." if swept else "A single setting; nothing is swept.") + (
        f" Fixed: {', '.join(fixed)}." if fixed else ""
    )
    if not sweep.points:
        text = "The sweep has no point."
    blocks: list[Block] = [Text(text=text), Facts(items=facts)]
    best = _best_sentence(settings, keys)
    if best:
        blocks.append(Text(text=best))
    return blocks


def _best_sentence(settings: Sequence[Setting], keys: Sequence[str]) -> str:
    """The leading setting of the headline metric, and how many others it cannot be told from."""
    preferred = ("tar_at_far_1e-3", "tar_at_far_1e-2", "rank1", "pair_accuracy", *keys)
    key = next((k for k in preferred if k in keys and describe_metric(k).better), None)
    if key is None:
        return ""
    metric = describe_metric(key)
    found = [(s, e) for s in settings if (e := estimate(s, key)) is not None]
    if len(found) < 2:
        return ""
    leader, top = max(found, key=lambda pair: metric.better * pair[1].value)
    cell = _estimate_cell(metric, top, best=None)
    sentence = f"Best {metric.heading}: **{leader.label}**, {cell.text} {cell.spread}".rstrip()
    others = [e for s, e in found if s is not leader]
    # Intervals over seeds and over identities measure different chances.
    if not top.over or any(e.over != top.over for e in others):
        return sentence + "."
    overlapping = sum(e.low <= top.high and top.low <= e.high for e in others)
    return (
        f"{sentence}; the 95 % intervals of {overlapping} of the {len(others)} other "
        f"{_plural(len(others), 'setting')} overlap its own."
    )


def _results(
    settings: Sequence[Setting], main_keys: Sequence[str], other_keys: Sequence[str]
) -> list[Block]:
    if not main_keys and not other_keys:
        return [Text(text="No point has finished yet, so there is no metric to show.")]
    many = any(len(setting.finished) > 1 for setting in settings)
    single = any(len(setting.finished) == 1 for setting in settings)
    notes = []
    if many:
        notes.append("± is the 95 % Student t interval of the mean over seeds.")
    if single:
        notes.append(
            "[low, high] is the 95 % bootstrap interval over the test identities of a single point"
            " (the chance in its training is not covered)."
        )
    note = (
        f"One row a setting, seeds merged. {' '.join(notes)} The best value of a column is marked."
        " Test identities are never trained on."
    )
    blocks: list[Block] = [
        Text(text=note),
        metric_table(settings, main_keys or other_keys),
    ]
    if main_keys and other_keys:
        blocks.append(Fold(summary="More metrics", blocks=[metric_table(settings, other_keys)]))
    return blocks


def _without_result(sweep: Sweep) -> list[Block]:
    rows = [
        [
            Cell(text=point.name, color=figures.margin_color(point.margin)),
            Cell(text=point.status, state="warn"),
            Cell(text=point.reason),
        ]
        for point in sweep.points
        if point.status != "finished"
    ]
    if not rows:
        return []
    text = "These points count in no mean above; the sweep's command runs unfinished ones again."
    headings = (("point", ""), ("status", ""), ("reason", ""))
    return [Text(text=text), Table(headings=headings, rows=rows)]


def _angles(settings: Sequence[Setting]) -> list[Block]:
    table = angle_table(settings)
    if table is None:
        return [Text(text="No finished point has angle statistics yet.")]
    text = (
        "Degrees, the statistics of Table 3 of the ArcFace paper. W-EC: a class centre W to the "
        "mean embedding of its class. W-Inter: W to the nearest other W. Intra: an embedding to "
        "its class mean. Inter: a class mean to the nearest other. Train: training identities; "
        "test: held-out ones."
    )
    if any("(≥ 2)" in heading for heading, _ in table.headings):
        text += " (≥ 2): only identities with at least two images."
    return [Text(text=text), table]


def _provenance(sweep: Sweep) -> list[Block]:
    info, points = sweep.info, sweep.points
    compiled = Counter(c for p in points if (c := _compilations(p)) is not None)
    facts = [
        ("git commit", _distinct("git_commit", info, points)),
        ("device", _distinct("device", info, points)),
        ("CPU cores", _distinct("cores", {}, points)),
        ("XLA flags", _distinct("xla_flags", info, points)),
        ("started", str(info.get("started") or "–")),
        (
            "last point finished",
            max((str(p.run.get("finished") or "") for p in points), default="") or "–",
        ),
        (
            "compilations of the train step",
            ", ".join(
                f"{n:g} in {count} {_plural(count, 'point')}"
                for n, count in sorted(compiled.items())
            )
            or "–",
        ),
        ("versions", _versions(info, points)),
    ]
    table = Table(
        headings=(("", ""), ("", "")),
        rows=[[Cell(text=name), Cell(text=value)] for name, value in facts],
    )
    every = point_table(points)
    blocks: list[Block] = [Code(text=str(info.get("command") or "command not recorded")), table]
    blocks.append(Text(text="Every point, with the config fields that differ between points:"))
    blocks.append(
        every if len(points) <= 24 else Fold(summary=f"{len(points)} points", blocks=[every])
    )
    blocks.append(
        Fold(
            summary="Full base config",
            blocks=[Code(text=json.dumps(sweep.config, indent=2, ensure_ascii=False))],
        )
    )
    return blocks


def _distinct(key: str, info: Mapping[str, Any], points: Sequence[Point]) -> str:
    """The value in force; every value where the points of one sweep do not agree."""
    values = [p.run[key] for p in points if p.run.get(key) not in (None, "")]
    found = Counter(map(str, values or [v for v in [info.get(key)] if v not in (None, "")]))
    if len(found) <= 1:
        return next(iter(found), "none")
    return ", ".join(f"{value} ({n} {_plural(n, 'point')})" for value, n in found.items())


def _versions(info: Mapping[str, Any], points: Sequence[Point]) -> str:
    tables = [p.run["versions"] for p in points if isinstance(p.run.get("versions"), dict)]
    tables = tables or [v for v in [info.get("versions")] if isinstance(v, dict)]
    names = dict.fromkeys(name for table in tables for name in table)
    parts = []
    for name in names:
        values = dict.fromkeys(str(table[name]) for table in tables if name in table)
        parts.append(f"{name} {' / '.join(values)}")
    return ", ".join(parts) or "–"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def markdown(title: str, sections: Sequence[Section]) -> str:
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
            align = ["---" if _is_text(rows, k) else "---:" for k in range(len(headings))]
            lines = [[heading for heading, _ in headings], align]
            lines += [[_markdown_cell(cell) for cell in row] for row in rows]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = html.escape(cell.text, quote=False).replace("|", "\\|").replace("\n", " ")
    text = f"**{text}**" if cell.best else text
    return f"{text} {cell.spread}".strip()


def _is_text(rows: Sequence[Sequence[Cell]], column: int) -> bool:
    cells = [row[column] for row in rows]
    return not any(cell.order is not None for cell in cells)


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
    numeric = [not _is_text(table.rows, k) for k in range(len(table.headings))]
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


def results_csv(sweep: Sweep) -> str:
    """One row a point, values as they were measured: fractions, degrees, seconds."""
    overrides = list(dict.fromkeys(key for p in sweep.points for key in p.overrides))
    metrics = [key for keys in _metric_keys(sweep.points) for key in keys]
    ranged = {key for p in sweep.points for key in p.intervals}
    angles = list(dict.fromkeys(key for p in sweep.points for key in p.angles))
    settings = {p.name: s.label for s in group_settings(sweep) for p in s.points}
    rows = []
    for index, point in enumerate(sweep.points):
        compiled = _compilations(point)
        row: dict[str, Any] = {
            "index": index,
            "name": point.name,
            "setting": settings[point.name],
            "status": point.status,
            "reason": point.reason,
        }
        row |= {key: point.overrides.get(key) for key in overrides}
        for key in metrics:
            row[key] = point.metrics.get(key)
            if key in ranged:
                low, high = point.intervals.get(key, (None, None))
                row |= {f"{key}_low": low, f"{key}_high": high}
        row |= {f"angle_{key}_deg": point.angles.get(key) for key in angles}
        row |= {
            "final_loss": point.result.get("final_loss"),
            "images_per_second": point.result.get("images_per_second"),
            "seconds": point.run.get("seconds"),
            "train_step_compilations": None if compiled is None else round(compiled),
        }
        rows.append(row)
    buffer = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["index", "name"]
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_report(workdir: str | Path) -> Path:
    """Writes ``workdir/report`` and returns the path of its HTML page.

    Args:
      workdir: the directory given to ``experiments.sweep``; its points may be unfinished.

    Raises:
      SweepError: no sweep there, or a damaged file (named).
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
    (folder / "report.md").write_text(markdown(title, sections), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(html_page(title, sections), encoding="utf-8")
    return page


class _Parser(argparse_flags.ArgumentParser):
    """A parser that reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"report: {message}; usage: {self.prog} --workdir=DIR\n")


def parse_flags(argv: Sequence[str]) -> Any:
    """The command line's arguments; wrong usage exits with 2 and one line."""
    parser = _Parser(prog="python -m experiments.report", description="Writes a sweep's report.")
    parser.add_argument(
        "--workdir", required=True, help="directory of the sweep, as given to experiments.sweep"
    )
    return parser.parse_args(argv[1:])


def main(arguments: Any) -> int:
    """Writes the report of ``arguments.workdir``; the process's exit code."""
    try:
        page = write_report(arguments.workdir)
    except SweepError as error:
        print(f"report: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"report: cannot write the report: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


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

if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
