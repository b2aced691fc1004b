"""UniFace: one threshold that every positive and negative pair has to keep."""

import dataclasses
import math
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
class UniFace(MarginRule):
    r"""Binary cross entropies around a trained threshold.

    .. math:: \ell = \mathrm{softplus}(-(s(c_y - m) - b)) +
       \lambda \sum_{j \ne y} \mathrm{softplus}(s c_j - b)

    Args:
      m: cosine taken off the true class.
      weight: lambda, of the wrong classes.
      sample_rate: r, the share of wrong classes that a step sees; b starts at ln(10 C r).
      clamp_arguments: limit both arguments to [-s, s], with no gradient outside, as the authors'
        code does.
      per_class: one threshold b_j for each class, the paper's baseline, instead of one for all.

    Raises:
      ValueError: a number outside its bounds.

    Source: Zhou et al., UniFace (ICCV 2023), eq. 13.

    >>> round(float(UniFace().init_params(10_572)["bias"]), 5)
    11.56855
    """

    m: ArrayLike = 0.4
    weight: ArrayLike = dataclasses.field(default=1.0, kw_only=True)
    sample_rate: float = dataclasses.field(default=1.0, kw_only=True, metadata={"static": True})
    clamp_arguments: bool = dataclasses.field(
        default=False, kw_only=True, metadata={"static": True}
    )

    per_class: bool = dataclasses.field(default=False, kw_only=True, metadata={"static": True})

    link: ClassVar[str] = "sum"

    def __post_init__(self):
        check_number("m", self.m, 0.0, 2.0)
        check_number("weight", self.weight, 0.0, math.inf)
        check_number(
            "sample_rate", self.sample_rate, 0.0, 1.0, includes_low=False, includes_high=True
        )

    def _threshold(self, num_classes: int) -> float:
        """Where ten times the classes would balance one."""
        return math.log(10.0 * num_classes * self.sample_rate)

    @property
    def has_bias(self) -> bool:
        """Whether each class has its own threshold."""
        return self.per_class

    def init_bias(self, num_classes: int) -> Array | None:
        """The classes' thresholds, float[C], or None where they share one."""
        return jnp.full(num_classes, self._threshold(num_classes)) if self.per_class else None

    def init_params(
        self, num_classes: int, *, scale: float | None = None
    ) -> dict[str, Array] | None:
        """The threshold that all classes share, or None where each has its own."""
        del scale
        return None if self.per_class else {"bias": jnp.float32(self._threshold(num_classes))}

    def offsets(self, bias: Array | None, context: Context) -> Array | None:
        """-b_j / s beside the cosines, which is -b_j beside the logits."""
        if not self.per_class:
            return None
        if bias is None:
            raise ValueError("uniface with per_class=True needs bias=margin.init_bias(C).")
        assert context.scale is not None
        if context.scale.ndim:
            raise ValueError("uniface with per_class=True takes one scale, not one per row.")
        return -bias / context.scale.astype(bias.dtype)

    def _argument(self, logits: Array, context: Context) -> Array:
        assert context.scale is not None
        argument = logits
        if not self.per_class:
            assert context.params is not None
            argument = logits - context.params["bias"].astype(logits.dtype)
        if not self.clamp_arguments:
            return argument
        most = per_row(context.scale, logits).astype(logits.dtype)
        limit = jax.lax.stop_gradient(jnp.sign(argument)) * most
        return jnp.where(jnp.abs(argument) <= most, argument, limit)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        return cosines - like(self.m, cosines)

    def target_loss(self, logits: Array, context: Context) -> Array:
        """The true class's binary cross entropy."""
        return jax.nn.softplus(-self._argument(logits, context))

    def negative_losses(self, logits: Array, context: Context) -> Array:
        """The wrong classes' binary cross entropies."""
        return like(self.weight, logits) * jax.nn.softplus(self._argument(logits, context))


@register_margin(
    "uniface",
    formula="softplus(b − s(cos θ − m)) + λ Σ softplus(s cos θ_j − b)",
    source="Zhou et al., UniFace, ICCV 2023, eq. 13",
    state="trained threshold, or one per class",
)
def uniface(
    m: ArrayLike = 0.4,
    *,
    weight: ArrayLike = 1.0,
    sample_rate: float = 1.0,
    clamp_arguments: bool = False,
    per_class: bool = False,
) -> UniFace:
    """CosFace against a threshold for all pairs instead of against the other classes.

    Source: Zhou et al., UniFace (ICCV 2023).

    >>> uniface(0.3).m
    0.3
    """
    return UniFace(
        m,
        weight=weight,
        sample_rate=sample_rate,
        clamp_arguments=clamp_arguments,
        per_class=per_class,
    )
