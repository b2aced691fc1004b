"""Exact verification rates over all pairs of a set, streamed: no matrix of pairs is stored.

Genuine pairs are few and are kept. Impostor pairs pass by in blocks; kept of them are how many
lie above and not below each genuine score (which fixes EER and AUC), the highest ones (which fix
the thresholds) and a histogram of their angles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.embeddings import (
    ByIdentity,
    at_most_per_identity,
    by_identity,
    identity_labels,
    unit_rows,
)
from arcface_jax.evaluation.roc import (
    RocCorners,
    TarAtFar,
    checked_fars,
    corners,
    false_accepts_allowed,
    operating_point,
)

# Scores held at a time: 16 MB of float32. Sorting is fastest while a block stays near the caches.
BLOCK = 4_000_000

FARS = (1e-2, 1e-3, 1e-4)


class PairRoc(NamedTuple):
    """Verification rates over all pairs of a set of images."""

    tar: tuple[TarAtFar, ...]
    """One operating point for each FAR asked for."""
    eer: float
    auc: float
    genuine: int
    """Number of genuine pairs."""
    impostor: int
    """Number of impostor pairs."""
    images: int
    """Number of images compared."""


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """What one pass over all pairs keeps."""

    roc: RocCorners
    genuine: NDArray[Any]
    """float[G], the genuine scores, highest first."""
    genuine_image: NDArray[np.int64]
    """int[G], one of the two images of each genuine pair."""
    top: NDArray[Any]
    """float[M], the largest impostor scores, highest first."""
    top_images: tuple[NDArray[np.int64], NDArray[np.int64]]
    """int[M] twice, the images of the pairs in ``top``."""
    more_at_last: int
    """Impostor pairs equal to ``top[-1]`` but not in it."""
    genuine_angles: NDArray[np.int64]
    """int[180], genuine pairs by angle, in bins of one degree."""
    impostor_angles: NDArray[np.int64]
    """int[180], impostor pairs by angle, in bins of one degree."""
    images: int

    def pair_roc(self, fars: list[float], *, reading: str = "le") -> PairRoc:
        """The rates of these pairs; every far must have been named when they were summarised."""
        point = [
            operating_point(
                self.roc, self.top, far, reading=reading, more_at_last=self.more_at_last
            )
            for far in fars
        ]
        return PairRoc(
            tar=tuple(point),
            eer=self.roc.equal_error_rate(),
            auc=self.roc.area(),
            genuine=self.genuine.size,
            impostor=int(self.roc.impostors),
            images=self.images,
        )


def number_of_pairs(labels: NDArray[np.int64]) -> tuple[int, int]:
    """Numbers of genuine and of impostor pairs among these images.

    >>> number_of_pairs(np.array([0, 0, 1]))
    (1, 2)
    """
    sizes = np.unique(labels, return_counts=True)[1]
    genuine = int((sizes * (sizes - 1) // 2).sum())
    return genuine, labels.size * (labels.size - 1) // 2 - genuine


def angle_counts(ascending: NDArray[Any]) -> NDArray[np.int64]:
    """Cosines, lowest first, counted by their angle in 180 bins of one degree.

    >>> np.flatnonzero(angle_counts(np.array([-1.0, 0.0, 1.0])))
    array([  0,  90, 179])
    """
    edges = np.cos(np.radians(np.arange(1, 180))).astype(ascending.dtype)
    # An angle below k degrees is a cosine above cos k; the ends also take what rounding put out.
    below = ascending.size - np.searchsorted(ascending, edges, side="right")
    return np.diff(below, prepend=0, append=ascending.size).astype(np.int64)


class _Top:
    """The ``size`` largest of a stream of scores, with the pair each belongs to."""

    def __init__(self, size: int, dtype: Any):
        self.size = size
        self.scores, self.pairs = np.empty(0, dtype), np.empty(0, np.int64)
        self.floor = -np.inf
        self.left_at_floor = 0
        self._pending: list[tuple[NDArray[Any], NDArray[np.int64]]] = []

    def add(self, scores: NDArray[Any], pairs: "_Pairs") -> None:
        kept = np.flatnonzero(scores > self.floor)
        self.left_at_floor += int(np.count_nonzero(scores == self.floor))
        self._pending.append((scores[kept], pairs.codes(kept)))
        if sum(part.size for part, _ in self._pending) >= self.size:
            self._shorten()

    def _shorten(self) -> None:
        scores = np.concatenate([self.scores, *(part for part, _ in self._pending)])
        pairs = np.concatenate([self.pairs, *(part for _, part in self._pending)])
        self._pending = []
        if scores.size > self.size:
            kept = np.argpartition(scores, scores.size - self.size)[-self.size :]
            floor = scores[kept].min()
            left = np.count_nonzero(scores == floor) - np.count_nonzero(scores[kept] == floor)
            self.left_at_floor = int(left) + (self.left_at_floor if floor == self.floor else 0)
            self.floor = floor
            scores, pairs = scores[kept], pairs[kept]
        self.scores, self.pairs = scores, pairs

    def finish(self) -> None:
        """Sorts what is kept, highest first."""
        self._shorten()
        order = np.argsort(-self.scores, kind="stable")
        self.scores, self.pairs = self.scores[order], self.pairs[order]


class _Pairs(NamedTuple):
    """Which pair of sorted images each score of a flat block belongs to."""

    row: int
    column: int
    width: int
    images: int
    flat: NDArray[np.int64] | None

    def codes(self, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        position = kept if self.flat is None else self.flat[kept]
        rows, columns = np.divmod(position, self.width)
        return (rows + self.row) * self.images + columns + self.column


def _genuine_scores(
    unit: NDArray[Any], groups: ByIdentity, block: int
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Scores of the genuine pairs of sorted rows, with the first row of each."""
    for a, b in _row_blocks(len(unit), block):
        rows, columns = np.arange(a, b)[:, None], np.arange(a, groups.end[b - 1])[None, :]
        genuine = (columns > rows) & (columns < groups.end[a:b, None])
        yield (unit[a:b] @ unit[a : groups.end[b - 1]].T)[genuine], np.nonzero(genuine)[0] + a


def _impostor_scores(
    unit: NDArray[Any], groups: ByIdentity, block: int
) -> Iterator[tuple[NDArray[Any], _Pairs]]:
    """Blocks of impostor scores of sorted rows, each pair once."""
    count = len(unit)
    for a, b in _row_blocks(count, block):
        # Past the last identity begun in this block, every column is an impostor of every row.
        edge = int(groups.end[b - 1])
        impostor = np.arange(a, edge)[None, :] >= groups.end[a:b, None]
        flat = np.flatnonzero(impostor)
        if flat.size:
            scores = (unit[a:b] @ unit[a:edge].T).ravel()[flat]
            yield scores, _Pairs(a, a, edge - a, count, flat)
        if edge < count:
            scores = (unit[a:b] @ unit[edge:].T).ravel()
            yield scores, _Pairs(a, edge, count - edge, count, None)


def _row_blocks(count: int, block: int) -> Iterator[tuple[int, int]]:
    a = 0
    while a < count:
        b = min(count, a + max(1, block // (count - a)))
        yield a, b
        a = b


def summarise_pairs(
    unit: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    fars: list[float],
    top: int = 0,
    block: int = BLOCK,
) -> PairSummary:
    """One pass over all pairs of unit rows.

    Args:
      unit: float[N, D]; scores are products in its precision.
      labels: int[N], identity of each row.
      fars: rates that thresholds will be asked for.
      top: keep at least so many of the largest impostor scores.
      block: scores held at a time.

    Raises:
      ValueError: no identity has two images, or there is one identity only.
    """
    genuine_pairs, impostor_pairs = number_of_pairs(labels)
    if not genuine_pairs:
        raise ValueError(
            f"no genuine pair: none of the {np.unique(labels).size} identities has two images; "
            "evaluate on identities with at least two."
        )
    if not impostor_pairs:
        raise ValueError("no impostor pair: all images are of one identity; add another one.")
    groups = by_identity(labels)
    ordered = unit[groups.order]

    parts = list(_genuine_scores(ordered, groups, block))
    genuine = np.concatenate([scores for scores, _ in parts])
    row = np.concatenate([rows for _, rows in parts])
    del parts
    descending = np.argsort(-genuine, kind="stable")
    genuine, row = genuine[descending], row[descending]

    above, not_below = np.zeros((2, genuine.size), np.int64)
    angles = np.zeros(180, np.int64)
    allowed = max(false_accepts_allowed(far, impostor_pairs) for far in fars) if fars else 0
    highest = _Top(min(impostor_pairs, max(top, allowed + 1)), unit.dtype)
    for scores, pairs in _impostor_scores(ordered, groups, block):
        highest.add(scores, pairs)
        scores.sort()
        above += scores.size - np.searchsorted(scores, genuine, side="right")
        not_below += scores.size - np.searchsorted(scores, genuine, side="left")
        angles += angle_counts(scores)
    highest.finish()
    first, second = np.divmod(highest.pairs, len(unit))
    return PairSummary(
        roc=corners(genuine, above, not_below, impostors=impostor_pairs),
        genuine=genuine,
        genuine_image=groups.order[row],
        top=highest.scores,
        top_images=(groups.order[first], groups.order[second]),
        more_at_last=highest.left_at_floor,
        genuine_angles=angle_counts(genuine[::-1]),
        impostor_angles=angles,
        images=len(unit),
    )


def all_pairs_roc(
    embeddings: ArrayLike,
    labels: ArrayLike,
    fars: ArrayLike = FARS,
    *,
    reading: str = "le",
    block: int = BLOCK,
    max_images_per_identity: int | None = None,
    seed: int = 0,
) -> PairRoc:
    """TAR at each FAR, EER and AUC over every pair of images, exactly.

    Scores are cosines, multiplied in float32 (float64 for float64 embeddings). Memory is a few
    blocks, some 60 bytes for each genuine pair and 30 for each impostor pair that the largest
    FAR lets in.

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N], identity of each image, at least 0.
      fars: wanted false accept rates in [0, 1).
      reading: "le" or "nearest", see :func:`tar_at_far`.
      block: scores held at a time; changes time and memory only.
      max_images_per_identity: compare at most so many images of each identity, drawn with
        ``seed``. Genuine pairs grow with the square of an identity's images: on LFW two people
        make half of them.
      seed: of that draw.

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), no genuine or no impostor pair, a
        rate outside [0, 1), an unknown reading.

    >>> x = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]
    >>> roc = all_pairs_roc(x, [0, 0, 1, 1], [0.25])
    >>> roc.tar[0].tar, roc.eer, roc.auc, roc.genuine, roc.impostor
    (1.0, 0.0, 1.0, 2, 4)
    """
    wanted = checked_fars(fars, reading=reading)
    if block < 1:
        raise ValueError(f"block is a number of scores, at least 1, got {block}.")
    unit = unit_rows(embeddings)
    identity = identity_labels(labels, len(unit))
    if max_images_per_identity is not None:
        kept = at_most_per_identity(identity, max_images_per_identity, seed=seed)
        unit, identity = unit[kept], identity[kept]
    summary = summarise_pairs(unit, identity, fars=wanted, block=block)
    return summary.pair_roc(wanted, reading=reading)
