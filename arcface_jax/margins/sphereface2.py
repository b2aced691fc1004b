"""SphereFace2: one binary problem per class."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins.bounds import check_angle, check_choice, check_number
from arcface_jax.margins.combined import GRADIENTS, combined_target
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, detach_margin, like, per_row

KINDS = ("C", "A", "M")


def stretch(cosines: Array, power: ArrayLike) -> Array:
    r"""The similarity adjustment :math:`g(c) = 2((c + 1)/2)^t - 1`, with t >= 1.

    >>> stretch(jnp.array([1.0, 0.0, -1.0]), 3.0)
    Array([ 1.  , -0.75, -1.  ], dtype=float32)
    """
    half = (cosines + 1.0) / 2.0
    # At half = 0 the power is taken of a tiny number, whose derivative exists.
    return 2.0 * half * jnp.maximum(half, 1e-20) ** (like(power, cosines) - 1.0) - 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SphereFace2(MarginRule):
    r"""A sum over classes of binary cross entropies on adjusted cosines, with a shared bias.

    .. math:: \ell = \frac{w}{s}\Big[\alpha\,\mathrm{softplus}(-(s\,T(c_y) + b)) +
       (1 - \alpha)\sum_{j \ne y} \mathrm{softplus}(s\,N(c_j) + b)\Big]

    ==== ========================= ============
    kind T                         N
    ==== ========================= ============
    C    ``g(c) - m``              ``g(c) + m``
    A    ``g(cos min(θ + m, π))``  ``g(c)``
    M    ``g(cos min(m θ, π))``    ``g(c)``
    ==== ========================= ============

    Args:
      m: None for 0.4 (C), 0.5 rad (A), 1.7 (M).
      kind: where the margin goes.
      gradient: ``"straight_through"`` gives every cosine the derivative 1.
      alpha: weight of the true class's problem, in (0, 1).
      power: t >= 1 of g.
      weight: of the loss, w.

    Raises:
      ValueError: a number outside its bounds, an unknown kind; one class alone.

    Source: Wen et al., SphereFace2 (ICLR 2022).

    >>> round(float(sphereface2().init_params(10)["bias"]), 4)
    12.9502
    """

    m: ArrayLike = 0.4
    kind: str = dataclasses.field(default="C", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})
    alpha: ArrayLike = dataclasses.field(default=0.7, kw_only=True)
    power: ArrayLike = dataclasses.field(default=3.0, kw_only=True)
    weight: ArrayLike = dataclasses.field(default=50.0, kw_only=True)

    link: ClassVar[str] = "sum"
    default_scale: ClassVar[float] = 40.0
    needs_all_classes: ClassVar[str] = "its weights and bias count all classes"

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        check_choice("gradient", self.gradient, GRADIENTS)
        if self.kind == "A":
            check_angle("m", self.m)
        else:
            check_number("m", self.m, 0.0, math.inf, includes_low=self.kind == "C")
        check_number("alpha", self.alpha, 0.0, 1.0, includes_low=False)
        check_number("power", self.power, 1.0, math.inf)
        check_number("weight", self.weight, 0.0, math.inf, includes_low=False)

    def init_params(self, num_classes: int, *, scale: float | None = None) -> dict[str, Array]:
        """The bias with which all classes together start at the least loss, at 90 degrees."""
        if num_classes < 2:
            raise ValueError("sphereface2 needs at least 2 classes: its bias weighs the others.")
        s = self.default_scale if scale is None else scale
        m, alpha, power = (float(x) for x in (self.m, self.alpha, self.power))  # pyright: ignore
        middle = 2.0 * 2.0**-power - 1.0
        own, other = middle, middle
        if self.kind == "C":
            own, other = middle - m, middle + m
        else:
            turned = math.pi / 2 + m if self.kind == "A" else math.pi / 2 * m
            own = 2.0 * ((math.cos(min(math.pi, turned)) + 1.0) / 2.0) ** power - 1.0
        own, other = s * own, s * other
        q = alpha / ((1.0 - alpha) * (num_classes - 1))
        rest = 4.0 * q * math.exp(own - other)
        root = math.sqrt((1.0 - q) ** 2 + rest)
        # Either form of the same number cancels on its side of q = 1.
        total = 1.0 - q + root if q < 1.0 else rest / (root - (1.0 - q))
        return {"bias": jnp.float32(math.log(2.0 * q) - other - math.log(total))}

    def _bias(self, context: Context, logits: Array) -> Array:
        assert context.params is not None
        return context.params["bias"].astype(logits.dtype)

    def target(self, cosines: Array, context: Context) -> Array:
        """The adjusted cosine of the true class after the margin, elementwise."""
        del context
        m = like(self.m, cosines)
        if self.kind == "C":
            value = stretch(cosines, self.power) - m
        else:
            turned = (1.0, m) if self.kind == "A" else (m, 0.0)
            value = stretch(combined_target(cosines, *turned, 0.0, tail="clip"), self.power)
        return detach_margin(cosines, value, self.gradient)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The adjusted cosines of the other classes, elementwise."""
        del context
        value = stretch(cosines, self.power)
        if self.kind == "C":
            value = value + per_row(like(self.m, cosines), cosines)
        return detach_margin(cosines, value, self.gradient)

    def target_loss(self, logits: Array, context: Context) -> Array:
        """The true class's binary cross entropy."""
        return like(self.alpha, logits) * jax.nn.softplus(-(logits + self._bias(context, logits)))

    def negative_losses(self, logits: Array, context: Context) -> Array:
        """The wrong classes' binary cross entropies."""
        others = 1.0 - like(self.alpha, logits)
        return others * jax.nn.softplus(logits + self._bias(context, logits))

    def finish(self, losses: Array, context: Context) -> Array:
        """Losses over the scale, so that it changes the curvature and not the size."""
        assert context.scale is not None
        return like(self.weight, losses) / context.scale.astype(losses.dtype) * losses


@register_margin(
    "sphereface2",
    formula="C: g(cos θ) − m against g(cos θ_j) + m, g(c) = 2((c + 1)/2)^t − 1; sum of softplus",
    source="Wen et al., SphereFace2, ICLR 2022",
    state="trained bias",
)
def sphereface2(
    m: ArrayLike | None = None,
    *,
    kind: str = "C",
    gradient: str = "exact",
    alpha: ArrayLike = 0.7,
    power: ArrayLike = 3.0,
    weight: ArrayLike = 50.0,
) -> SphereFace2:
    """One binary problem per class, margins on both sides (C) or on the angle (A, M).

    Source: Wen et al., SphereFace2 (ICLR 2022).

    >>> sphereface2(kind="M").m
    1.7
    """
    check_choice("kind", kind, KINDS)
    m = {"C": 0.4, "A": 0.5, "M": 1.7}[kind] if m is None else m
    return SphereFace2(m, kind=kind, gradient=gradient, alpha=alpha, power=power, weight=weight)
