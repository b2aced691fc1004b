"""A setting's value of a metric, with its 95 % interval."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.reporting.grouping import Setting


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, and what the interval is over ("seeds", "identities", "")."""

    value: float
    low: float
    high: float
    over: str


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


def seed_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % Student t interval of the mean of two or more independent values.

    >>> seed_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = student_t_quantile(len(values) - 1) * error
    return mean - half, mean + half


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
