"""The product of embeddings and centres that a margin works on."""

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax import geometry
from arcface_jax.losses.softmax import inner_products
from arcface_jax.margins import MarginRule


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


def class_products(
    embeddings: Array,
    centers: Array,
    bias: Array | None,
    *,
    margin: MarginRule,
    precision: jax.lax.PrecisionLike,
) -> Array:
    """float[B, C]: cosines, or inner products where the margin normalises nothing.

    Args:
      embeddings: float[B, D].
      centers: float[C, D], or float[C, K, D] for several centres a class.
      bias: float[C] or None.
      margin: says whether to normalise.
      precision: of the matrix product.

    >>> import arcface_jax as af
    >>> class_products(jnp.ones((1, 2)), jnp.eye(2), None, margin=af.softmax(), precision=None)
    Array([[1., 1.]], dtype=float32)
    """
    rows = centers.reshape(-1, centers.shape[-1])
    if margin.normalized:
        products = geometry.cosine_matrix(embeddings, rows, precision=precision)
    else:
        products = inner_products(embeddings, rows, None, precision)
    if centers.ndim == 3:
        products = nearest_center(products, num_classes=centers.shape[0])
    return products if bias is None else products + bias[None, :].astype(products.dtype)
