"""Circle loss over the pairs of a batch."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.losses.pairs import (
    nan_for_wrong_labels,
    same_and_different,
    taking_part,
)


def circle_of_cosines(
    cosines: Array, same: Array, different: Array, *, m: ArrayLike, scale: ArrayLike
) -> tuple[Array, Array]:
    """`circle_pair` from the cosines of all pairs and which of them are positives and negatives.

    Args:
      cosines: float[B, B].
      same: bool[B, B], the positives of each row.
      different: bool[B, B], its negatives.
      m: as in `circle_pair`.
      scale: as in `circle_pair`.

    Returns:
      (values, counts), float[B] and bool[B].

    >>> circle_of_cosines(jnp.eye(1), jnp.eye(1) < 0, jnp.eye(1) < 0, m=0.4, scale=80.0)
    (Array([0.], dtype=float32), Array([False], dtype=bool))
    """
    m = jnp.asarray(m, cosines.dtype)
    constant = jax.lax.stop_gradient(cosines)
    pull = scale * jax.nn.relu(1.0 + m - constant) * (1.0 - m - cosines)
    push = scale * jax.nn.relu(constant + m) * (cosines - m)
    counts = jnp.any(same, axis=1) & jnp.any(different, axis=1)
    # A row that does not count sums over all pairs: the logarithm of an empty sum would make its
    # gradient NaN, although the value is dropped.
    dropped = ~counts[:, None]
    pulls = jax.nn.logsumexp(jnp.where(same | dropped, pull, -jnp.inf), axis=1)
    pushes = jax.nn.logsumexp(jnp.where(different | dropped, push, -jnp.inf), axis=1)
    return jnp.where(counts, jax.nn.softplus(pulls + pushes), 0.0), counts


def circle_pair(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    m: ArrayLike = 0.4,
    scale: ArrayLike = 80.0,
    where: ArrayLike | None = None,
) -> tuple[Array, Array]:
    r"""Circle loss of each row against the batch, each pair weighted by how far it is from done.

    .. math:: \ell_i = \log\Big(1 + \sum_n e^{s\,\alpha_n (c_{in} - m)}
       \sum_p e^{s\,\alpha_p (1 - m - c_{ip})}\Big), \qquad
       \alpha_n = [c_{in} + m]_+, \quad \alpha_p = [1 + m - c_{ip}]_+

    with p over the other rows of the class, n over the rows of other classes. The weights
    alpha are constant in the gradient.

    Args:
      embeddings: float[B, D], not normalised.
      labels: int[B]; rows of -1 are in no pair.
      m: relaxation in units of cosine, in (0, 1); 0.25 for faces.
      scale: s > 0; 256 for faces.
      where: bool[B]; the other rows are in no pair.

    Returns:
      (values, counts), float32[B] (float64 stays float64) and bool[B]: rows with a positive and
      a negative; the others' value is 0. The mean is ``sum(values) / sum(counts)``.

    Raises:
      ValueError: shapes do not fit, or a label is below -1. Inside compiled code such a label
        makes all values NaN.

    Source: Sun et al., Circle loss (CVPR 2020), eqs. 5 and 6.

    >>> values, counts = circle_pair(jnp.eye(3), jnp.array([0, 0, 1]), m=0.5, scale=4.0)
    >>> values.round(3)
    Array([2.127, 2.127, 0.   ], dtype=float32)
    >>> counts
    Array([ True,  True, False], dtype=bool)
    """
    embeddings, labels, taken = taking_part(embeddings, labels, where)
    same, different = same_and_different(labels, taken)
    cosines = geometry.cosine_matrix(embeddings, embeddings)
    values, counts = circle_of_cosines(cosines, same, different, m=m, scale=scale)
    return jnp.where(counts, nan_for_wrong_labels(values, labels, taken), 0.0), counts
