"""SphereFace-R: multiplicative margins on either side, three treatments of the feature's norm."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_choice, check_number
from arcface_jax.margins.combined import GRADIENTS, combined_target
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, detach_margin, like, per_row
from arcface_jax.margins.sphereface_psi import psi
from arcface_jax.margins.step_counter import CountsSteps

VARIANTS = ("v0", "v1", "v2")
NORMS = ("hard", "none", "soft")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SphereFaceR(CountsSteps):
    r"""A factor on the angle of the true class (v0, v1) or of the wrong ones (v2).

    .. math:: T_{v0} = \psi_m(\theta), \quad T_{v1} = \cos\min(m\theta, \pi), \quad
       N_{v2} = \cos(\theta_j / m)

    ======== ========================= ==============================================
    norm     scale                     loss
    ======== ========================= ==============================================
    hard     s                         ``weight / s * CE``
    none     ``|x|``, differentiated   ``weight * CE``
    soft     ``|x|``, differentiated   ``weight / s * CE + pull * abs(|x| - s)``
    ======== ========================= ==============================================

    With ``steps`` the factor starts at 1 and grows by ``increment`` after each of them.

    Args:
      m: factor on the angle, >= 1.
      variant: ``"v0"``, ``"v1"`` or ``"v2"``.
      feature_norm: ``"hard"``, ``"none"`` or ``"soft"``.
      gradient: as in :class:`Margin`.
      weight: of the cross entropy; None for 50, or 1 with ``feature_norm="none"``.
      pull: of the soft norm, tau.
      increment: what each step adds to the factor.
      steps: the step numbers after which the factor grows; empty keeps m.

    Raises:
      ValueError: m below 1, an unknown variant, norm or gradient.

    Source: Liu et al., SphereFace Revived (TPAMI 2022); variants as in OpenSphere.

    >>> from arcface_jax.margins import target_cosine
    >>> target_cosine(jnp.array([1.0, -1.0]), SphereFaceR(2.0, variant="v1"))
    Array([ 1., -1.], dtype=float32)
    """

    m: ArrayLike = 1.5
    variant: str = dataclasses.field(default="v0", kw_only=True, metadata={"static": True})
    feature_norm: str = dataclasses.field(default="hard", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})
    weight: ArrayLike = dataclasses.field(default=50.0, kw_only=True)
    pull: ArrayLike = dataclasses.field(default=0.01, kw_only=True)
    increment: ArrayLike = dataclasses.field(default=0.1, kw_only=True)
    steps: tuple[int, ...] = dataclasses.field(default=(), kw_only=True, metadata={"static": True})

    default_scale: ClassVar[float] = 30.0

    def __post_init__(self):
        check_choice("variant", self.variant, VARIANTS)
        check_choice("feature_norm", self.feature_norm, NORMS)
        check_choice("gradient", self.gradient, GRADIENTS)
        check_number("m", self.m, 1.0, math.inf)
        check_number("weight", self.weight, 0.0, math.inf, includes_low=False)
        check_number("pull", self.pull, 0.0, math.inf)

    @property
    def needs_norms(self) -> bool:
        """All but ``feature_norm="hard"``."""
        return self.feature_norm != "hard"

    @property
    def no_scale(self) -> str:
        """Only ``feature_norm="none"`` has no s."""
        if self.feature_norm != "none":
            return ""
        return 'the length of each embedding is its scale; take feature_norm="hard".'

    def scales(self, context: Context) -> Array:
        """The given scale, or the embeddings' own lengths."""
        if self.feature_norm == "hard":
            return super().scales(context)
        assert context.norms is not None
        return context.norms

    def _factor(self, context: Context, cosines: Array) -> Array:
        if not self.steps:
            return like(self.m, cosines)
        if context.state is None:
            passed = len(self.steps)
        else:
            passed = sum((context.state["step"] > q).astype(jnp.int32) for q in self.steps)
        return 1.0 + like(self.increment, cosines) * like(passed, cosines)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        if self.variant == "v2":
            return cosines
        factor = self._factor(context, cosines)
        if self.variant == "v0":
            value = psi(cosines, factor)
        else:
            value = combined_target(cosines, factor, 0.0, 0.0, tail="clip")
        return detach_margin(cosines, value, self.gradient)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, elementwise."""
        if self.variant != "v2":
            return cosines
        inverse = per_row(1.0 / self._factor(context, cosines), cosines)
        value = geometry.shifted_cosine(cosines, inverse, jnp.zeros((), cosines.dtype))
        return detach_margin(cosines, value, self.gradient)

    def finish(self, losses: Array, context: Context) -> Array:
        """Losses weighted, and with the pull of a soft norm."""
        weight = like(self.weight, losses)
        if self.feature_norm == "none":
            return weight * losses
        assert context.scale is not None
        scale = context.scale.astype(losses.dtype)
        losses = weight / scale * losses
        if self.feature_norm == "hard":
            return losses
        assert context.norms is not None
        return losses + like(self.pull, losses) * jnp.abs(context.norms - scale)


@register_margin(
    "sphereface_r",
    formula="v0: ψ(θ); v1: cos min(m θ, π); v2: cos θ against cos(θ_j / m)",
    source="Liu et al., SphereFace Revived, TPAMI 2022",
    state="step",
)
def sphereface_r(
    m: ArrayLike = 1.5,
    *,
    variant: str = "v0",
    feature_norm: str = "hard",
    gradient: str = "exact",
    weight: ArrayLike | None = None,
    pull: ArrayLike = 0.01,
    increment: ArrayLike = 0.1,
    steps: tuple[int, ...] = (),
) -> SphereFaceR:
    """SphereFace without annealing: v0, v1 on the true class, v2 on the wrong ones.

    ``gradient="straight_through"`` is what the authors' code trains with.

    Source: Liu et al., SphereFace Revived (TPAMI 2022).

    >>> sphereface_r(variant="v2", feature_norm="none").weight
    1.0
    """
    if weight is None:
        weight = 1.0 if feature_norm == "none" else 50.0
    return SphereFaceR(
        m,
        variant=variant,
        feature_norm=feature_norm,
        gradient=gradient,
        weight=weight,
        pull=pull,
        increment=increment,
        steps=steps,
    )
