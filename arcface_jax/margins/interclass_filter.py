"""Inter-class filtering: wrong classes that look like the right one are left alone."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins.bounds import check_number
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, like
from arcface_jax.margins.wrapper import ARCFACE, Wrapper


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InterclassFilter(Wrapper):
    r"""Wrong classes with a cosine above the threshold count as perpendicular.

    .. math:: c_{ij} \leftarrow 0 \;\text{ if } c_{ij} > \tau, \; j \ne y_i

    In sets with wrong labels such a class may be the same person under another name. Its logit is
    0, not minus infinity, and it gets no gradient.

    Args:
      margin: any margin on cosines.
      threshold: tau, a cosine; 0 filters nothing.

    Raises:
      ValueError: a margin that is not on cosines, a threshold outside [0, 1].

    Source: insightface, arcface_torch ``interclass_filtering_threshold``.

    >>> InterclassFilter(threshold=0.5).negatives(jnp.array([0.25, 0.75]), Context())
    Array([0.25, 0.  ], dtype=float32)
    """

    threshold: ArrayLike = dataclasses.field(default=0.4, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if not self.margin.normalized:
            raise ValueError(
                f"{type(self.margin).__name__} is on inner products, and the threshold is a cosine."
            )
        check_number("threshold", self.threshold, 0.0, 1.0, includes_high=True)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, elementwise."""
        threshold = like(self.threshold, cosines)
        similar = (cosines > threshold) & (threshold > 0.0)
        return self.margin.negatives(jnp.where(similar, 0.0, cosines), context)


@register_margin(
    "interclass_filter",
    formula="of the wrapped margin, against cos θ_j set to 0 where it is above τ",
    source="insightface, arcface_torch",
)
def interclass_filter(
    margin: MarginRule = ARCFACE, *, threshold: ArrayLike = 0.4
) -> InterclassFilter:
    """Any margin, with wrong classes above ``threshold`` left alone.

    >>> import arcface_jax as af
    >>> interclass_filter(af.cosface(0.4), threshold=0.3).margin.m3
    0.4
    """
    return InterclassFilter(margin, threshold=threshold)
