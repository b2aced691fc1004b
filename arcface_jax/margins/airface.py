"""AirFace: the angle itself in place of its cosine."""

import dataclasses
import math

import jax
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_angle, check_choice
from arcface_jax.margins.combined import GRADIENTS
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, detach_margin, like


def linear(cosines: Array, m: ArrayLike = 0.0) -> Array:
    r"""The angle on a straight line: :math:`(\pi - 2(\theta + m)) / \pi`.

    >>> import jax.numpy as jnp
    >>> linear(jnp.array([1.0, 0.0, -1.0]))
    Array([ 1.,  0., -1.], dtype=float32)
    """
    return 1.0 - 2.0 / math.pi * (geometry.angle(cosines) + like(m, cosines))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AirFace(MarginRule):
    r"""Li-ArcFace: logits linear in the angle, so no tail rule is needed.

    .. math:: z_y = s\,\frac{\pi - 2(\theta_y + m)}{\pi}, \quad z_j = s\,\frac{\pi - 2\theta_j}{\pi}

    Args:
      m: angle added, radians in [0, pi).
      all_classes: whether wrong classes are linear too, as in the paper.
      gradient: as in :class:`Margin`, for every transformed cosine.

    Raises:
      ValueError: m outside its bounds, an unknown gradient.

    Source: Li et al., AirFace (ICCVW 2019), eq. 4.

    >>> import jax.numpy as jnp
    >>> AirFace(0.0).target(jnp.array([1.0, 0.0]), Context())
    Array([1., 0.], dtype=float32)
    """

    m: ArrayLike = 0.4
    all_classes: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})

    def __post_init__(self):
        check_angle("m", self.m)
        check_choice("gradient", self.gradient, GRADIENTS)

    def target(self, cosines: Array, context: Context) -> Array:
        """The line through the true class's angle and margin, elementwise."""
        del context
        return detach_margin(cosines, linear(cosines, self.m), self.gradient)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The line through the other classes' angles, elementwise."""
        del context
        if not self.all_classes:
            return cosines
        return detach_margin(cosines, linear(cosines), self.gradient)


@register_margin(
    "airface",
    formula="(π − 2(θ + m)) / π against (π − 2 θ_j) / π",
    source="Li et al., AirFace, ICCVW 2019, eq. 4",
)
def airface(m: ArrayLike = 0.4, *, all_classes: bool = True, gradient: str = "exact") -> AirFace:
    """Logits linear in the angle.

    Source: Li et al., AirFace (ICCVW 2019).

    >>> airface(0.3).m
    0.3
    """
    return AirFace(m, all_classes=all_classes, gradient=gradient)
