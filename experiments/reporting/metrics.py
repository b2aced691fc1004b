"""How metrics are shown: heading, unit, decimals, and which direction is better."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.reporting.sweep_directory import Point


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


def metric_keys(points: Iterable[Point]) -> tuple[list[str], list[str]]:
    """The metrics of the main table, and the others, in a fixed order."""
    found = dict.fromkeys(key for point in points for key in point.metrics)
    known = [key for key in found if key.startswith("tar_at_far_") and "_max" not in key]
    known += [key for key in METRICS if key in found and not key.endswith("_std")]
    return known, [key for key in found if key not in known]
