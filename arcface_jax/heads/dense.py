"""The reference head: the whole matrix of logits in memory."""

import dataclasses

import jax
from jax import Array

from arcface_jax.heads.batch_losses import OneDevice
from arcface_jax.heads.class_products import class_products
from arcface_jax.heads.class_sums import ClassSums, sum_logits, wrong_logits
from arcface_jax.losses.labels import split_target
from arcface_jax.margins import Context, MarginRule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(OneDevice):
    """Forms all B x C logits at once; every other head is checked against it.

    Args:
      precision: of the matrix product; HIGHEST, since GPUs would use TF32 below it.

    >>> Dense().samples_classes
    False
    """

    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST

    def sums(
        self,
        rows: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        bias: Array | None,
        context: Context,
        smoothed: bool,
        counts: Array | None = None,
    ) -> tuple[Array, ClassSums]:
        """(own products, sums over wrong classes); see `SumsOverClasses`."""
        products = class_products(
            rows, centers, bias, normalized=margin.normalized, precision=self.precision
        )
        own, is_label = split_target(products, labels)
        wrong = ~is_label
        if counts is not None:
            wrong = wrong & (counts > 0)[None, :]
        logits = wrong_logits(products, margin, context)
        return own, sum_logits(logits, wrong, margin, context, smoothed=smoothed, counts=counts)
