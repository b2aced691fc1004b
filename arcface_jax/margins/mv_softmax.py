"""MV-softmax: misclassified vectors weigh more."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_angle, check_choice, check_number
from arcface_jax.margins.combined import GRADIENTS, TAILS, combined_target
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, detach_margin, like, per_row


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MVSoftmax(MarginRule):
    r"""ArcFace or CosFace whose wrong classes above the target are pushed up by a factor.

    .. math:: N(c_j) = \tau c_j + \tau - 1 \;\text{ if } c_j > T(c_y), \text{ else } c_j

    Args:
      m: angle added in radians (``"arc"``), or cosine taken off (``"am"``).
      kind: ``"arc"`` or ``"am"``.
      tau: factor on hard wrong classes, >= 1 in the paper.
      conditional: for ``"am"``: rows with ``c_y <= m`` get no margin, as in FaceX-Zoo.
      tail: for ``"arc"``, as in :class:`Margin`; FaceX-Zoo has ``"easy"``.
      gradient: as in :class:`Margin`; the factor on wrong classes keeps its own.

    Raises:
      ValueError: a number outside its bounds, an unknown kind, tail or gradient.

    Source: Wang et al., Mis-classified Vector Guided Softmax (AAAI 2020), eqs. 6 to 9.

    >>> MVSoftmax(0.25, kind="am").target(jnp.array([0.5, 0.25]), Context())
    Array([0.25, 0.25], dtype=float32)
    """

    m: ArrayLike = 0.35
    kind: str = dataclasses.field(default="arc", kw_only=True, metadata={"static": True})
    tau: ArrayLike = dataclasses.field(default=1.12, kw_only=True)
    conditional: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})
    tail: str = dataclasses.field(default="hard", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})

    default_scale: ClassVar[float] = 32.0

    def __post_init__(self):
        check_choice("kind", self.kind, ("arc", "am"))
        check_choice("tail", self.tail, TAILS)
        check_choice("gradient", self.gradient, GRADIENTS)
        if self.kind == "arc":
            check_angle("m", self.m)
        else:
            check_number("m", self.m, 0.0, 2.0)
        check_number("tau", self.tau, 0.0, float("inf"), includes_low=False)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        if self.kind == "arc":
            value = combined_target(cosines, 1.0, self.m, 0.0, tail=self.tail)
            return detach_margin(cosines, value, self.gradient)
        m = like(self.m, cosines)
        return jnp.where(cosines > m, cosines - m, cosines) if self.conditional else cosines - m

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, elementwise."""
        if context.target_cosines is None:
            return cosines
        own = jax.lax.stop_gradient(context.target_cosines)
        m = like(self.m, own)
        limit = geometry.shifted_cosine(own, like(1.0, own), m) if self.kind == "arc" else own - m
        tau = like(self.tau, cosines)
        return jnp.where(cosines > per_row(limit, cosines), tau * cosines + tau - 1.0, cosines)


@register_margin(
    "mv_softmax_arc",
    formula="cos(θ + m) against τ cos θ_j + τ − 1 where cos θ_j is above it",
    source="Wang et al., Mis-classified Vector Guided Softmax, AAAI 2020",
)
def mv_softmax_arc(
    m: ArrayLike = 0.35, *, tau: ArrayLike = 1.12, tail: str = "hard", gradient: str = "exact"
) -> MVSoftmax:
    """ArcFace with a factor on the wrong classes above the target; ``tau=1`` is ArcFace.

    Source: Wang et al., Mis-classified Vector Guided Softmax (AAAI 2020).

    >>> mv_softmax_arc().kind
    'arc'
    """
    return MVSoftmax(m, kind="arc", tau=tau, tail=tail, gradient=gradient)


@register_margin(
    "mv_softmax_am",
    formula="cos θ − m against τ cos θ_j + τ − 1 where cos θ_j is above it",
    source="Wang et al., Mis-classified Vector Guided Softmax, AAAI 2020",
)
def mv_softmax_am(
    m: ArrayLike = 0.35, *, tau: ArrayLike = 1.12, conditional: bool = True
) -> MVSoftmax:
    """CosFace with a factor on the wrong classes above the target.

    Source: Wang et al., Mis-classified Vector Guided Softmax (AAAI 2020).

    >>> mv_softmax_am(0.2).kind
    'am'
    """
    return MVSoftmax(m, kind="am", tau=tau, conditional=conditional)
