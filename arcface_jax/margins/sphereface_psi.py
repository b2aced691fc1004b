"""SphereFace as published: a factor on the angle, monotone by pieces, with annealing."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_choice, is_number
from arcface_jax.margins.combined import GRADIENTS
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, detach_margin, like
from arcface_jax.margins.step_counter import CountsSteps


def check_factor(m: float) -> None:
    """Refuses a factor on the angle that does not cut [0, pi] into pieces.

    >>> check_factor(0.5)
    Traceback (most recent call last):
    ValueError: m=0.5 must be a Python number >= 1: psi is cut into ceil(m) pieces.
    """
    if not is_number(m) or not math.isfinite(m) or m < 1:
        raise ValueError(f"m={m!r} must be a Python number >= 1: psi is cut into ceil(m) pieces.")


def psi(cosines: Array, m: ArrayLike) -> Array:
    r"""The cosine of m times the angle, made monotone piece by piece.

    .. math:: \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \quad
       k = \min(\lfloor m\theta/\pi \rfloor, \lceil m \rceil - 1)

    An integer ``m`` that is a Python number is taken as a polynomial, with no sine to divide by.

    Source: Liu et al., SphereFace (CVPR 2017), eq. 7.

    >>> psi(jnp.array([1.0, -1.0]), 2)
    Array([ 1., -3.], dtype=float32)
    """
    factor = like(m, cosines)
    theta = jax.lax.stop_gradient(geometry.angle(cosines))
    k = jnp.clip(jnp.floor(theta * factor / math.pi), 0.0, jnp.ceil(factor) - 1.0)
    sign = 1.0 - 2.0 * jnp.mod(k, 2.0)
    if is_number(m) and float(m).is_integer():
        multiple = geometry.chebyshev(cosines, int(m))
    else:
        multiple = geometry.shifted_cosine(cosines, factor, jnp.zeros((), cosines.dtype))
    return sign * multiple - 2.0 * k


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PsiMargin(CountsSteps):
    r"""SphereFace as published: the angle times m, made monotone piece by piece, with annealing.

    .. math:: T = \frac{\lambda\cos\theta + \psi(\theta)}{1 + \lambda}, \quad
       \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \quad k = \lfloor m\theta/\pi \rfloor

    ``lambda`` falls with the step t = 1, 2, …: ``max(lambda_min, lambda_0 (1 + gamma t)^-power)``.
    Where no state is given the annealing has ended: ``lambda_min``.

    Args:
      m: factor on the angle, >= 1, a Python number; 4 in the paper.
      feature_norm: ``"free"``: the embedding's own length, differentiated, is the scale;
        ``"hard"``: a fixed scale.
      gradient: as in :class:`Margin`.
      lambda_0, gamma, power, lambda_min: the annealing; all numbers may be traced.

    Raises:
      ValueError: m below 1, an unknown feature_norm or gradient.

    Source: Liu et al., SphereFace (CVPR 2017), eqs. 6 and 7; annealing as in its public code.

    >>> from arcface_jax.margins import target_cosine
    >>> target_cosine(jnp.array([1.0, -1.0]), sphereface_psi(2, annealed=False))
    Array([ 1., -3.], dtype=float32)
    """

    m: float = dataclasses.field(default=4, metadata={"static": True})
    feature_norm: str = dataclasses.field(default="free", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})
    lambda_0: ArrayLike = dataclasses.field(default=1000.0, kw_only=True)
    gamma: ArrayLike = dataclasses.field(default=0.12, kw_only=True)
    power: ArrayLike = dataclasses.field(default=1.0, kw_only=True)
    lambda_min: ArrayLike = dataclasses.field(default=5.0, kw_only=True)

    def __post_init__(self):
        check_factor(self.m)
        check_choice("feature_norm", self.feature_norm, ("free", "hard"))
        check_choice("gradient", self.gradient, GRADIENTS)

    @property
    def needs_norms(self) -> bool:
        """Only with ``feature_norm="free"``."""
        return self.feature_norm == "free"

    @property
    def no_scale(self) -> str:
        """Empty with ``feature_norm="hard"``."""
        if self.feature_norm == "hard":
            return ""
        return 'the length of each embedding is its scale; take feature_norm="hard".'

    def scales(self, context: Context) -> Array:
        """The embeddings' own lengths, or the given scale."""
        if self.feature_norm == "hard":
            return super().scales(context)
        assert context.norms is not None
        return context.norms

    def _annealing(self, context: Context, cosines: Array) -> Array:
        lowest = like(self.lambda_min, cosines)
        if context.state is None:
            return lowest
        start, gamma, power = (like(x, cosines) for x in (self.lambda_0, self.gamma, self.power))
        step = context.state["step"].astype(cosines.dtype)
        return jnp.maximum(lowest, start / (1.0 + gamma * step) ** power)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        weight = jax.lax.stop_gradient(self._annealing(context, cosines))
        value = (weight * cosines + psi(cosines, self.m)) / (1.0 + weight)
        return detach_margin(cosines, value, self.gradient)


@register_margin(
    "sphereface_psi",
    formula="(λ cos θ + ψ(θ)) / (1 + λ), scaled by the embedding's length",
    source="Liu et al., SphereFace, CVPR 2017, eqs. 6 and 7",
    state="annealing step",
)
def sphereface_psi(
    m: float = 4,
    *,
    feature_norm: str = "free",
    gradient: str = "exact",
    annealed: bool = True,
    lambda_0: ArrayLike = 1000.0,
    gamma: ArrayLike = 0.12,
    power: ArrayLike = 1.0,
    lambda_min: ArrayLike = 5.0,
) -> PsiMargin:
    r"""SphereFace as first published, with its monotone :math:`\psi` and annealing.

    ``annealed=False`` takes psi alone (lambda = 0 from the first step).

    Source: Liu et al., SphereFace (CVPR 2017), eqs. 6 and 7.

    >>> sphereface_psi().m
    4
    """
    if not annealed:
        lambda_0 = lambda_min = 0.0
    return PsiMargin(
        m,
        feature_norm=feature_norm,
        gradient=gradient,
        lambda_0=lambda_0,
        gamma=gamma,
        power=power,
        lambda_min=lambda_min,
    )
