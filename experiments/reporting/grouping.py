"""Settings: the points of a sweep that differ in nothing but the seed."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.sweep_directory import Point, Sweep


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


def group_settings(sweep: Sweep) -> list[Setting]:
    """The sweep's settings in the order in which their first points stand."""
    groups: dict[str, list[Point]] = {}
    for point in sweep.points:
        rest = {key: value for key, value in point.overrides.items() if key != "seed"}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(point)
    varying = [key for key in varying_keys(p.overrides for p in sweep.points) if key != "seed"]
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


def varying_keys(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys that are absent from a table or whose value differs between two, in order."""
    tables = list(tables)
    keys = dict.fromkeys(key for table in tables for key in table)
    return [
        key
        for key in keys
        if len({json.dumps(table.get(key, "absent"), sort_keys=True) for table in tables}) > 1
    ]


def short_text(value: Any) -> str:
    """A config value as it stands in labels and tables.

    >>> short_text(32.0), short_text(None), short_text([16, 32])
    ('32', 'none', '[16, 32]')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "none"
    if isinstance(value, int | float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _label(point: Point, varying: Sequence[str]) -> str:
    last = Counter(key.rsplit(".", 1)[-1] for key in varying)
    parts = [point.margin]
    for key in varying:
        if key == "margin.name" or key not in point.overrides:
            continue
        name, value = key.rsplit(".", 1)[-1], short_text(point.overrides[key])
        if name == "name":
            parts.append(value)
        elif key == "scale":
            parts.append(f"s={value}")
        else:
            parts.append(f"{name if last[name] == 1 else key}={value}")
    return " ".join(parts)
