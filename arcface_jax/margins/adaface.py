"""AdaFace: the batch's lengths say which images are poor, and those get another margin."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import RADIANS, check_choice, check_number
from arcface_jax.margins.combined import GRADIENTS
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import (
    Context,
    MarginRule,
    detach_margin,
    like,
    mean_where,
    stored,
)

SHORTEST, LONGEST = 1e-3, 100.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaFace(MarginRule):
    r"""Long embeddings get an additive margin, short ones an angular one of the other sign.

    .. math:: k = \mathrm{clip}\Big(h\frac{\lVert x\rVert - \mu}{\sigma + \varepsilon}, -1, 1\Big),
       \quad T = \cos(\theta - m k) - (m + m k)

    The mean and the unbiased standard deviation of the lengths follow the batches, before use:
    ``mean = alpha * batch + (1 - alpha) * mean``. Lengths and k are constants in the gradient.
    Cosines are limited to ``±(1 - epsilon)`` and the turned angle to ``[epsilon, pi - epsilon]``,
    with no gradient outside: that belongs to the definition.

    Args:
      m: margin, radians and cosine at once.
      h: how strongly k follows the length.
      alpha: how fast the statistics follow; the authors' class has 1, their recipe 0.01.
      epsilon: of the limits and of k.
      limited: whether cosines and angles are limited; not with CVLface, which also has
        ``gradient="straight_through"``.
      gradient: as in :class:`Margin`.

    Raises:
      ValueError: a number outside its bounds, an unknown gradient.

    Source: Kim et al., AdaFace (CVPR 2022), eqs. 14 to 17.

    >>> AdaFace().init_state()["mean"]
    Array(20., dtype=float32)
    """

    m: ArrayLike = 0.4
    h: ArrayLike = dataclasses.field(default=0.333, kw_only=True)
    alpha: ArrayLike = dataclasses.field(default=0.01, kw_only=True)
    epsilon: ArrayLike = dataclasses.field(default=1e-3, kw_only=True)
    limited: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})

    def __post_init__(self):
        check_number("m", self.m, 0.0, math.pi / 2, hint=RADIANS)
        check_number("h", self.h, 0.0, math.inf)
        check_number("alpha", self.alpha, 0.0, 1.0, includes_high=True)
        check_number("epsilon", self.epsilon, 0.0, 0.1, includes_low=False)
        check_choice("gradient", self.gradient, GRADIENTS)

    @property
    def needs_norms(self) -> bool:
        """Yes: the margin is a function of them."""
        return True

    def init_state(
        self, num_classes: int | None = None, embedding_dim: int | None = None
    ) -> dict[str, Array]:
        """Mean 20 and standard deviation 100, as in the authors' code."""
        del num_classes, embedding_dim
        return {"mean": jnp.float32(20.0), "std": jnp.float32(100.0)}

    def _lengths(self, context: Context) -> Array:
        assert context.norms is not None
        return jax.lax.stop_gradient(jnp.clip(context.norms, SHORTEST, LONGEST))

    def observe(self, context: Context) -> Context:
        """``context`` with mean and standard deviation moved towards the batch's."""
        if context.state is None:
            return context
        lengths = self._lengths(context)
        mean, some = mean_where(lengths, context.where)
        squares, _ = mean_where(jnp.square(lengths - mean), context.where)
        count = jnp.float32(lengths.size) if context.where is None else jnp.sum(context.where)
        count = count.astype(squares.dtype)
        # One row has no spread: the unbiased formula would divide by zero.
        variance = jnp.where(count > 1.0, squares * count / jnp.maximum(count - 1.0, 1.0), 0.0)
        spread = jnp.where(variance > 0.0, jnp.sqrt(jnp.where(variance > 0.0, variance, 1.0)), 0.0)
        alpha = jnp.asarray(self.alpha, jnp.float32)

        def moved(name: str, batch: Array) -> Array:
            before = context.state[name]
            after = alpha * batch.astype(jnp.float32) + (1.0 - alpha) * before
            return stored(jnp.where(some, after, before))

        state = {"mean": moved("mean", mean), "std": moved("std", spread)}
        return dataclasses.replace(context, state=state)

    def quality(self, context: Context, cosines: Array) -> Array:
        """K of each row, in [-1, 1]; 0 where lengths or statistics are not known."""
        if context.norms is None or context.state is None:
            return like(0.0, cosines)
        mean, std = (like(context.state[name], cosines) for name in ("mean", "std"))
        lengths = self._lengths(context).astype(cosines.dtype)
        deviation = (lengths - mean) / (std + like(self.epsilon, cosines))
        return jnp.clip(like(self.h, cosines) * deviation, -1.0, 1.0)

    def _limit(self, cosines: Array) -> Array:
        if not self.limited:
            return cosines
        most = 1.0 - like(self.epsilon, cosines)
        inside = jnp.abs(cosines) <= most
        return jnp.where(inside, cosines, jnp.sign(jax.lax.stop_gradient(cosines)) * most)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        cosines = self._limit(cosines)
        m, epsilon = like(self.m, cosines), like(self.epsilon, cosines)
        k = self.quality(context, cosines)
        turned = jax.lax.stop_gradient(geometry.angle(cosines)) - m * k
        value = geometry.shifted_cosine(cosines, like(1.0, cosines), -m * k)
        if self.limited:
            value = jnp.where(turned < epsilon, jnp.cos(epsilon), value)
            value = jnp.where(turned > jnp.pi - epsilon, -jnp.cos(epsilon), value)
        return detach_margin(cosines, value - (m + m * k), self.gradient)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, limited like the target's."""
        del context
        return self._limit(cosines)


@register_margin(
    "adaface",
    formula="cos(θ − m k) − (m + m k), k from the length's place in the batch",
    source="Kim et al., AdaFace, CVPR 2022, eqs. 14 to 17",
    state="mean and std of lengths",
)
def adaface(
    m: ArrayLike = 0.4,
    *,
    h: ArrayLike = 0.333,
    alpha: ArrayLike = 0.01,
    epsilon: ArrayLike = 1e-3,
    limited: bool = True,
    gradient: str = "exact",
) -> AdaFace:
    """A margin by image quality, read from the embedding's length.

    Source: Kim et al., AdaFace (CVPR 2022).

    >>> adaface().h
    0.333
    """
    return AdaFace(m, h=h, alpha=alpha, epsilon=epsilon, limited=limited, gradient=gradient)
