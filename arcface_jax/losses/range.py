"""Range loss: the widest pairs of each class narrower, the two nearest classes apart."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.losses.pairs import nan_for_wrong_labels, taking_part

SHORTEST = 1e-6


def _distance(difference: Array) -> Array:
    """Length of each row, at least 1e-6 and constant there."""
    length = geometry.length(difference)
    return jnp.where(length <= SHORTEST, SHORTEST, length)


def _all_distances(x: Array) -> Array:
    """Distances between all rows, float[B, B], only to choose pairs by.

    From differences, row by row: from inner products, those of near rows would be rounding noise.
    """
    x = jax.lax.stop_gradient(x)
    return jax.lax.map(lambda row: _distance(x - row[None, :]), x)


def _widest(distances: Array, group: Array, k: int) -> tuple[Array, Array]:
    """Flat positions of each group's ``k`` largest distances, int[B, k], and which exist.

    Args:
      distances: float[B, B].
      group: int[B, B], number of the group of each pair, B for none.
      k: static.
    """
    rows = distances.shape[0]
    # Sorted by group, then from the largest down: a group's widest pairs are its first.
    order = jnp.lexsort((-distances.ravel(), group.ravel()))
    groups = group.ravel()[order]
    start, end = (
        jnp.searchsorted(groups, jnp.arange(rows, dtype=group.dtype), side=side)
        for side in ("left", "right")
    )
    position = start[:, None] + jnp.arange(k, dtype=start.dtype)[None, :]
    return order.at[position].get(mode="clip"), position < end[:, None]


def range_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 2,
    margin: ArrayLike = 0.1,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    where: ArrayLike | None = None,
) -> Array:
    r"""Harmonic mean of each class's widest distances, and a hinge on the nearest class means.

    .. math:: L = \alpha \sum_q \frac{k}{\sum_{l=1}^k 1 / d_{q,l}}
       + \beta \big[M - \min_{q < r} \lVert \mu_q - \mu_r \rVert\big]_+

    with d_{q,l} the k largest Euclidean distances between two rows of class q, all of them where
    it has fewer than k pairs, and mu_q the mean of its rows in the batch. A class of one row has
    no term in the first sum; a batch of one class has none in the second. Which pairs are chosen
    is constant in the gradient. Added to a classification loss with a weight.

    Args:
      embeddings: float[B, D], not normalised: distances are those of these rows.
      labels: int[B]; rows of -1 take no part.
      k: pairs per class, at least 1; static.
      margin: M, the distance that class means keep.
      alpha: weight of the first term.
      beta: weight of the second.
      where: bool[B]; the other rows take no part.

    Returns:
      float32[] (float64 stays float64).

    Raises:
      ValueError: shapes do not fit, a label below -1, ``k`` below 1. Inside compiled code such a
        label gives NaN.

    Source: Zhang et al., Range loss (ICCV 2017); defaults and the unsquared distance of means as
    in michuanhaohao/reid-strong-baseline.

    >>> x = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0], [4.0, 8.0]])
    >>> range_loss(x, jnp.array([0, 0, 1, 1]), margin=10.0)
    Array(5., dtype=float32)
    """
    if k < 1:
        raise ValueError(f"k={k} chooses no pair of a class; it is 1 or more.")
    x, labels, counts = taking_part(embeddings, labels, where)
    rows = x.shape[0]
    if not rows:
        return jnp.sum(x)
    members = counts[:, None] & counts[None, :] & (labels[:, None] == labels[None, :])
    # A class is known by its first row; the number of classes is not, inside compiled code.
    first = jnp.argmax(members, axis=1)
    index = jnp.arange(rows, dtype=first.dtype)
    is_first = counts & (first == index)
    above = index[:, None] < index[None, :]

    group = jnp.where(members & above, first[:, None], rows)
    pairs, exists = _widest(_all_distances(x), group, k)
    distances = _distance(x[pairs // rows] - x[pairs % rows])
    inverse = jnp.sum(jnp.where(exists, 1.0 / distances, 0.0), axis=1)
    found = jnp.sum(exists, axis=1).astype(x.dtype)
    intra = jnp.sum(found / jnp.where(found > 0.0, inverse, 1.0))

    sizes = jnp.maximum(jnp.sum(members, axis=1), 1).astype(x.dtype)
    means = jnp.matmul(members.astype(x.dtype), x, precision=jax.lax.Precision.HIGHEST)
    means = means / sizes[:, None]
    between = is_first[:, None] & is_first[None, :] & above
    nearest = jnp.argmin(jnp.where(between, _all_distances(means), jnp.inf))
    gap = _distance(means[nearest // rows] - means[nearest % rows])
    inter = jnp.where(jnp.any(between), jax.nn.relu(margin - gap), 0.0)
    return nan_for_wrong_labels(jnp.asarray(alpha * intra + beta * inter), labels, counts)
