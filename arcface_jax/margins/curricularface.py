"""CurricularFace: hard wrong classes weigh more as training goes on."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_angle, check_choice, check_number
from arcface_jax.margins.combined import GRADIENTS, TAILS, combined_target
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import (
    Context,
    MarginRule,
    detach_margin,
    like,
    mean_where,
    per_row,
    stored,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CurricularFace(MarginRule):
    r"""ArcFace whose hard wrong classes are reweighted by the state of training, t.

    .. math:: N(c_j) = c_j (t + c_j) \;\text{ if } c_j > \cos(\theta_y + m), \text{ else } c_j

    t follows the mean target cosine of the batch: ``t = alpha * mean + (1 - alpha) * t``, taken
    before use.

    Args:
      m: angle added, radians in [0, pi).
      tail, gradient: as in :class:`Margin`.
      alpha: how fast t follows; 0.01 in the authors' code, whose paper writes 1 - alpha = 0.99.

    Raises:
      ValueError: a number outside its bounds, an unknown tail or gradient.

    Source: Huang et al., CurricularFace (CVPR 2020), eqs. 5 to 7.

    >>> CurricularFace().init_state()
    {'t': Array(0., dtype=float32)}
    """

    m: ArrayLike = 0.5
    tail: str = dataclasses.field(default="hard", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})
    alpha: ArrayLike = dataclasses.field(default=0.01, kw_only=True)

    def __post_init__(self):
        check_angle("m", self.m)
        check_number("alpha", self.alpha, 0.0, 1.0, includes_high=True)
        check_choice("tail", self.tail, TAILS)
        check_choice("gradient", self.gradient, GRADIENTS)

    def init_state(
        self, num_classes: int | None = None, embedding_dim: int | None = None
    ) -> dict[str, Array]:
        """T = 0."""
        del num_classes, embedding_dim
        return {"t": jnp.float32(0.0)}

    def observe(self, context: Context) -> Context:
        """``context`` with t moved towards the batch's mean target cosine."""
        if context.state is None:
            return context
        assert context.target_cosines is not None
        mean, some = mean_where(context.target_cosines, context.where)
        before = context.state["t"]
        alpha = like(self.alpha, before)
        after = alpha * mean.astype(before.dtype) + (1.0 - alpha) * before
        return dataclasses.replace(context, state={"t": stored(jnp.where(some, after, before))})

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        value = combined_target(cosines, 1.0, self.m, 0.0, tail=self.tail)
        return detach_margin(cosines, value, self.gradient)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, elementwise."""
        if context.state is None or context.target_cosines is None:
            return cosines
        # The bare formula, not the tail's value: a row past its turning point meets no curriculum.
        own = jax.lax.stop_gradient(context.target_cosines)
        limit = geometry.shifted_cosine(own, like(1.0, own), like(self.m, own))
        hard = cosines > per_row(limit, cosines)
        t = context.state["t"].astype(cosines.dtype)
        return jnp.where(hard, cosines * (t + cosines), cosines)


@register_margin(
    "curricularface",
    formula="cos(θ + m) against cos θ_j (t + cos θ_j) where that is above it",
    source="Huang et al., CurricularFace, CVPR 2020, eqs. 5 to 7",
    state="t",
)
def curricularface(
    m: ArrayLike = 0.5, *, tail: str = "hard", gradient: str = "exact", alpha: ArrayLike = 0.01
) -> CurricularFace:
    """ArcFace with a curriculum over wrong classes.

    Source: Huang et al., CurricularFace (CVPR 2020).

    >>> curricularface().alpha
    0.01
    """
    return CurricularFace(m, tail=tail, gradient=gradient, alpha=alpha)
