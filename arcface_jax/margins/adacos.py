"""AdaCos: the scale follows the batch, there is no margin."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax import geometry
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, stored


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaCos(MarginRule):
    r"""Softmax of cosines whose scale keeps the true class's probability steep.

    .. math:: s \leftarrow \frac{\ln B}{\cos\min(\pi/4, \theta_{med})}, \quad
       B = \frac1N \sum_i \sum_{j \ne y_i} e^{s\,c_{ij}}, \quad s_0 = \sqrt2 \ln(C - 1)

    The new scale serves the same batch, and is a constant in the gradient.

    Args:
      dynamic: whether the scale follows the batches or stays at s_0.

    Source: Zhang et al., AdaCos (CVPR 2019), eqs. 12 to 15.

    >>> AdaCos().init_state(10_572)
    {'scale': Array(13.103919, dtype=float32)}
    """

    dynamic: bool = dataclasses.field(default=True, kw_only=True, metadata={"static": True})

    @property
    def needs_all_classes(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The scale is a sum over all classes."""
        return "its scale follows a sum over all classes" if self.dynamic else ""

    @property
    def no_scale(self) -> str:
        """The scale is its own."""
        return "adacos finds it; take norm_softmax to set it."

    def init_state(
        self, num_classes: int | None = None, embedding_dim: int | None = None
    ) -> dict[str, Array]:
        """The scale at the start.

        Raises:
          ValueError: fewer than 3 classes, whose scale would be 0.
        """
        del embedding_dim
        if num_classes is None or num_classes < 3:
            raise ValueError(
                f"adacos starts at sqrt(2) ln(C - 1) and needs C >= 3 classes, got {num_classes}; "
                "pass init_state(C)."
            )
        return {"scale": jnp.float32(math.sqrt(2.0) * math.log(num_classes - 1))}

    @property
    def observes_others(self) -> bool:
        """Yes: the scale follows their sum."""
        return self.dynamic

    def observe(self, context: Context) -> Context:
        """``context`` with the scale that this batch asks for."""
        if not self.dynamic:
            return context
        others, own = context.others_lse, context.target_cosines
        assert others is not None and own is not None
        counts = jnp.ones(own.shape, bool) if context.where is None else context.where
        rows = jnp.sum(counts)
        total = jax.nn.logsumexp(jnp.where(counts, others, -jnp.inf))
        log_b = total - jnp.log(jnp.maximum(rows, 1).astype(total.dtype))
        ordered = jnp.sort(jnp.where(counts, geometry.angle(own), jnp.inf))
        median = ordered[jnp.maximum(rows - 1, 0) // 2]
        scale = log_b / jnp.cos(jnp.minimum(median, jnp.pi / 4.0))
        # Few classes can push the sum below 1, and the scale with it below 0.
        usable = (rows > 0) & (log_b > 0.0)
        before = context.state["scale"]
        scale = jnp.where(usable, jnp.where(usable, scale, 1.0).astype(jnp.float32), before)
        return dataclasses.replace(context, state={"scale": stored(scale)})

    def scales(self, context: Context) -> Array:
        """The scale that holds for this batch."""
        if context.state is None:
            raise ValueError("adacos keeps its scale in the state; pass state=init_state(C).")
        return context.state["scale"]


@register_margin(
    "adacos",
    formula="cos θ with a scale that follows the batch",
    source="Zhang et al., AdaCos, CVPR 2019, eqs. 12 to 15",
    state="scale",
)
def adacos(*, dynamic: bool = True) -> AdaCos:
    """Softmax of cosines that needs neither scale nor margin; ``dynamic=False`` keeps s_0.

    Source: Zhang et al., AdaCos (CVPR 2019).

    >>> adacos().has_scale
    False
    """
    return AdaCos(dynamic=dynamic)
