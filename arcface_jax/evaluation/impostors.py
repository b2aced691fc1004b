"""Impostor scores kept beside a network: they turn a similarity into a false accept rate."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.embeddings import identity_labels, unit_rows

BINS = 4000
_ROWS = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImpostorScores:
    """Cosines of pairs of different people, counted in 4,000 bins over [-1, 1].

    Attributes:
      counts: int64[4000]; bin k holds the cosines of [-1 + k / 2000, -1 + (k + 1) / 2000).
      source: what they were measured on.

    Raises:
      ValueError: counts of another length, negative, or all zero.
    """

    counts: NDArray[np.int64]
    source: str

    def __post_init__(self):
        counts = np.asarray(self.counts)
        if counts.shape != (BINS,) or not np.issubdtype(counts.dtype, np.integer):
            raise ValueError(
                f"impostor scores are {BINS} counts, got {counts.dtype}{counts.shape}."
            )
        if counts.min() < 0 or not counts.any():
            raise ValueError("impostor scores count at least one pair, none less than 0 times.")
        object.__setattr__(self, "counts", counts.astype(np.int64))

    @property
    def pairs(self) -> int:
        """Number of impostor pairs."""
        return int(self.counts.sum())

    def far(self, similarity: float) -> float:
        """Share of the impostor pairs that a threshold at ``similarity`` would accept.

        A whole bin counts where it begins at or above the threshold, and the one that the threshold
        lies in: the rate is rounded up, by a thousandth of a cosine at most.

        Raises:
          ValueError: not a cosine.

        >>> scores = impostor_scores([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], [0, 1, 2])
        >>> scores.far(0.5), round(scores.far(-0.5), 3), scores.far(-1.0)
        (0.0, 0.667, 1.0)
        """
        if not -1.001 <= similarity <= 1.001:
            raise ValueError(f"similarity={similarity} is no cosine; it lies in [-1, 1].")
        return float(self.counts[_bins(np.float64(similarity)) :].sum() / self.pairs)


def impostor_scores(
    embeddings: ArrayLike, labels: ArrayLike, *, source: str = ""
) -> ImpostorScores:
    """Counts of the cosines of all pairs of different identities, a block of rows at a time.

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N], identities.
      source: what they are of, for whoever reads the counts.

    Raises:
      ValueError: shapes that do not fit, NaN, or one identity only.
    """
    unit = unit_rows(embeddings)
    labels = identity_labels(labels, len(unit))
    counts = np.zeros(BINS, np.int64)
    for start in range(0, len(unit), _ROWS):
        rows = slice(start, min(start + _ROWS, len(unit)))
        cosines = unit[rows] @ unit[start:].T
        later = np.arange(start, len(unit)) > np.arange(rows.start, rows.stop)[:, None]
        wanted = later & (labels[rows, None] != labels[start:])
        counts += np.bincount(_bins(cosines[wanted]), minlength=BINS)
    if not counts.any():
        raise ValueError("all images are of one identity; impostor pairs need two.")
    return ImpostorScores(counts=counts, source=source)


def listed_impostor_scores(similarities: ArrayLike, *, source: str = "") -> ImpostorScores:
    """Counts of given impostor cosines, such as those of a pair list.

    >>> listed_impostor_scores([0.5, 0.1], source="two pairs").far(0.3)
    0.5
    """
    cosines = np.asarray(similarities, np.float64)
    counts = np.bincount(_bins(cosines), minlength=BINS)
    return ImpostorScores(counts=counts, source=source)


def _bins(cosines: Any) -> Any:
    return np.clip(np.floor((cosines + 1.0) * (BINS // 2)), 0, BINS - 1).astype(np.int64)
