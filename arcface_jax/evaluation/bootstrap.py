"""Confidence intervals by resampling identities.

Images of one person are alike and so are the pairs they make: intervals that resample images or
pairs are too narrow. Here whole identities are drawn with replacement, all their images with
them. In one resample an identity drawn n times counts n times:

- a genuine pair counts n times, once in each copy;
- an impostor pair of identities a and b counts n_a n_b times;
- two copies of one identity make no pair: they would be images compared with themselves.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.all_pairs import PairSummary
from arcface_jax.evaluation.embeddings import identity_labels
from arcface_jax.evaluation.roc import RocCorners, distinct_from_top

# A resample weighs this many of the highest impostor scores one by one, and this many drawn from
# the others. Among 1e8 pairs the draw moves a FAR of 2e-2 by some 2 % of itself, far less than
# the identities do.
TOP_PAIRS = 1_000_000
DRAWN_PAIRS = 500_000

Metrics = Mapping[str, float]


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float
    high: float


def resample_identities(
    labels: ArrayLike, *, resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """How often each image counts, int[N], in each of ``resamples`` draws of the identities.

    >>> [copies.tolist() for copies in resample_identities([5, 5, 8], resamples=2, seed=1)]
    [[1, 1, 1], [0, 0, 2]]
    """
    labels = np.asarray(labels)
    names, identity = np.unique(identity_labels(labels, labels.size), return_inverse=True)
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(names.size, size=names.size)
        yield np.bincount(drawn, minlength=names.size)[identity]


def bootstrap_metrics(
    statistic: Callable[[NDArray[np.int64]], Metrics],
    labels: ArrayLike,
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile interval of each metric that ``statistic`` computes from one resample.

    Args:
      statistic: from copies int[N] (how often each image counts) to named numbers; NaN where the
        resample has none, which leaves that resample out for that metric.
      labels: int[N], identity of each image.
      resamples: number of draws; 200 and more.
      seed: of the draws.
      confidence: share of the resamples inside the interval.

    Raises:
      ValueError: no resample, a confidence outside (0, 1), or a metric that was NaN in all.
    """
    if resamples < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"need resamples >= 1 and 0 < confidence < 1, got {resamples} and {confidence:g}."
        )
    values: dict[str, list[float]] = {}
    for copies in resample_identities(labels, resamples=resamples, seed=seed):
        for name, value in statistic(copies).items():
            values.setdefault(name, []).append(float(value))
    ends = (0.5 - confidence / 2.0, 0.5 + confidence / 2.0)
    intervals = {}
    for name, series in values.items():
        usable = np.array([value for value in series if not math.isnan(value)])
        if not usable.size:
            raise ValueError(
                f"{name} is undefined in each of {resamples} resamples; "
                "ask for more resamples, or evaluate on more identities."
            )
        low, high = np.quantile(usable, ends)
        intervals[name] = Interval(float(low), float(high))
    return intervals


def bootstrap_identities(
    statistic: Callable[[NDArray[np.int64]], float],
    labels: ArrayLike,
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of one number, resampling identities.

    Args:
      statistic: from copies int[N] (how often each image counts) to a number, or NaN.
      labels: int[N], identity of each image, at least 0.
      resamples: number of draws.
      seed: of the draws.
      confidence: share of the resamples inside the interval.

    Raises:
      ValueError: no resample, a confidence outside (0, 1), or NaN in every resample.

    >>> hit = np.array([1.0, 1.0, 1.0, 1.0])
    >>> rate = lambda copies: np.average(hit, weights=copies)
    >>> bootstrap_identities(rate, [0, 0, 1, 1], resamples=8, seed=0)
    Interval(low=1.0, high=1.0)
    """
    return bootstrap_metrics(
        lambda copies: {"statistic": statistic(copies)},
        labels,
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )["statistic"]


def _drawn_impostors(
    unit: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    below: float,
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Random impostor pairs that score at most ``below``, highest first: scores and images."""
    first, second = rng.integers(len(unit), size=(2, count))
    impostor = labels[first] != labels[second]
    first, second = first[impostor], second[impostor]
    scores = np.empty(first.size, unit.dtype)
    for start in range(0, first.size, 65_536):
        part = slice(start, start + 65_536)
        scores[part] = np.einsum("nd,nd->n", unit[first[part]], unit[second[part]])
    kept = np.flatnonzero(scores <= below)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return scores[kept], first[kept], second[kept]


def all_pairs_statistic(
    unit: NDArray[Any],
    labels: NDArray[np.int64],
    summary: PairSummary,
    *,
    fars: Mapping[str, float],
    seed: int,
    top_pairs: int = TOP_PAIRS,
    drawn_pairs: int = DRAWN_PAIRS,
) -> Callable[[NDArray[np.int64]], dict[str, float]]:
    """The TAR at each FAR, EER and AUC of all pairs, as a function of one resample.

    Exact where the impostor pairs are no more than ``top_pairs`` and the summary kept them all.
    Beyond, the highest are weighed one by one and a random draw stands for the rest.

    Args:
      unit: float[N, D], unit rows.
      labels: int[N].
      summary: of these rows.
      fars: the false accept rate behind each name.
      seed: of the draw.
      top_pairs: highest impostor scores weighed one by one.
      drawn_pairs: pairs drawn for the rest.

    Returns:
      Function from copies int[N] to {name: TAR, ..., "eer": ..., "auc": ...}; NaN where the
      resample has no genuine or no impostor pair.
    """
    top = summary.top[:top_pairs]
    top_images = tuple(images[:top_pairs] for images in summary.top_images)
    scores, images = top, top_images
    if top.size < summary.roc.impostors:
        rest, *rest_images = _drawn_impostors(
            unit, labels, below=top[-1], count=drawn_pairs, rng=np.random.default_rng(seed)
        )
        scores = np.concatenate([top, rest])
        images = tuple(np.concatenate(two) for two in zip(top_images, rest_images, strict=True))

    group = distinct_from_top(summary.genuine)
    distinct = summary.genuine[group]
    above = np.searchsorted(-scores, -distinct, side="left")
    not_below = np.searchsorted(-scores, -distinct, side="right")
    sizes = np.unique(labels, return_index=True, return_counts=True)[1:]
    # Reused by every resample: fresh memory of this size costs as much as the sums.
    weight, partner, below = np.empty(scores.size), np.empty(scores.size), np.zeros(scores.size + 1)

    def statistic(copies: NDArray[np.int64]) -> dict[str, float]:
        times = copies.astype(np.float64)
        accepted = np.add.reduceat(times[summary.genuine_image], group).cumsum()
        # Every index is inside; "clip" lets take write to out without a copy.
        np.take(times, images[0], out=weight, mode="clip")
        np.take(times, images[1], out=partner, mode="clip")
        np.multiply(weight, partner, out=weight)
        rest = weight[top.size :]
        if rest.size:
            # The draw stands for all pairs of the resample that are not among the highest.
            own = times[sizes[0]] * sizes[1]
            pairs = (own.sum() ** 2 - np.square(own).sum()) / 2.0
            rest *= max(pairs - weight[: top.size].sum(), 0.0) / max(rest.sum(), 1.0)
        np.cumsum(weight, out=below[1:])
        if not accepted[-1] or not below[-1]:
            return dict.fromkeys([*fars, "eer", "auc"], math.nan)
        roc = RocCorners(
            scores=distinct,
            accepted=accepted,
            above=below[above],
            not_below=below[not_below],
            impostors=float(below[-1]),
        )
        rates = {name: roc.tar(far) for name, far in fars.items()}
        return {**rates, "eer": roc.equal_error_rate(), "auc": roc.area()}

    return statistic
