"""VPL: prototypes mixed with the last feature that was seen of each class."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_number
from arcface_jax.margins.combined import Margin
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, like
from arcface_jax.margins.wrapper import Wrapper


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VPL(Wrapper):
    r"""Each class is met at a mixture of its centre and the last feature that was seen of it.

    .. math:: \hat P_j = \mathrm{norm}\big((1 - \lambda_j)\hat W_j + \lambda_j \hat q_j\big), \quad
       \lambda_j = \lambda \text{ if } t > t_0 \text{ and } t - \mathrm{seen}_j \le \Delta
       \text{, else } 0

    Features and gate are constants in the gradient; the queue moves on after each step.

    Args:
      margin: any margin on cosines that keeps no state.
      weight: lambda, in [0, 0.5).
      start: t_0, steps before features count.
      window: Delta, steps for which a feature counts.
      momentum: of a running mean of the backbone, whose features the queue takes instead of the
        batch's own; None for none.

    Raises:
      ValueError: a number outside its bounds, a margin that has a state or no cosines.

    Source: Deng et al., Variational Prototype Learning (CVPR 2021), eqs. 5 and 6.

    >>> sorted(VPL().init_state(3, 2))
    ['queue', 'seen', 'step']
    """

    weight: ArrayLike = dataclasses.field(default=0.15, kw_only=True)
    start: ArrayLike = dataclasses.field(default=8000, kw_only=True)
    window: ArrayLike = dataclasses.field(default=200, kw_only=True)
    momentum: ArrayLike | None = dataclasses.field(default=None, kw_only=True)

    state_by_class: ClassVar[bool] = True
    needs_all_classes: ClassVar[str] = "its queue holds a feature of every class"

    def __post_init__(self):
        super().__post_init__()
        if self.margin.keeps_state or not self.margin.normalized:
            raise ValueError(
                f"vpl takes a margin on cosines without a state, not {type(self.margin).__name__}."
            )
        if self.margin.centers_per_class != 1:
            raise ValueError("vpl mixes one centre per class; take k=1.")
        check_number("weight", self.weight, 0.0, 0.5)
        check_number("start", self.start, 0, float("inf"))
        check_number("window", self.window, 0, float("inf"))
        if self.momentum is not None:
            check_number("momentum", self.momentum, 0.0, 1.0)

    @property
    def keeps_state(self) -> bool:
        """Yes: the queue."""
        return True

    def init_state(
        self, num_classes: int | None = None, embedding_dim: int | None = None
    ) -> dict[str, Array]:
        """Unit features drawn once, none of them seen."""
        if num_classes is None or embedding_dim is None:
            raise ValueError("vpl keeps a feature per class; pass init_state(C, D).")
        drawn = jax.random.normal(jax.random.key(0), (num_classes, embedding_dim), jnp.float32)
        # Longer ago than any window, so that the gate stays shut until a feature is seen.
        never = jnp.full(num_classes, jnp.iinfo(jnp.int32).min // 2, jnp.int32)
        return {"queue": geometry.unit(drawn), "seen": never, "step": jnp.zeros((), jnp.int32)}

    @property
    def features_momentum(self) -> ArrayLike | None:
        """Of the backbone that fills the queue."""
        return self.momentum

    def prototypes(self, centers: Array, context: Context) -> Array:
        """The mixtures, float[C, D]."""
        if context.state is None:
            return centers
        centers = geometry.as_float(centers)
        state = context.state
        step = state["step"] + 1
        fresh = step - state["seen"] <= jnp.asarray(self.window, jnp.int32)
        mixed = ((step > jnp.asarray(self.start, jnp.int32)) & fresh)[:, None]
        weight = like(self.weight, centers)
        queue = jax.lax.stop_gradient(geometry.unit(state["queue"].astype(centers.dtype)))
        return jnp.where(mixed, (1.0 - weight) * geometry.unit(centers) + weight * queue, centers)

    def remember(self, embeddings: Array, labels: Array, context: Context) -> Context:
        """``context`` with each class's last row of the batch in the queue."""
        if context.state is None:
            return context
        state = context.state
        step = state["step"] + 1
        counted = labels >= 0 if context.where is None else context.where
        rows, classes = labels.shape[0], state["seen"].shape[0]
        # The order in which a scatter writes is not defined, so the last row is found first.
        own = jnp.where(counted, labels, classes)
        last = (
            jnp.full(classes, -1, jnp.int32)
            .at[own]
            .max(jnp.arange(rows, dtype=jnp.int32), mode="drop")
        )
        met = last >= 0
        feature = jax.lax.stop_gradient(geometry.unit(embeddings))[jnp.maximum(last, 0)]
        queue = jnp.where(met[:, None], feature.astype(jnp.float32), state["queue"])
        seen = jnp.where(met, step, state["seen"])
        moved = {"queue": queue, "seen": seen, "step": step}
        some = jnp.any(counted)
        moved = jax.tree.map(lambda new, old: jnp.where(some, new, old), moved, state)
        return dataclasses.replace(context, state=moved)


@register_margin(
    "vpl",
    formula="cos(θ + m) to norm((1 − λ) W + λ q), q the last feature of the class",
    source="Deng et al., Variational Prototype Learning, CVPR 2021, eqs. 5 and 6",
    state="queue of features, when seen, step",
)
def vpl(
    m: ArrayLike = 0.5,
    *,
    weight: ArrayLike = 0.15,
    start: ArrayLike = 8000,
    window: ArrayLike = 200,
    momentum: float | None = None,
    margin: MarginRule | None = None,
) -> VPL:
    """ArcFace, or ``margin``, against prototypes that follow the features.

    Source: Deng et al., Variational Prototype Learning (CVPR 2021).

    >>> vpl(0.4).margin.m2
    0.4
    """
    return VPL(
        Margin(m2=m) if margin is None else margin,
        weight=weight,
        start=start,
        window=window,
        momentum=momentum,
    )
