"""Triplet loss: a class's own rows nearer than the others', by a margin."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.known_names import unknown_name
from arcface_jax.losses.pairs import (
    nan_for_wrong_labels,
    row_cosines,
    same_and_different,
    taking_part,
)

Triplets = tuple[ArrayLike, ArrayLike, ArrayLike]


def _chord(cosine: Array) -> Array:
    square = 2.0 - 2.0 * cosine
    coincide = square <= 1e-12
    return jnp.where(coincide, 1e-6, jnp.sqrt(jnp.where(coincide, 1.0, square)))


DISTANCES: dict[str, Callable[[Array], Array]] = {
    "angle": geometry.angle,
    "squared_euclidean": lambda cosine: 2.0 - 2.0 * cosine,
    "euclidean": _chord,
    "cosine": lambda cosine: -cosine,
}


class Mined(NamedTuple):
    """Triplets as cosines of anchor to positive and to negative, and which of them exist.

    The three broadcast together.
    """

    positive: Array
    negative: Array
    exists: Array


def _check_triplets(triplets: Triplets | None, rows: int) -> tuple[Array, Array, Array]:
    """(anchors, positives, negatives), int[T] each; three equal blocks of the batch for None."""
    if triplets is None:
        if rows % 3:
            raise ValueError(
                f"{rows} rows are not three equal blocks of anchors, positives and negatives; "
                "pass triplets=(anchors, positives, negatives) as row indices."
            )
        anchors, positives, negatives = jnp.arange(rows).reshape(3, -1)
        return anchors, positives, negatives
    indices = [i if isinstance(i, jax.Array) else np.asarray(i) for i in triplets]
    kinds = {(i.shape, jnp.issubdtype(i.dtype, jnp.integer), i.ndim) for i in indices}
    if len(indices) != 3 or kinds != {(indices[0].shape, True, 1)}:
        got = ", ".join(f"{i.dtype}{i.shape}" for i in indices)
        raise ValueError(
            f"triplets are three index arrays int[T] (anchors, positives, negatives), got {got}."
        )
    for index in indices:
        if not isinstance(index, Tracer):
            values = np.asarray(index)
            wrong = np.flatnonzero((values < 0) | (values >= rows))
            if wrong.size:
                raise ValueError(
                    f"triplets name row {values[wrong[0]]} at position {wrong[0]}; "
                    f"rows lie in [0, {rows})."
                )
    anchors, positives, negatives = map(jnp.asarray, indices)
    return anchors, positives, negatives


def _given(embeddings: Array, labels: Array, counts: Array, triplets: Triplets | None) -> Mined:
    del labels  # who gives the triplets has chosen them
    rows = embeddings.shape[0]
    index = jnp.stack(_check_triplets(triplets, rows))
    wrong = jnp.any((index < 0) | (index >= rows), axis=0)
    anchor, positive, negative = embeddings[index]
    return Mined(
        jnp.where(wrong, jnp.nan, row_cosines(anchor, positive)),
        jnp.where(wrong, jnp.nan, row_cosines(anchor, negative)),
        jnp.all(counts[index], axis=0) | wrong,
    )


def _batch_all(embeddings: Array, labels: Array, counts: Array, triplets: None) -> Mined:
    cosine = geometry.cosine_matrix(embeddings, embeddings)
    same, different = same_and_different(labels, counts)
    return Mined(cosine[:, :, None], cosine[:, None, :], same[:, :, None] & different[:, None, :])


def _batch_hard(embeddings: Array, labels: Array, counts: Array, triplets: None) -> Mined:
    cosine = geometry.cosine_matrix(embeddings, embeddings)
    same, different = same_and_different(labels, counts)
    if not labels.size:
        none = jnp.zeros(0, cosine.dtype)
        return Mined(none, none, counts)
    # Every distance falls with the cosine. Chosen and gathered: `min` would split the gradient
    # among equally hard pairs.
    positive = jnp.argmin(jnp.where(same, cosine, jnp.inf), axis=1)
    negative = jnp.argmax(jnp.where(different, cosine, -jnp.inf), axis=1)
    return Mined(
        jnp.take_along_axis(cosine, positive[:, None], axis=1)[:, 0],
        jnp.take_along_axis(cosine, negative[:, None], axis=1)[:, 0],
        jnp.any(same, axis=1) & jnp.any(different, axis=1),
    )


MININGS = {"batch_hard": _batch_hard, "batch_all": _batch_all, "given": _given}


def triplet(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    margin: ArrayLike = 0.35,
    distance: str = "angle",
    mining: str = "batch_hard",
    mean_over: str = "all",
    triplets: Triplets | None = None,
    where: ArrayLike | None = None,
) -> tuple[Array, Array]:
    r"""Hinge on how much farther the positive is than the negative, one value per triplet.

    .. math:: \ell_{apn} = \big[d(\hat x_a, \hat x_p) - d(\hat x_a, \hat x_n) + m\big]_+

    The mean over triplets is ``sum(values) / sum(counts)``, also when the sums run over several
    batches or devices. Which triplets are chosen is constant in the gradient.

    Args:
      embeddings: float[B, D], not normalised.
      labels: int[B]; rows of -1 are in no triplet. None where the triplets are given.
      margin: m > 0 in the unit of ``distance``.
      distance: "angle" in radians, "squared_euclidean" (2 - 2 cos), "euclidean" or "cosine"
        (-cos) between the normalised rows.
      mining: "batch_hard", each anchor with its farthest positive and its nearest negative;
        "batch_all", every triplet of the batch, whose memory is B³; "given", those of
        ``triplets``.
      mean_over: "all" counts every triplet that exists, "active" those with a value above 0.
      triplets: for "given", rows (anchors, positives, negatives), int[T] each; None reads the
        batch as three equal blocks in this order.
      where: bool[B]; the other rows are in no triplet.

    Returns:
      (values, counts), float32 (float64 stays float64) and bool, 0 where not counted: [B], one
      per anchor, for "batch_hard"; [B, B, B] over anchor, positive, negative for "batch_all";
      [T] for "given".

    Raises:
      ValueError: an unknown name, shapes do not fit, a label below -1 or a row that does not
        exist. Inside compiled code such a label makes all values NaN, such a row those of its
        triplets.

    Source: Deng et al., ArcFace (CVPR 2019), section 3.1, angle 0.35; Schroff et al., FaceNet
    (CVPR 2015), squared_euclidean 0.2; Hermans et al. (2017), batch_hard with euclidean.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> triplet(x, jnp.array([0, 0, 1]), distance="squared_euclidean", margin=0.5)
    (Array([0. , 0.5, 0. ], dtype=float32), Array([ True,  True, False], dtype=bool))
    """
    for what, name, known in (
        ("distance", distance, DISTANCES),
        ("mining", mining, MININGS),
        ("mean_over", mean_over, ("all", "active")),
    ):
        if name not in known:
            raise unknown_name(what, name, known)
    if triplets is not None and mining != "given":
        raise ValueError(f'triplets are read by mining="given", not by mining={mining!r}.')
    if labels is None:
        if mining != "given":
            raise ValueError(f"mining={mining!r} finds triplets by labels int[B], got None.")
        labels = np.zeros(np.shape(embeddings)[:1], np.int32)
    embeddings, labels, counts = taking_part(embeddings, labels, where)
    mined = MININGS[mining](embeddings, labels, counts, triplets)
    to_positive, to_negative = (DISTANCES[distance](c) for c in (mined.positive, mined.negative))
    # relu, whose derivative at 0 is 0; that of maximum is 1/2.
    values = jax.nn.relu(to_positive - to_negative + margin)
    values = jnp.where(mined.exists, nan_for_wrong_labels(values, labels, counts), 0.0)
    return values, mined.exists & (values > 0.0) if mean_over == "active" else mined.exists
