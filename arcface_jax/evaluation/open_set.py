"""Everything a report says about embeddings of identities that training never saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.all_pairs import FARS, PairSummary, summarise_pairs
from arcface_jax.evaluation.bootstrap import (
    DRAWN_PAIRS,
    TOP_PAIRS,
    Interval,
    all_pairs_statistic,
    bootstrap_metrics,
)
from arcface_jax.evaluation.embeddings import at_most_per_identity, identity_labels, unit_rows
from arcface_jax.evaluation.identification import rank_one
from arcface_jax.evaluation.pairs import (
    class_ordered_folds,
    consecutive_folds,
    draw_pairs,
    largest_per_class,
    ten_fold_accuracy,
)
from arcface_jax.evaluation.roc import checked_fars, false_accepts_allowed

FOLDS, PER_CLASS = 10, 300


@dataclass(frozen=True, kw_only=True)
class OpenSetResult:
    """Verification and identification of held-out identities."""

    metrics: dict[str, float]
    """tar_at_far_1e-2, ..., eer, auc, rank1, pair_accuracy, pair_accuracy_std; with a cap of k
    images an identity also tar_at_far_1e-2_maxk, ..., eer_maxk, auc_maxk."""
    intervals: dict[str, Interval]
    """Of each metric but pair_accuracy_std; empty without resamples."""
    pair_angles_deg: dict[str, NDArray[np.int64]]
    """"genuine" and "impostor": int[180], numbers of pairs by angle, in bins of one degree."""
    genuine_pairs: int
    impostor_pairs: int
    notes: list[str]
    """What a reader must know to read the numbers rightly."""


class PairRows(NamedTuple):
    """A pair list as indices of embeddings."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


def far_name(far: float) -> str:
    """Name of the TAR at this FAR in reports.

    >>> far_name(0.001), far_name(0.05)
    ('tar_at_far_1e-3', 'tar_at_far_5e-2')
    """
    mantissa, exponent = f"{far:e}".split("e")
    return f"tar_at_far_{float(mantissa):g}e{int(exponent)}"


def given_list(pairs: Sequence[Any], labels: NDArray[np.int64], notes: list[str]) -> PairRows:
    """The caller's pairs (first, second, same[, folds]), checked against the labels.

    Raises:
      ValueError: indices out of range, or pairs that contradict the labels; the first is named.
    """
    if len(pairs) < 3:
        raise ValueError(f"pairs are (first, second, same[, folds]), got {len(pairs)} arrays.")
    first, second, same = (np.asarray(column) for column in pairs[:3])
    for name, column in (("first", first), ("second", second)):
        if column.shape != same.shape or not np.issubdtype(column.dtype, np.integer):
            raise ValueError(
                f"pairs hold image indices [P], got {name} {column.dtype}{list(column.shape)} "
                f"for {same.size} pairs."
            )
        outside = np.flatnonzero((column < 0) | (column >= labels.size))
        if outside.size:
            raise ValueError(
                f"pair {outside[0]} names image {column[outside[0]]}, but there are "
                f"{labels.size} embeddings; embed the missing images or drop their pairs."
            )
    same = same.astype(bool)
    wrong = np.flatnonzero((labels[first] == labels[second]) != same)
    if wrong.size:
        raise ValueError(
            f"pair {wrong[0]} is listed as {'same' if same[wrong[0]] else 'different'}, but its "
            f"images have labels {labels[first[wrong[0]]]} and {labels[second[wrong[0]]]}; "
            "the list and the embeddings are in another order or of another set."
        )
    if len(pairs) > 3 and pairs[3] is not None:
        return PairRows(first, second, same, np.asarray(pairs[3]))
    if np.count_nonzero(same[1:] != same[:-1]) == 1:
        notes.append("pair list ordered by kind: fold k takes the k-th tenth of each kind")
        return PairRows(first, second, same, class_ordered_folds(same))
    return PairRows(first, second, same, consecutive_folds(same.size))


def _drawn_list(labels: NDArray[np.int64], seed: int, notes: list[str]) -> PairRows | None:
    """A drawn pair list, shorter or absent (and said so) where the identities supply no more."""
    per_class = min(PER_CLASS, largest_per_class(labels, folds=FOLDS))
    identities = np.unique(labels).size
    if not per_class:
        notes.append(
            f"no pair accuracy: {identities} identities do not supply {FOLDS} folds of pairs"
        )
        return None
    if per_class < PER_CLASS:
        notes.append(
            f"drawn pair list of {FOLDS} x ({per_class} + {per_class}) pairs: "
            f"the identities supply no {PER_CLASS} a fold"
        )
    drawn = draw_pairs(labels, folds=FOLDS, per_class=per_class, seed=seed)
    return PairRows(drawn.first, drawn.second, drawn.same, drawn.fold)


def note_shared_identities(pairs: PairRows, labels: NDArray[np.int64], notes: list[str]) -> None:
    """Adds to ``notes`` that folds share identities, if they do."""
    identity = np.concatenate([labels[pairs.first], labels[pairs.second]])
    seen = np.unique(np.stack([identity, np.tile(pairs.fold, 2)]), axis=1)
    names, folds = np.unique(seen[0], return_counts=True)
    if (folds > 1).any():
        notes.append(
            f"folds share identities: {int((folds > 1).sum())} of {names.size} identities "
            "are in more than one fold, so the folds are not independent"
        )


def note_resolution(fars: Mapping[str, float], pairs: int, suffix: str, notes: list[str]) -> None:
    """Adds to ``notes`` which rates so many impostor pairs cannot resolve."""
    notes.extend(
        f"{name}{suffix}: below the resolution of {pairs} impostor pairs, "
        "so it is the TAR above the highest impostor (FAR = 0)"
        for name, far in fars.items()
        if not false_accepts_allowed(far, pairs)
    )


def evaluate_open_set(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    fars: ArrayLike = FARS,
    pairs: Sequence[Any] | None = None,
    max_images_per_identity: int | None = None,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> OpenSetResult:
    """All-pairs TAR, EER, AUC, rank-1 and ten-fold accuracy, with intervals over identities.

    TAR at a FAR reads "le": the largest TAR whose FAR does not exceed the wanted one. The numbers
    are exact; with more than a million impostor pairs the intervals rest on the highest million
    and a draw of the others, which a note says. In a resample, rank-1 keeps the gallery and the
    pair accuracy keeps its thresholds.

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N], identity of each image, at least 0; they need not be dense.
      fars: wanted false accept rates in [0, 1).
      pairs: a pair list as index arrays (first, second, same) or (first, second, same, folds),
        such as :func:`draw_pairs` returns; when not given one of 10 x (300 + 300) pairs is drawn,
        or of as many as the identities supply. Without folds they are ten consecutive blocks, or,
        in a list with all pairs of one kind first, the k-th tenths of each kind.
      max_images_per_identity: adds the all-pairs numbers with at most so many images an identity.
      resamples: draws of the identities; 0 for no intervals.
      seed: of the pair list, the cap and the resamples.
      confidence: of the intervals.

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), no genuine or no impostor pair, a
        rate outside [0, 1), a pair list that contradicts the labels.

    >>> x = np.kron(np.eye(4), np.ones((3, 1)))
    >>> result = evaluate_open_set(x, np.repeat(np.arange(4), 3), fars=[0.1], resamples=20)
    >>> result.metrics["tar_at_far_1e-1"], result.metrics["eer"], result.intervals["rank1"]
    (1.0, 0.0, Interval(low=1.0, high=1.0))
    """
    wanted = {far_name(far): far for far in checked_fars(fars)}
    unit = unit_rows(embeddings)
    identity = identity_labels(labels, len(unit))
    notes: list[str] = []
    zero = np.flatnonzero(~unit.any(axis=1))
    if zero.size:
        notes.append(f"{zero.size} embeddings are zero (first: row {zero[0]}); they score 0")

    metrics: dict[str, float] = {}
    statistics = []
    views: dict[str, NDArray[np.int64]] = {"": np.arange(len(unit))}
    if max_images_per_identity is not None:
        views[f"_max{max_images_per_identity}"] = at_most_per_identity(
            identity, max_images_per_identity, seed=seed
        )
    summaries: dict[str, PairSummary] = {}
    for suffix, kept in views.items():
        rows, own = unit[kept], identity[kept]
        summary = summarise_pairs(
            rows, own, fars=list(wanted.values()), top=TOP_PAIRS if resamples else 0
        )
        summaries[suffix] = summary
        roc = summary.pair_roc(list(wanted.values()))
        for name, point in zip(wanted, roc.tar, strict=True):
            metrics[name + suffix] = point.tar
        metrics["eer" + suffix], metrics["auc" + suffix] = roc.eer, roc.auc
        note_resolution(wanted, roc.impostor, suffix, notes)
        if resamples:
            statistic = all_pairs_statistic(rows, own, summary, fars=wanted, seed=seed)
            statistics.append((suffix, kept, statistic))
            if roc.impostor > TOP_PAIRS:
                notes.append(
                    f"intervals{suffix}: from the {TOP_PAIRS} highest of {roc.impostor} impostor "
                    f"pairs and {DRAWN_PAIRS} drawn from the others"
                )

    ranked = rank_one(unit, identity)
    metrics["rank1"] = ranked.rate
    if pairs is None:
        listed = _drawn_list(identity, seed, notes)
    else:
        listed = given_list(pairs, identity, notes)
    correct = None
    if listed is not None:
        similarity = np.einsum("pd,pd->p", unit[listed.first], unit[listed.second])
        ten_fold = ten_fold_accuracy(similarity, listed.same, listed.fold)
        metrics["pair_accuracy"] = ten_fold.accuracy
        metrics["pair_accuracy_std"] = ten_fold.std
        correct = ten_fold.correct
        note_shared_identities(listed, identity, notes)

    def resampled(copies: NDArray[np.int64]) -> dict[str, float]:
        values = {
            name + suffix: value
            for suffix, kept, statistic in statistics
            for name, value in statistic(copies[kept]).items()
        }
        values["rank1"] = _weighted_mean(ranked.hit, copies[ranked.images])
        if listed is not None and correct is not None:
            # A pair of one identity is there once in each of its copies.
            partner = np.where(listed.same, 1, copies[listed.second])
            values["pair_accuracy"] = _weighted_mean(correct, copies[listed.first] * partner)
        return values

    intervals = {}
    if resamples:
        intervals = bootstrap_metrics(
            resampled, identity, resamples=resamples, seed=seed, confidence=confidence
        )
    whole = summaries[""]
    return OpenSetResult(
        metrics=metrics,
        intervals=intervals,
        pair_angles_deg={"genuine": whole.genuine_angles, "impostor": whole.impostor_angles},
        genuine_pairs=whole.genuine.size,
        impostor_pairs=int(whole.roc.impostors),
        notes=notes,
    )


def _weighted_mean(values: NDArray[np.bool_], weights: NDArray[np.int64]) -> float:
    """Mean of ``values``; NaN where no weight is left."""
    total = weights.sum()
    return float(values @ weights / total) if total else float("nan")
