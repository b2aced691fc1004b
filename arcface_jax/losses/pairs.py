"""What losses over pairs of rows share: which rows take part, which pairs are of one class."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.losses.labels import check_labels, rows_that_count

# Pair losses compare labels and never index with them: any int32 names a class.
ANY_CLASS = int(np.iinfo(np.int32).max)


def taking_part(
    embeddings: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """(embeddings with zero in rows that take no part, labels, which rows take part).

    Args:
      embeddings: float[B, D].
      labels: int[B]; -1 takes no part.
      where: bool[B], or None for all.

    Returns:
      (float32[B, D], int32[B], bool[B]); float64 stays float64.

    Raises:
      ValueError: shapes do not fit, or a label is below -1.

    >>> taking_part(jnp.ones((2, 1)), jnp.array([5, -1]), None)[0]
    Array([[1.],
           [0.]], dtype=float32)
    """
    embeddings = geometry.as_float(embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"expected embeddings [B, D], one row each, got {embeddings.shape}.")
    labels = check_labels(labels, rows=embeddings.shape[0], num_classes=ANY_CLASS)
    counts = rows_that_count(labels, where)
    # Zero in front of the loss, not behind it: a NaN in a padding row would spread through the
    # gradient of every pair it is in.
    return jnp.where(counts[:, None], embeddings, 0.0), labels, counts


def nan_for_wrong_labels(values: Array, labels: Array, counts: Array) -> Array:
    """``values``, or NaN throughout where compiled code met a label below -1 in a row that counts.

    Such a row is in a pair with every other, so no value is right.

    >>> nan_for_wrong_labels(jnp.ones(2), jnp.array([3, -2]), jnp.array([True, True]))
    Array([nan, nan], dtype=float32)
    """
    return jnp.where(jnp.any(counts & (labels < 0)), jnp.nan, values)


def same_and_different(labels: Array, counts: Array) -> tuple[Array, Array]:
    """Pairs of one class without a row's pair with itself, and pairs of two classes.

    Args:
      labels: int[B].
      counts: bool[B]; the other rows are in no pair.

    Returns:
      (bool[B, B], bool[B, B]).

    >>> same, different = same_and_different(jnp.array([4, 4, 7]), jnp.array([True, True, True]))
    >>> same.sum(axis=1), different.sum(axis=1)
    (Array([1, 1, 0], dtype=int32), Array([1, 1, 2], dtype=int32))
    """
    both = counts[:, None] & counts[None, :]
    equal = labels[:, None] == labels[None, :]
    return both & equal & ~jnp.eye(labels.shape[0], dtype=bool), both & ~equal


def row_cosines(first: Array, second: Array) -> Array:
    """Cosine of each row of ``first`` to the same row of ``second``, float[...] from float[..., D].

    >>> row_cosines(jnp.array([[0.0, 2.0]]), jnp.array([[3.0, 4.0]]))
    Array([0.8], dtype=float32)
    """
    products = geometry.unit(first) * geometry.unit(second)
    return geometry.clip_cosine(jnp.sum(products, axis=-1))
