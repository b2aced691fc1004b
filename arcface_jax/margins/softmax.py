"""Plain softmax: nothing normalised, no margin."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Softmax(MarginRule):
    r"""Plain softmax: inner products and a bias, nothing normalised, no scale and no margin.

    .. math:: z_{ij} = W_j \cdot x_i + b_j

    Source: Deng et al., ArcFace (CVPR 2019), eq. 1.

    >>> Softmax().normalized
    False
    """

    normalized: ClassVar[bool] = False

    @property
    def has_bias(self) -> bool:
        """Yes."""
        return True

    @property
    def no_scale(self) -> str:
        """Lengths of embeddings and centres set the scale."""
        return "the lengths of embeddings and centres scale softmax; take norm_softmax."

    def scales(self, context: Context) -> Array:
        """One: the inner products are the logits."""
        del context
        return jnp.float32(1.0)


@register_margin(
    "softmax",
    formula="W · x + b, nothing normalised",
    source="Deng et al., ArcFace, CVPR 2019, eq. 1",
)
def softmax() -> Softmax:
    """Plain softmax with a bias, nothing normalised (ArcFace paper, eq. 1).

    >>> softmax()
    Softmax()
    """
    return Softmax()
