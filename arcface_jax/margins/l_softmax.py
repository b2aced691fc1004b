"""L-softmax: psi on plain inner products."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax import geometry
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule
from arcface_jax.margins.sphereface_psi import check_factor, psi


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LSoftmax(MarginRule):
    r"""Large-margin softmax: nothing normalised, the true class's angle multiplied.

    .. math:: z_y = \lVert W_y\rVert \lVert x\rVert\,\psi_m(\theta_y), \quad z_j = W_j \cdot x

    Args:
      m: factor on the angle, an integer >= 1.

    Raises:
      ValueError: m is not an integer >= 1.

    Source: Liu et al., Large-Margin Softmax Loss (ICML 2016), eqs. 5 and 6.

    >>> from arcface_jax.margins import target_cosine
    >>> target_cosine(jnp.array([1.0, -1.0]), LSoftmax(2))
    Array([ 1., -3.], dtype=float32)
    """

    m: int = dataclasses.field(default=4, metadata={"static": True})

    normalized: ClassVar[bool] = False
    needs_center_norms: ClassVar[bool] = True

    def __post_init__(self):
        check_factor(self.m)
        if not float(self.m).is_integer():
            raise ValueError(f"m={self.m} must be an integer; sphereface_psi takes others.")

    @property
    def needs_norms(self) -> bool:
        """Yes: they are part of the logits."""
        return True

    @property
    def no_scale(self) -> str:
        """Lengths of embeddings and centres set the scale."""
        return "the lengths of embeddings and centres scale l_softmax; take sphereface_psi."

    def scales(self, context: Context) -> Array:
        """One: the inner products are the logits."""
        del context
        return jnp.float32(1.0)

    def target(self, cosines: Array, context: Context) -> Array:
        """The true class's logit from its inner product; without lengths, from its cosine."""
        if context.norms is None or context.center_norms is None:
            return psi(geometry.clip_cosine(cosines), self.m)
        lengths = (context.norms * context.center_norms).astype(cosines.dtype)
        some = lengths > 0.0
        own = geometry.clip_cosine(cosines / jnp.where(some, lengths, 1.0))
        return cosines + jnp.where(some, lengths * (psi(own, self.m) - own), 0.0)


@register_margin(
    "l_softmax",
    formula="‖W_y‖ ‖x‖ ψ(θ), nothing normalised",
    source="Liu et al., Large-Margin Softmax Loss, ICML 2016, eqs. 5 and 6",
)
def l_softmax(m: int = 4) -> LSoftmax:
    """Plain softmax whose true class must win at ``m`` times its angle.

    Source: Liu et al., Large-Margin Softmax Loss (ICML 2016).

    >>> l_softmax(2)
    LSoftmax(m=2)
    """
    return LSoftmax(m)
