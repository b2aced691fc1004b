"""Cross entropy of one true class against the others, exact at both ends."""

import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(negatives: Array, target: Array) -> Array:
    r"""Cross entropy of the true class's logit against those of the other classes.

    .. math:: \ell = \log\Big(1 + \sum_{j \ne y} e^{z_j - z_y}\Big)
       = \mathrm{softplus}\big(\mathrm{LSE}_{j \ne y} z_j - z_y\big)

    The true class is kept out of the sum, so a dominating target loses no digits: a loss of 5e-41
    comes out as such, and none is capped.

    Args:
      negatives: float[B, C], logits with -inf at the true class and wherever a class is masked.
      target: float[B], logit of the true class.

    Returns:
      float[B], nats; 0 where there is no other class.

    >>> cross_entropy(jnp.array([[-jnp.inf, 1.0]]), jnp.array([1.0]))
    Array([0.6931472], dtype=float32)
    """
    top = jax.lax.stop_gradient(jnp.max(negatives, axis=-1))
    top = jnp.where(top > -jnp.inf, top, 0.0)
    total = jnp.sum(jnp.exp(negatives - top[:, None]), axis=-1)
    others = total > 0.0
    lse = jnp.where(others, jnp.log(jnp.where(others, total, 1.0)) + top, -jnp.inf)
    return jax.nn.softplus(lse - target)
