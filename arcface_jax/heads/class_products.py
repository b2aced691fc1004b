"""The products of embeddings and centres that a margin works on."""

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax import geometry


def nearest_center(products: Array, *, num_classes: int) -> Array:
    """The largest of each class's K products, float[B, C], with its gradient to that one alone.

    Args:
      products: float[B, C * K], the K of a class side by side.
      num_classes: C.

    >>> nearest_center(jnp.array([[0.5, 0.25, -1.0, 0.75]]), num_classes=2)
    Array([[0.5 , 0.75]], dtype=float32)
    """
    by_class = products.reshape(products.shape[0], num_classes, -1)
    # The maximum itself would share its gradient between equal entries.
    winner = jnp.argmax(jax.lax.stop_gradient(by_class), axis=2)
    return jnp.take_along_axis(by_class, winner[:, :, None], axis=2)[:, :, 0]


def ready_rows(embeddings: Array, *, normalized: bool) -> Array:
    """Embeddings as the products take them: of unit length, or as they are.

    >>> ready_rows(jnp.array([[3.0, 4.0]]), normalized=True)
    Array([[0.6, 0.8]], dtype=float32)
    """
    return geometry.unit(embeddings) if normalized else geometry.as_float(embeddings)


def class_products(
    rows: Array,
    centers: Array,
    bias: Array | None,
    *,
    normalized: bool,
    precision: jax.lax.PrecisionLike,
) -> Array:
    """float[B, C]: cosines, or inner products where nothing is normalised.

    Args:
      rows: float[B, D], from `ready_rows`.
      centers: float[C, D], or float[C, K, D] for several centres a class; as stored.
      bias: float[C] or None.
      normalized: whether products are cosines.
      precision: of the matrix product.

    >>> class_products(jnp.ones((1, 2)), jnp.eye(2), None, normalized=False, precision=None)
    Array([[1., 1.]], dtype=float32)
    """
    flat = ready_rows(centers.reshape(-1, centers.shape[-1]), normalized=normalized)
    products = jnp.matmul(rows, flat.T, precision=precision)
    if normalized:
        products = geometry.clip_cosine(products)
    if centers.ndim == 3:
        products = nearest_center(products, num_classes=centers.shape[0])
    return products if bias is None else products + bias[None, :].astype(products.dtype)


def own_products(
    rows: Array, centers: Array, bias: Array | None, labels: Array, *, normalized: bool
) -> Array:
    """The product of each row with its own class, float[B], without those of other classes.

    Args:
      rows: float[B, D], from `ready_rows`.
      centers: float[C, D] or float[C, K, D].
      bias: float[C] or None.
      labels: int[B]; a number outside [0, C) gives 0.
      normalized: whether products are cosines.

    >>> own_products(jnp.eye(2), jnp.eye(2), None, jnp.array([0, -1]), normalized=True)
    Array([1., 0.], dtype=float32)
    """
    inside = (labels >= 0) & (labels < centers.shape[0])
    chosen = jnp.where(inside, labels, 0)
    own = centers[chosen]
    own = own[:, None, :] if own.ndim == 2 else own
    products = jnp.sum(rows[:, None, :] * ready_rows(own, normalized=normalized), axis=-1)
    if normalized:
        products = geometry.clip_cosine(products)
    products = jnp.max(products, axis=1)
    if bias is not None:
        products = products + bias[chosen].astype(products.dtype)
    return jnp.where(inside, products, 0.0)
