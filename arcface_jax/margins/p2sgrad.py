"""P2SGrad: squared distances of cosines from 1 and 0, no probabilities."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax.margins.bounds import check_choice
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class P2SGrad(MarginRule):
    r"""A mean squared error whose gradient is the cosine's own distance from its goal.

    .. math:: \ell = \frac1C \sum_j (c_j - [j = y])^2, \quad \text{or with } \tfrac12
       \text{ in place of } \tfrac1C

    Args:
      normalization: ``"mse"`` (mean over classes), or ``"paper"`` (half the sum, whose gradient is
        the one that the paper states).

    Raises:
      ValueError: an unknown normalization.

    Source: Zhang et al., P2SGrad (CVPR 2019), eq. 9.

    >>> P2SGrad().link
    'sum'
    """

    normalization: str = dataclasses.field(default="mse", kw_only=True, metadata={"static": True})

    link: ClassVar[str] = "sum"
    needs_all_classes: ClassVar[str] = "it is a sum over all classes, with nothing to normalise it"

    def __post_init__(self):
        check_choice("normalization", self.normalization, ("mse", "paper"))

    @property
    def no_scale(self) -> str:
        """Cosines are compared with 0 and 1 as they are."""
        return "p2sgrad compares cosines with 0 and 1 as they are."

    def scales(self, context: Context) -> Array:
        """One."""
        del context
        return jnp.float32(1.0)

    def _weight(self, context: Context) -> float:
        if self.normalization == "paper":
            return 0.5
        assert context.num_classes is not None
        return 1.0 / context.num_classes

    def target_loss(self, logits: Array, context: Context) -> Array:
        """The squared distance from 1."""
        return self._weight(context) * jnp.square(logits - 1.0)

    def negative_losses(self, logits: Array, context: Context) -> Array:
        """The squared distances from 0."""
        return self._weight(context) * jnp.square(logits)


@register_margin(
    "p2sgrad",
    formula="(cos θ − 1)² + Σ cos² θ_j, over C",
    source="Zhang et al., P2SGrad, CVPR 2019, eq. 9",
)
def p2sgrad(*, normalization: str = "mse") -> P2SGrad:
    """Cosines drawn to 1 and 0 by their own distance; no scale, no margin.

    Source: Zhang et al., P2SGrad (CVPR 2019).

    >>> p2sgrad(normalization="paper").has_scale
    False
    """
    return P2SGrad(normalization=normalization)
