"""What a report says, in which order; the same for every output format."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.dotted_paths import flatten
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
from experiments.reporting.estimates import estimate
from experiments.reporting.grouping import Setting, group_settings, short_text, varying_keys
from experiments.reporting.metrics import describe_metric, metric_keys
from experiments.reporting.pictures import pictures
from experiments.reporting.sweep_directory import Point, Sweep
from experiments.reporting.tables import (
    angle_table,
    estimate_cell,
    metric_table,
    point_table,
    reason_table,
)


def compose(sweep: Sweep) -> tuple[str, list[Section]]:
    """Title and sections of the report; the same for every output format."""
    settings = group_settings(sweep)
    main_keys, other_keys = metric_keys(sweep.points)
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
    for key in varying_keys(point.overrides for point in sweep.points):
        values = list(
            dict.fromkeys(short_text(p.overrides[key]) for p in sweep.points if key in p.overrides)
        )
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        swept.append(f"`{key}` ({', '.join(values[:8])}{more})")
    config = flatten(sweep.config)
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
    cell = estimate_cell(metric, top)
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
    table = reason_table(sweep.points)
    if not table.rows:
        return []
    text = "These points count in no mean above; the sweep's command runs unfinished ones again."
    return [Text(text=text), table]


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
    compiled = Counter(c for p in points if (c := p.train_step_compilations) is not None)
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
