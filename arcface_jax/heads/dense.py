"""The reference head: the whole matrix of logits in memory."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.heads.class_products import class_products
from arcface_jax.heads.links import link_loss
from arcface_jax.losses.labels import split_target
from arcface_jax.margins import Context, MarginRule
from arcface_jax.margins.rule import per_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense:
    """Forms all B x C logits at once; every other head is checked against it.

    Args:
      precision: of the matrix product; HIGHEST, since GPUs would use TF32 below it.

    >>> Dense().samples_classes
    False
    """

    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST

    @property
    def samples_classes(self) -> bool:
        """No: every class counts in every step."""
        return False

    def __call__(
        self,
        embeddings: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        bias: Array | None,
        context: Context,
        label_smoothing: ArrayLike | None,
    ) -> tuple[Array, Context]:
        """One loss per row and the context after the margin has observed the batch."""
        products = class_products(
            embeddings, centers, bias, margin=margin, precision=self.precision
        )
        own, is_label = split_target(products, labels)
        context = dataclasses.replace(context, target_cosines=own)
        if margin.needs_center_norms:
            own_centers = centers[jnp.clip(labels, 0, centers.shape[0] - 1)]
            context = dataclasses.replace(context, center_norms=geometry.length(own_centers))
        others_scale = margin.others_scale(context)
        if others_scale is not None:
            others = margin.negatives(products, context)
            logits = jax.lax.stop_gradient(others_scale.astype(products.dtype) * others)
            others = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=1)
            context = dataclasses.replace(context, others_lse=others)
        context = margin.observe(context)
        scales = margin.scales(context).astype(products.dtype)
        losses = link_loss(
            per_row(scales, products) * margin.negatives(products, context),
            scales * margin.target(own, context),
            is_label,
            margin=margin,
            context=context,
            label_smoothing=label_smoothing,
        )
        return losses, context
