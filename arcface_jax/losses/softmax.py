"""Plain softmax cross entropy on features, weights and a bias."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.losses.cross_entropy import cross_entropy
from arcface_jax.losses.labels import check_labels, mark_rows, split_target


def inner_products(
    features: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None,
    precision: jax.lax.PrecisionLike,
) -> Array:
    """Logits of a linear classifier, float32[B, C]."""
    features, weights = geometry.as_float(features), geometry.as_float(weights)
    logits = jnp.matmul(features, weights.T, precision=precision)
    return logits if bias is None else logits + geometry.as_float(bias)[None, :]


def softmax(
    features: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST,
) -> Array:
    r"""Cross entropy of a linear classifier, one value per row.

    .. math:: \ell_i = -\log\frac{e^{W_{y_i} \cdot x_i + b_{y_i}}}{\sum_j e^{W_j \cdot x_i + b_j}}

    Args:
      features: float[B, D], not normalised.
      weights: float[C, D], one row per class.
      bias: float[C], or None for zero.
      labels: int[B]; -1 is ignored (loss 0).
      where: bool[B], rows that count; the others' loss is 0.
      precision: of the matrix product.

    Returns:
      float32[B] (float64 stays float64).

    Raises:
      ValueError: shapes do not fit, or a label lies outside [0, C).

    Source: Deng et al., ArcFace (CVPR 2019), eq. 1.

    >>> softmax(jnp.ones((1, 2)), jnp.zeros((2, 2)), None, jnp.array([0]))
    Array([0.6931472], dtype=float32)
    """
    logits = inner_products(features, weights, bias, precision)
    rows, num_classes = logits.shape
    labels = check_labels(labels, rows=rows, num_classes=num_classes)
    target, is_label = split_target(logits, labels)
    losses = cross_entropy(jnp.where(is_label, -jnp.inf, logits), target)
    return mark_rows(losses, labels, num_classes=num_classes, where=where)
