"""The reference head: the whole matrix of logits in memory."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.losses.cross_entropy import cross_entropy
from arcface_jax.losses.labels import split_target
from arcface_jax.losses.softmax import inner_products
from arcface_jax.margins import Context, MarginRule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense:
    """Forms all B x C logits at once; every other head is checked against it.

    Args:
      precision: of the matrix product; HIGHEST, since GPUs would use TF32 below it.

    >>> Dense().precision == jax.lax.Precision.HIGHEST
    True
    """

    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST

    def __call__(
        self,
        embeddings: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        scale: ArrayLike | None,
        bias: Array | None,
        context: Context,
    ) -> tuple[Array, Context]:
        """One loss per row and the context after the margin has observed the batch."""
        if margin.normalized:
            cosines = geometry.cosine_matrix(embeddings, centers, precision=self.precision)
        else:
            cosines = inner_products(embeddings, centers, bias, self.precision)
        own, is_label = split_target(cosines, labels)
        context = margin.observe(own, context)
        scales = margin.scales(scale, context).astype(cosines.dtype)
        target = scales * margin.target(own, context)
        negatives = jnp.reshape(scales, (-1, 1)) * margin.negatives(cosines, context)
        return cross_entropy(jnp.where(is_label, -jnp.inf, negatives), target), context
