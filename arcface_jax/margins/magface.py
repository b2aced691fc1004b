"""MagFace: the embedding's length is its quality, and sets its margin."""

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins.bounds import RADIANS, check_choice, check_number, is_number
from arcface_jax.margins.combined import GRADIENTS, TAILS, combined_target
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, detach_margin, like

KINDS = ("arc", "cos")


@jax.custom_jvp
def _limit(norms: Array, low: Array, high: Array) -> Array:
    """Clipped to [low, high] with derivative 1 strictly inside and 0 elsewhere."""
    return jnp.clip(norms, low, high)


@_limit.defjvp
def _limit_jvp(primals, tangents):
    norms, low, high = primals
    inside = (norms > low) & (norms < high)
    return _limit(*primals), jnp.where(inside, tangents[0], 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MagFace(MarginRule):
    r"""A margin that grows with the embedding's length, and a regulariser that makes it grow.

    .. math:: m(a) = \frac{u_m - l_m}{u_a - l_a}(a - l_a) + l_m, \quad
       \ell = \mathrm{CE} + \lambda_g \Big(\frac{a}{u_a^2} + \frac1a\Big), \quad
       a = \mathrm{clip}(\lVert x\rVert, l_a, u_a)

    The length is differentiated in margin and regulariser, in both gradient conventions.

    Args:
      lower_norm, upper_norm: l_a and u_a.
      lower_margin, upper_margin: l_m and u_m, radians (``"arc"``) or cosines (``"cos"``).
      strength: lambda_g.
      kind: ``"arc"``, or ``"cos"`` for the cosine minus m(a).
      tail, gradient: as in :class:`Margin`; the authors' code has ``tail="easy"``.

    Raises:
      ValueError: bounds that cross or lie outside their domain, an unknown kind, tail, gradient.

    Source: Meng et al., MagFace (CVPR 2021), eqs. 2 and 3.

    >>> round(MagFace().least_strength(64.0), 4)
    22.5867
    """

    lower_norm: ArrayLike = dataclasses.field(default=10.0, kw_only=True)
    upper_norm: ArrayLike = dataclasses.field(default=110.0, kw_only=True)
    lower_margin: ArrayLike = dataclasses.field(default=0.45, kw_only=True)
    upper_margin: ArrayLike = dataclasses.field(default=0.8, kw_only=True)
    strength: ArrayLike = dataclasses.field(default=35.0, kw_only=True)
    kind: str = dataclasses.field(default="arc", kw_only=True, metadata={"static": True})
    tail: str = dataclasses.field(default="hard", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        check_choice("tail", self.tail, TAILS)
        check_choice("gradient", self.gradient, GRADIENTS)
        check_number("lower_norm", self.lower_norm, 0.0, math.inf, includes_low=False)
        if is_number(self.lower_norm):
            low = self.lower_norm
            check_number("upper_norm", self.upper_norm, low, math.inf, includes_low=False)
        highest = math.pi if self.kind == "arc" else 2.0
        hint = RADIANS if self.kind == "arc" else ""
        check_number("lower_margin", self.lower_margin, 0.0, highest, hint=hint)
        if is_number(self.lower_margin):
            low = self.lower_margin
            check_number("upper_margin", self.upper_margin, low, highest, hint=hint)
        check_number("strength", self.strength, 0.0, math.inf)

    def least_strength(self, scale: float) -> float:
        r"""The strength below which longer embeddings need not be easier ones.

        .. math:: \lambda_g \ge s \kappa \frac{u_a^2 l_a^2}{u_a^2 - l_a^2}, \quad
           \kappa = \frac{u_m - l_m}{u_a - l_a}
        """
        low, high, low_m, high_m = (
            float(x)  # pyright: ignore[reportArgumentType]
            for x in (self.lower_norm, self.upper_norm, self.lower_margin, self.upper_margin)
        )
        slope = (high_m - low_m) / (high - low)
        return scale * slope * high**2 * low**2 / (high**2 - low**2)

    @property
    def needs_norms(self) -> bool:
        """Yes: the margin is a function of them."""
        return True

    def _magnitude(self, context: Context, dtype: jnp.dtype) -> Array:
        assert context.norms is not None
        low, high = (jnp.asarray(x, dtype) for x in (self.lower_norm, self.upper_norm))
        return _limit(context.norms.astype(dtype), low, high)

    def margins(self, context: Context, cosines: Array) -> Array:
        """m(a) of each row; without lengths the middle of its range."""
        low, high, low_m, high_m = (
            like(x, cosines)
            for x in (self.lower_norm, self.upper_norm, self.lower_margin, self.upper_margin)
        )
        if context.norms is None:
            return 0.5 * (low_m + high_m)
        a = self._magnitude(context, cosines.dtype)
        return (high_m - low_m) / (high - low) * (a - low) + low_m

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        margins = self.margins(context, cosines)

        def value(cosines: Array, margins: Array) -> Array:
            if self.kind == "cos":
                return cosines - margins
            return combined_target(cosines, 1.0, margins, 0.0, tail=self.tail)

        if self.gradient == "exact":
            return value(cosines, margins)
        # The length's path is no part of the convention and keeps its derivative.
        by_norm = value(jax.lax.stop_gradient(cosines), margins)
        fixed = value(cosines, jax.lax.stop_gradient(margins))
        straight = detach_margin(cosines, fixed, self.gradient)
        return straight + by_norm - jax.lax.stop_gradient(by_norm)

    def finish(self, losses: Array, context: Context) -> Array:
        """Losses with the regulariser of each row's length."""
        a = self._magnitude(context, losses.dtype)
        high = like(self.upper_norm, losses)
        return losses + like(self.strength, losses) * (a / high**2 + 1.0 / a)


@register_margin(
    "magface",
    formula="cos(θ + m(‖x‖)), m linear between its bounds; plus λ_g (a / u_a² + 1 / a)",
    source="Meng et al., MagFace, CVPR 2021, eqs. 2 and 3",
)
def magface(
    lower_margin: ArrayLike = 0.45,
    upper_margin: ArrayLike = 0.8,
    *,
    lower_norm: ArrayLike = 10.0,
    upper_norm: ArrayLike = 110.0,
    strength: ArrayLike = 35.0,
    kind: str = "arc",
    tail: str = "hard",
    gradient: str = "exact",
) -> MagFace:
    """A margin by quality, from ``lower_margin`` (shortest) to ``upper_margin`` (longest).

    Warns where ``strength`` is below the bound of the paper at s = 64
    (:meth:`MagFace.least_strength`).

    Source: Meng et al., MagFace (CVPR 2021).

    >>> magface().strength
    35.0
    """
    margin = MagFace(
        lower_norm=lower_norm,
        upper_norm=upper_norm,
        lower_margin=lower_margin,
        upper_margin=upper_margin,
        strength=strength,
        kind=kind,
        tail=tail,
        gradient=gradient,
    )
    if is_number(strength) and all(map(is_number, jax.tree.leaves(margin))):
        least = margin.least_strength(margin.default_scale)
        if strength < least:
            warnings.warn(
                f"magface: strength={strength} is below {least:.4g}, where longer embeddings need "
                f"not be easier ones (for s = {margin.default_scale:g}; MagFace.least_strength).",
                stacklevel=2,
            )
    return margin
