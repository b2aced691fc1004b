"""ElasticFace: margins drawn anew for each row and step."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins.bounds import check_angle, check_choice, check_number
from arcface_jax.margins.combined import GRADIENTS, TAILS, combined_target
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, detach_margin, like

KINDS = ("arc", "cos")
PLUS = (None, "rank", "official")


def assign_margins(margins: Array, cosines: Array, plus: str) -> Array:
    """Drawn margins handed out anew: the smallest to the row that is nearest to its centre.

    Args:
      margins: float[B], as drawn.
      cosines: float[B], to each row's own centre.
      plus: ``"rank"`` does what the paper says; ``"official"`` what its code does, which indexes
        by the sorting permutation instead of its inverse, so that margin and cosine end up
        unrelated.

    >>> cosines, margins = jnp.array([0.2, 0.9, 0.5, 0.7]), jnp.array([0.1, 0.2, 0.3, 0.4])
    >>> assign_margins(margins, cosines, "rank")
    Array([0.4, 0.1, 0.3, 0.2], dtype=float32)
    >>> assign_margins(margins, cosines, "official")
    Array([0.2, 0.4, 0.3, 0.1], dtype=float32)
    """
    order = jnp.argsort(-cosines, stable=True)
    rank = jnp.argsort(order, stable=True) if plus == "rank" else order
    return jnp.sort(margins)[rank]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ElasticFace(MarginRule):
    r"""ArcFace or CosFace with :math:`m_i \sim N(m, \sigma^2)`, drawn for each row and step.

    Args:
      m: mean margin, radians (``"arc"``) or cosine (``"cos"``).
      sigma: standard deviation; 0 is the plain margin.
      kind: ``"arc"`` or ``"cos"``.
      plus: None; ``"rank"`` or ``"official"``: the two readings of ElasticFace+, see
        :func:`assign_margins`.
      tail, gradient: as in :class:`Margin`; the authors' code has ``tail="none"``.

    Raises:
      ValueError: a number outside its bounds, an unknown kind, plus, tail or gradient.

    Source: Boutros et al., ElasticFace (CVPRW 2022), eqs. 5 to 8.

    >>> ElasticFace().needs_key
    True
    """

    m: ArrayLike = 0.5
    sigma: ArrayLike = dataclasses.field(default=0.05, kw_only=True)
    kind: str = dataclasses.field(default="arc", kw_only=True, metadata={"static": True})
    plus: str | None = dataclasses.field(default=None, kw_only=True, metadata={"static": True})
    tail: str = dataclasses.field(default="hard", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})

    needs_key: ClassVar[bool] = True

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        check_choice("plus", self.plus, PLUS)
        check_choice("tail", self.tail, TAILS)
        check_choice("gradient", self.gradient, GRADIENTS)
        if self.kind == "arc":
            check_angle("m", self.m)
        else:
            check_number("m", self.m, -math.inf, math.inf, includes_low=False)
        check_number("sigma", self.sigma, 0.0, math.inf)

    def draw(self, cosines: Array, context: Context) -> Array:
        """The margin of each row; without a key the mean."""
        if context.key is None:
            return like(self.m, cosines)
        # In float32 whatever the cosines are: another type would draw other numbers.
        noise = jax.random.normal(context.key, cosines.shape, jnp.float32).astype(cosines.dtype)
        margins = like(self.m, cosines) + like(self.sigma, cosines) * noise
        if self.plus is None:
            return margins
        return assign_margins(margins, jax.lax.stop_gradient(cosines), self.plus)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        return self.target_with(self.draw(cosines, context), cosines)

    def target_with(self, margins: Array, cosines: Array) -> Array:
        """The same with margins that are drawn already, float[B]."""
        if self.kind == "cos":
            return cosines - margins
        value = combined_target(cosines, 1.0, margins, 0.0, tail=self.tail)
        return detach_margin(cosines, value, self.gradient)


@register_margin(
    "elasticface",
    formula="cos(θ + m_i) or cos θ − m_i, m_i ~ N(m, σ²)",
    source="Boutros et al., ElasticFace, CVPRW 2022, eqs. 5 to 8",
)
def elasticface(
    m: ArrayLike | None = None,
    *,
    kind: str = "arc",
    plus: str | None = None,
    sigma: ArrayLike | None = None,
    tail: str = "hard",
    gradient: str = "exact",
) -> ElasticFace:
    """A margin drawn anew for each row and step; calls take ``key=``.

    None takes the authors' settings: m = 0.5 (arc) or 0.35 (cos); sigma = 0.05, or with ``plus``
    0.0175 (arc) and 0.02 (cos).

    Source: Boutros et al., ElasticFace (CVPRW 2022).

    >>> elasticface(kind="cos", plus="rank").sigma
    0.02
    """
    check_choice("kind", kind, KINDS)
    if m is None:
        m = 0.5 if kind == "arc" else 0.35
    if sigma is None:
        sigma = 0.05 if plus is None else 0.0175 if kind == "arc" else 0.02
    return ElasticFace(m, sigma=sigma, kind=kind, plus=plus, tail=tail, gradient=gradient)
