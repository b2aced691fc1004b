"""A margin by itself: on cosines of the true class, and on a matrix of them."""

import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.by_class import take_classes
from arcface_jax.margins.rule import Context, MarginRule, per_row
from arcface_jax.margins.scale import scale_of


def target_cosine(cos: ArrayLike, margin: MarginRule) -> Array:
    """The cosine of the true class after the margin, elementwise.

    Args:
      cos: float[...], cosine of the angle to the true class's centre, in [-1, 1].
      margin: any margin; one that adapts to the batch shows its middling target.

    Returns:
      float32[...] (float64 stays float64), without the scale.

    >>> from arcface_jax.margins import cosface
    >>> target_cosine(jnp.array([1.0, 0.0]), cosface(0.25))
    Array([ 0.75, -0.25], dtype=float32)
    """
    return margin.target(geometry.clip_cosine(geometry.as_float(cos)), Context())


def margin_logits(
    cosines: ArrayLike,
    labels: ArrayLike,
    *,
    margin: MarginRule,
    scale: ArrayLike | None = None,
    context: Context | None = None,
) -> Array:
    r"""Scaled logits in which each row's true class has its margin.

    .. math:: z_{ij} = s\,\big(T(c_{ij})\,[j = y_i] + c_{ij}\,[j \neq y_i]\big)

    Args:
      cosines: float[B, C], cosine of embedding i to class centre j, in [-1, 1].
      labels: int[B]; -1 marks a row without a class, which gets no margin.
      margin: what happens to the true class's cosine.
      scale: s > 0, a scalar or one number per row; None for the margin's own.
      context: what an adaptive margin asks for: ``norms``, ``state``, ``key``, ``params``.

    Returns:
      float32[B, C] (float64 stays float64), whatever the dtype of ``cosines``: at s = 64
      neighbouring bfloat16 numbers are 0.25 to 0.5 apart.

    Raises:
      ValueError: shapes do not fit, or ``labels`` are not integers.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 4.

    >>> from arcface_jax.margins import cosface
    >>> cosines = jnp.array([[0.75, 0.125], [0.25, 0.5]])
    >>> margin_logits(cosines, jnp.array([0, 1]), margin=cosface(0.25), scale=8.0)
    Array([[4., 1.],
           [2., 2.]], dtype=float32)
    """
    cosines, labels = geometry.as_float(cosines), jnp.asarray(labels)
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1]:
        raise ValueError(
            f"expected cosines [B, C] and labels [B], got {cosines.shape} and {labels.shape}; "
            "for one-hot labels pass labels.argmax(-1)."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are class indices, got dtype {labels.dtype}; cast with "
            "labels.astype(jnp.int32)."
        )
    if margin.normalized:
        cosines = geometry.clip_cosine(cosines)
    # Compared, not indexed: an index of -1 would wrap round to the last class.
    is_label = labels[:, None] == jnp.arange(cosines.shape[1])[None, :]
    own = jnp.sum(jnp.where(is_label, cosines, 0.0), axis=1)
    margin = take_classes(margin, labels, num_classes=cosines.shape[1])
    context = dataclasses.replace(
        Context() if context is None else context,
        scale=scale_of(margin, scale),
        target_cosines=own,
        num_classes=cosines.shape[1],
    )
    target = margin.target(own, context)
    logits = jnp.where(is_label, target[:, None], margin.negatives(cosines, context))
    return logits * per_row(margin.scales(context), cosines).astype(logits.dtype)
