"""Circle loss on classes: each cosine pulls as hard as it is far from its optimum."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins.bounds import check_number
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, like, per_row


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Circle(MarginRule):
    r"""Cosines weighted by their distance from the optimum; the weights are constants.

    .. math:: z_y = s\,[1 + m - c_y]_+ (c_y - (1 - m)), \quad z_j = s\,[c_j + m]_+ (c_j - m)

    Args:
      m: relaxation, in [0, 1].

    Raises:
      ValueError: m outside [0, 1].

    Source: Sun et al., Circle Loss (CVPR 2020), eqs. 5 to 8, class level.

    >>> Circle(0.25).negatives(jnp.array([0.25, -0.5]), Context())
    Array([ 0., -0.], dtype=float32)
    """

    m: ArrayLike = 0.25

    default_scale: ClassVar[float] = 256.0

    def __post_init__(self):
        check_number("m", self.m, 0.0, 1.0, includes_high=True)

    def target(self, cosines: Array, context: Context) -> Array:
        """The weighted cosine of the true class, elementwise."""
        del context
        m = like(self.m, cosines)
        return jax.lax.stop_gradient(jnp.maximum(1.0 + m - cosines, 0.0)) * (cosines - (1.0 - m))

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The weighted cosines of the other classes, elementwise."""
        del context
        m = per_row(like(self.m, cosines), cosines)
        return jax.lax.stop_gradient(jnp.maximum(cosines + m, 0.0)) * (cosines - m)


@register_margin(
    "circle_class",
    formula="[1 + m − c]₊ (c − 1 + m) against [c_j + m]₊ (c_j − m)",
    source="Sun et al., Circle Loss, CVPR 2020, eqs. 5 to 8",
)
def circle_class(m: ArrayLike = 0.25) -> Circle:
    """Circle loss against class centres; :func:`arcface_jax.losses.circle_pair` is on pairs.

    Source: Sun et al., Circle Loss (CVPR 2020).

    >>> circle_class().default_scale
    256.0
    """
    return Circle(m)
