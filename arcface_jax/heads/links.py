"""From logits to one loss per row."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.losses.cross_entropy import cross_entropy
from arcface_jax.margins import Context, MarginRule


def link_loss(
    negatives: Array,
    target: Array,
    is_label: Array,
    *,
    margin: MarginRule,
    context: Context,
    label_smoothing: ArrayLike | None,
) -> Array:
    """The loss of each row by the margin's link.

    Args:
      negatives: float[B, C], logits of the wrong classes; the true class's entry is ignored.
      target: float[B], logit of the true class.
      is_label: bool[B, C], the true class's entry.
      margin: says which link, and for ``"sum"`` each term.
      context: of the batch.
      label_smoothing: share of the true class's weight that is spread over all classes.

    Returns:
      float[B].

    >>> from arcface_jax.margins import norm_softmax
    >>> hot = jnp.array([[True, False]])
    >>> link_loss(
    ...     jnp.zeros((1, 2)), jnp.zeros(1), hot,
    ...     margin=norm_softmax(), context=Context(), label_smoothing=None,
    ... )
    Array([0.6931472], dtype=float32)
    """
    if margin.link == "sum":
        terms = jnp.where(is_label, 0.0, margin.negative_losses(negatives, context))
        return margin.target_loss(target, context) + jnp.sum(terms, axis=1)
    losses = cross_entropy(jnp.where(is_label, -jnp.inf, negatives), target)
    if label_smoothing is None:
        return losses
    others = jnp.sum(jnp.where(is_label, 0.0, negatives), axis=1)
    share = jnp.asarray(label_smoothing, losses.dtype)
    return losses + share * (target - (target + others) / negatives.shape[1])
