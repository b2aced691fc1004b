"""Ten-fold verification on a list of pairs, and drawing such a list."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.embeddings import by_identity, identity_labels

# Squared distances of unit vectors, the grid of the reference protocol.
THRESHOLDS = np.arange(0.0, 4.0, 0.01)


class TenFold(NamedTuple):
    """Accuracy of deciding each fold with the threshold that suits the other folds best."""

    accuracy: float
    """Mean over the folds."""
    std: float
    """Population standard deviation over the folds."""
    thresholds: NDArray[np.float64]
    """float[folds], squared distance d: a pair is "same" when d < threshold."""
    per_fold: NDArray[np.float64]
    """float[folds], accuracy on each fold."""
    correct: NDArray[np.bool_]
    """bool[P], whether each pair was decided rightly."""


class DrawnPairs(NamedTuple):
    """A drawn pair list, as indices of images; fold by fold, the same pairs of each first."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    identity_disjoint: bool
    """Whether no identity is in two folds."""


def consecutive_folds(count: int, folds: int = 10) -> NDArray[np.int64]:
    """Fold of each pair, in blocks of list order; the first ``count % folds`` have one more.

    >>> consecutive_folds(5, folds=2)
    array([0, 0, 0, 1, 1])
    """
    sizes = np.full(folds, count // folds) + (np.arange(folds) < count % folds)
    return np.repeat(np.arange(folds), sizes)


def class_ordered_folds(same: ArrayLike, folds: int = 10) -> NDArray[np.int64]:
    """Fold of each pair where fold k takes the k-th part of the same and of the different pairs.

    For lists that hold all same pairs first, such as pairsDevTest.txt of LFW, whose consecutive
    blocks would be of one kind.

    >>> class_ordered_folds([True, True, False, False], folds=2)
    array([0, 1, 0, 1])
    """
    same = np.asarray(same, bool)
    fold = np.empty(same.size, np.int64)
    for kind in (same, ~same):
        fold[kind] = consecutive_folds(int(kind.sum()), folds)
    return fold


def ten_fold_accuracy(
    similarities: ArrayLike, same: ArrayLike, folds: ArrayLike | None = None
) -> TenFold:
    """Verification accuracy by the reference protocol of LFW and its kin.

    A pair is "same" when its squared distance d = 2 - 2s is below t. For each fold t is the
    lowest of 0, 0.01, ..., 3.99 that decides most pairs of the other folds rightly.

    Args:
      similarities: float[P], cosine of each pair.
      same: bool[P], True for genuine pairs.
      folds: int[P], fold of each pair; ten consecutive blocks of list order when not given. A
        list ordered by kind wants :func:`class_ordered_folds`.

    Raises:
      ValueError: shapes differ, a NaN (named), fewer than two folds, or too few pairs for ten.

    Source: evaluation protocol of deepinsight/insightface (``eval/verification.py``).

    >>> result = ten_fold_accuracy([0.75, 0.0] * 10, [True, False] * 10)
    >>> result.accuracy, result.std, float(result.thresholds[0])
    (1.0, 0.0, 0.51)
    """
    scores, same = np.asarray(similarities, np.float64), np.asarray(same, bool)
    if scores.ndim != 1 or same.shape != scores.shape:
        raise ValueError(
            f"expected similarities [P] and same [P], got {scores.shape} and {same.shape}."
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"similarities[{int(np.argmax(np.isnan(scores)))}] is NaN; mend or drop the pair."
        )
    if folds is None:
        if scores.size < 10:
            raise ValueError(f"ten folds need ten pairs or more, got {scores.size}; pass folds=.")
        folds = consecutive_folds(scores.size)
    folds = np.asarray(folds)
    if folds.shape != scores.shape:
        raise ValueError(f"expected the fold of each of {scores.size} pairs, got {folds.shape}.")
    names, fold = np.unique(folds, return_inverse=True)
    if names.size < 2:
        raise ValueError("all pairs are in one fold; the threshold comes from the other folds.")

    # The number of grid points not above d is the first one that calls the pair "same".
    first = np.searchsorted(THRESHOLDS, 2.0 - 2.0 * scores, side="right")
    shape = (names.size, THRESHOLDS.size + 1)
    called_same = np.zeros((2, *shape), np.int64)
    np.add.at(called_same, (same.astype(int), fold, first), 1)
    called_same = called_same.cumsum(axis=2)[:, :, :-1]
    sizes = np.bincount(fold)
    different = np.bincount(fold[~same], minlength=names.size)
    right = called_same[1] + different[:, None] - called_same[0]
    best = np.argmax(right.sum(axis=0) - right, axis=1)
    per_fold = right[np.arange(names.size), best] / sizes
    return TenFold(
        accuracy=float(per_fold.mean()),
        std=float(per_fold.std()),
        thresholds=THRESHOLDS[best],
        per_fold=per_fold,
        correct=(first <= best[fold]) == same,
    )


def _dealt_folds(
    labels: NDArray[np.int64], folds: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], bool]:
    """Fold of each image, and whether the folds are disjoint; -1 where they share identities."""
    names, identity, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if names.size < 2 * folds:
        return np.full(labels.size, -1), False
    # Dealt like cards, the largest first and to and fro, so that folds get like sizes.
    shuffled = rng.permutation(names.size)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    turn = np.arange(names.size) % (2 * folds)
    fold = np.empty(names.size, np.int64)
    fold[order] = np.minimum(turn, 2 * folds - 1 - turn)
    return fold[identity], True


def _supply(labels: NDArray[np.int64]) -> tuple[int, int]:
    """Distinct same and different pairs that these images have."""
    sizes = np.unique(labels, return_counts=True)[1]
    same = int((sizes * (sizes - 1) // 2).sum())
    return same, labels.size * (labels.size - 1) // 2 - same


def largest_per_class(labels: ArrayLike, *, folds: int = 10) -> int:
    """Most same (and different) pairs a fold that :func:`draw_pairs` can supply.

    >>> largest_per_class([0, 0, 0, 1, 1, 1], folds=2)
    3
    """
    identity = identity_labels(labels, len(np.asarray(labels)))
    # Which identities of one size go where is drawn, the sizes in a fold are not.
    fold, disjoint = _dealt_folds(identity, folds, np.random.default_rng(0))
    if not disjoint:
        return min(_supply(identity)) // folds
    return min(min(_supply(identity[fold == k])) for k in range(folds))


def _pair_of(code: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pair i < j numbered code = j (j - 1) / 2 + i."""
    j = ((1.0 + np.sqrt(1.0 + 8.0 * code)) / 2.0).astype(np.int64)
    # The root rounds; one step mends it.
    j -= j * (j - 1) // 2 > code
    j += j * (j + 1) // 2 <= code
    return code - j * (j - 1) // 2, j


def _draw_same(
    images: list[NDArray[np.int64]], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """int[count, 2] distinct same pairs, as evenly over the identities as they can supply."""
    parts, turns = [], []
    for own in images:
        supply = own.size * (own.size - 1) // 2
        code = rng.choice(supply, min(supply, count), replace=False) if supply else np.empty(0, int)
        i, j = _pair_of(code)
        parts.append(np.stack([own[i], own[j]], axis=1))
        turns.append(np.arange(code.size))
    pairs, turn = np.concatenate(parts), np.concatenate(turns)
    return pairs[np.lexsort((rng.random(turn.size), turn))[:count]]


def _draw_different(
    images: list[NDArray[np.int64]], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """int[count, 2] distinct different pairs: two identities, then an image of each."""
    sizes = np.array([own.size for own in images])
    start, flat = np.cumsum(sizes) - sizes, np.concatenate(images)
    pairs = np.empty((0, 2), np.int64)
    while len(pairs) < count:
        a = rng.integers(sizes.size, size=4 * count)
        b = (a + rng.integers(1, sizes.size, size=a.size)) % sizes.size
        drawn = np.stack([flat[start[k] + rng.integers(sizes[k])] for k in (a, b)], axis=1)
        pairs = np.concatenate([pairs, np.sort(drawn, axis=1)])
        pairs = pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
    return pairs[:count]


def draw_pairs(
    labels: ArrayLike, *, folds: int = 10, per_class: int = 300, seed: int
) -> DrawnPairs:
    """A list of ``folds`` x (``per_class`` same + ``per_class`` different) distinct pairs.

    With two identities a fold or more (20 for ten folds), no identity is in two folds; with
    fewer, all folds draw from all identities and ``identity_disjoint`` is False. Same pairs are
    spread as evenly over identities as these allow; a different pair is two identities, drawn
    evenly, and an image of each.

    Args:
      labels: int[N], identity of each image, at least 0.
      folds: number of folds, at least 2.
      per_class: same pairs and different pairs in each fold.
      seed: of the draw; the list depends on it and on ``labels`` alone.

    Raises:
      ValueError: the identities cannot supply so many distinct pairs; the message says how many.

    >>> pairs = draw_pairs([0, 0, 1, 1, 2, 2, 3, 3], folds=2, per_class=2, seed=0)
    >>> pairs.same.tolist(), pairs.identity_disjoint
    ([True, True, False, False, True, True, False, False], True)
    """
    identity = identity_labels(labels, len(np.asarray(labels)))
    if folds < 2 or per_class < 1:
        raise ValueError(f"need folds >= 2 and per_class >= 1, got {folds} and {per_class}.")
    supplied = largest_per_class(identity, folds=folds)
    if supplied < per_class:
        mend = (
            f"choose per_class <= {supplied}, fewer folds, or more images"
            if supplied
            else "choose fewer folds, or add identities with at least two images"
        )
        raise ValueError(
            f"{folds} folds of {per_class} same and {per_class} different pairs: the "
            f"{np.unique(identity).size} identities supply {supplied} a fold; {mend}."
        )
    rng = np.random.default_rng(seed)
    fold, disjoint = _dealt_folds(identity, folds, rng)
    # Folds that share identities are cut from one draw, so that no pair comes twice.
    parts = [(fold == k, per_class) for k in range(folds)]
    if not disjoint:
        parts = [(np.ones(identity.size, bool), folds * per_class)]
    kinds: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for members, count in parts:
        index = np.flatnonzero(members)
        order, start, _ = by_identity(identity[index])
        images = np.split(index[order], np.unique(start)[1:])
        kinds[0].append(rng.permutation(_draw_same(images, count, rng)))
        kinds[1].append(_draw_different(images, count, rng))
    same, different = (np.concatenate(kind).reshape(folds, per_class, 2) for kind in kinds)
    pairs = np.concatenate([same, different], axis=1).reshape(-1, 2)
    return DrawnPairs(
        first=pairs[:, 0],
        second=pairs[:, 1],
        same=np.tile(np.arange(2 * per_class) < per_class, folds),
        fold=np.repeat(np.arange(folds), 2 * per_class),
        identity_disjoint=disjoint,
    )
