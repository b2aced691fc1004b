"""Intra-loss and inter-loss: angles to the own centre, and between centres, as added terms."""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.known_names import unknown_name
from arcface_jax.losses.center import rows_and_centers
from arcface_jax.losses.labels import check_labels, mark_rows
from arcface_jax.losses.pairs import row_cosines, rows_that_count


def intra(
    embeddings: ArrayLike,
    centers: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> Array:
    r"""Angle of each embedding to its class centre as a share of pi, one value per row.

    .. math:: \ell_i = \theta_{i y_i} / \pi

    Added to a classification loss, with weight 1 in the paper. Only the centres of the batch's
    classes are read.

    Args:
      embeddings: float[B, D], not normalised.
      centers: float[C, D], not normalised.
      labels: int[B]; -1 is ignored (loss 0).
      where: bool[B], rows that count; the others' loss is 0.

    Returns:
      float32[B] in [0, 1] (float64 stays float64).

    Raises:
      ValueError: shapes do not fit, or a label lies outside [0, C). Inside compiled code such a
        label gives NaN in its row.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 5, of which this is one summand.

    >>> intra(jnp.array([[0.0, 2.0]]), jnp.array([[3.0, 0.0]]), jnp.array([0]))
    Array([0.5], dtype=float32)
    """
    x, centers, labels, counts = rows_and_centers(embeddings, centers, labels, where)
    losses = geometry.angle(row_cosines(x, centers[jnp.maximum(labels, 0)])) / math.pi
    return mark_rows(losses, labels, num_classes=centers.shape[0], where=counts)


KINDS: dict[str, Callable[[Array], Array]] = {
    "angle": lambda cosine: -geometry.angle(cosine) / math.pi,
    "cosine": lambda cosine: cosine,
}


def inter(
    centers: ArrayLike,
    labels: ArrayLike,
    *,
    kind: str = "angle",
    where: ArrayLike | None = None,
) -> Array:
    r"""Minus the mean angle, as a share of pi, of the batch's class centres to all others.

    .. math:: L = -\frac{1}{\pi B (C - 1)} \sum_i \sum_{j \ne y_i}
       \arccos(\hat W_{y_i} \cdot \hat W_j)

    Added to a classification loss, with weight 1 in the paper. A class counts as often as it is
    in the batch. Memory is min(B, C) x C.

    Args:
      centers: float[C, D], not normalised.
      labels: int[B]; -1 is ignored.
      kind: "angle" as above, or "cosine" for the mean of the cosines, with a plus.
      where: bool[B], rows that count.

    Returns:
      float32[] (float64 stays float64): in [-1, 0] for "angle", [-1, 1] for "cosine"; 0 with one
      class or without a row that counts.

    Raises:
      ValueError: shapes do not fit, a label lies outside [0, C), an unknown kind. Inside compiled
        code such a label gives NaN.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 6; "cosine" is deepinsight/insightface's later
    form without the centre's cosine to itself.

    >>> inter(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1, 1]))
    Array(-0.5, dtype=float32)
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    centers = geometry.as_float(centers)
    if centers.ndim != 2:
        raise ValueError(f"expected centers [C, D], rows are classes, got {centers.shape}.")
    num_classes, rows = centers.shape[0], math.prod(jnp.shape(labels)[:1])
    labels = check_labels(labels, rows=rows, num_classes=num_classes)
    counts = rows_that_count(labels, where)
    # 0 or 1, and NaN for a label that compiled code could not refuse.
    times = mark_rows(jnp.ones(rows, centers.dtype), labels, num_classes=num_classes, where=counts)
    total = jnp.sum(times)
    classes = jnp.maximum(labels, 0)
    if num_classes < rows:
        times = jnp.zeros(num_classes, centers.dtype).at[classes].add(times)
        classes = jnp.arange(num_classes, dtype=labels.dtype)
    values = KINDS[kind](geometry.cosine_matrix(centers[classes], centers))
    is_self = classes[:, None] == jnp.arange(num_classes, dtype=classes.dtype)[None, :]
    others = jnp.sum(jnp.where(is_self, 0.0, values), axis=1) / max(num_classes - 1, 1)
    return jnp.sum(times * others) / jnp.maximum(total, 1.0)
