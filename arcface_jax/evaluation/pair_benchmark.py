"""Verification on a benchmark's own list of pairs: LFW, CFP-FP, AgeDB-30 and their kin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.embeddings import identity_labels, unit_rows
from arcface_jax.evaluation.open_set import (
    far_name,
    given_list,
    note_resolution,
    note_shared_identities,
)
from arcface_jax.evaluation.pairs import TenFold, ten_fold_accuracy
from arcface_jax.evaluation.roc import (
    TarAtFar,
    area_under_curve,
    checked_fars,
    equal_error_rate,
    tar_at_far,
)

LIST_FARS = (1e-1, 1e-2, 1e-3)


@dataclass(frozen=True, kw_only=True)
class PairsResult:
    """Verification of the pairs of a list."""

    similarities: NDArray[np.float64]
    """float64[P], cosine of each pair, in the order of the list."""
    same: NDArray[np.bool_]
    """bool[P], whether it is genuine."""
    ten_fold: TenFold
    tar: tuple[TarAtFar, ...]
    """At each FAR asked for, reading "le"."""
    tar_nearest: tuple[TarAtFar, ...]
    """The same, reading "nearest"."""
    eer: float
    auc: float
    genuine_deg: float
    """Mean angle of the genuine pairs, degrees."""
    impostor_deg: float
    """Mean angle of the impostor pairs, degrees."""
    notes: list[str]
    """What a reader must know to read the numbers rightly."""

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers by the names that reports give them."""
        return {
            "pair_accuracy": self.ten_fold.accuracy,
            "pair_accuracy_std": self.ten_fold.std,
            **{far_name(point.far_wanted): point.tar for point in self.tar},
            "auc": self.auc,
            "eer": self.eer,
            "genuine_deg": self.genuine_deg,
            "impostor_deg": self.impostor_deg,
        }


def evaluate_pairs(
    embeddings: ArrayLike,
    labels: ArrayLike,
    pairs: Sequence[Any],
    *,
    fars: ArrayLike = LIST_FARS,
) -> PairsResult:
    """Ten-fold accuracy, TAR at each FAR, AUC, EER and mean angles of the listed pairs.

    Scores are cosines in float64. The accuracy follows the reference protocol, see
    :func:`ten_fold_accuracy`.

    Args:
      embeddings: float[N, D], of any length; of mirrored images too where these are added.
      labels: int[N], identity of each image, at least 0.
      pairs: index arrays (first, second, same) or (first, second, same, folds), such as
        `arcface_jax.data.PairList.locate` gives.
      fars: wanted false accept rates in [0, 1).

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), pairs that contradict the labels, one
        kind of pair only, a rate outside [0, 1).

    >>> even = np.arange(0, 40, 2)
    >>> pairs = (np.tile(even, 2), np.append(even + 1, (even + 2) % 40), np.arange(40) < 20)
    >>> result = evaluate_pairs(np.kron(np.eye(20), np.ones((2, 1))), np.arange(40) // 2, pairs)
    >>> result.ten_fold.accuracy, result.eer, round(result.impostor_deg, 6)
    (1.0, 0.0, 90.0)
    """
    wanted = checked_fars(fars)
    unit = unit_rows(np.asarray(embeddings).astype(np.float64))
    identity = identity_labels(labels, len(unit))
    notes: list[str] = []
    rows = given_list(pairs, identity, notes)
    similarities = np.einsum("pd,pd->p", unit[rows.first], unit[rows.second])
    ten_fold = ten_fold_accuracy(similarities, rows.same, rows.fold)
    note_shared_identities(rows, identity, notes)
    impostors = int((~rows.same).sum())
    note_resolution({far_name(far): far for far in wanted}, impostors, "", notes)
    degrees = np.degrees(np.arccos(np.clip(similarities, -1.0, 1.0)))
    return PairsResult(
        similarities=similarities,
        same=rows.same,
        ten_fold=ten_fold,
        tar=tuple(tar_at_far(similarities, rows.same, wanted)),
        tar_nearest=tuple(tar_at_far(similarities, rows.same, wanted, reading="nearest")),
        eer=equal_error_rate(similarities, rows.same),
        auc=area_under_curve(similarities, rows.same),
        genuine_deg=float(degrees[rows.same].mean()),
        impostor_deg=float(degrees[~rows.same].mean()),
        notes=notes,
    )
