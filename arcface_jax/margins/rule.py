"""The questions that heads ask a margin, and what a margin may know when it answers.

A margin that is not in this package is one class with the answers that differ from norm-softmax:

* ``target(cosines, context)``: the cosine of the true class after the margin;
* ``negatives(cosines, context)``: the cosines of the other classes;
* ``link``: how logits become a loss: ``"softmax"``, or ``"sum"``: one term per class, added;
* ``observe(context)``: the running statistics after this batch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What a margin may know of the batch besides the cosine it is asked about.

    Every array with a row axis holds the whole batch, however the batch lies on devices.

    Attributes:
      scale: s as the caller gave it or the margin's default; a scalar or float[B].
      norms: float[B], length of each raw embedding.
      center_norms: float[B], length of each row's own class centre, where the margin asks for it.
      target_cosines: float[B], cosine to the true class before the margin.
      others_lse: float[B], log-sum-exp over the wrong classes, where the margin asks for it.
      where: bool[B], rows that count.
      params: the margin's own trainable scalars, or None.
      state: the margin's own running state, or None.
      key: random key of the step, or None.
      num_classes: C.
    """

    scale: Array | None = None
    norms: Array | None = None
    center_norms: Array | None = None
    target_cosines: Array | None = None
    others_lse: Array | None = None
    where: Array | None = None
    params: Any = None
    state: Any = None
    key: Array | None = None
    num_classes: int | None = dataclasses.field(default=None, metadata={"static": True})

    def of_rows(self, cut: Callable[[Any], Any]) -> "Context":
        """The context of some rows: ``cut`` takes them from every array that is per row."""
        per_row = ("scale", "norms", "center_norms", "target_cosines", "others_lse", "where")
        return dataclasses.replace(self, **{name: cut(getattr(self, name)) for name in per_row})


class MarginRule:
    """The answers of norm-softmax; a margin overrides those that differ.

    Attributes:
      link: how logits become a loss, ``"softmax"`` or ``"sum"``.
      normalized: whether embeddings and centres are normalised before their product.
      default_scale: s where the caller gives none.
      no_scale: why the caller cannot set s; empty where that is possible.
      needs_key: whether it draws random numbers.
      needs_norms: whether target or scale depend on the embeddings' lengths.
      needs_center_norms: whether the target depends on the length of its centre.
      state_by_class: whether its state has a row per class, which `prototypes` and `remember` alone
        use.
      needs_all_classes: why a head may not leave classes out; empty where a sample serves.
      centers_per_class: K, rows of each class's centre.

    >>> import arcface_jax as af
    >>> class Halved(af.MarginRule):
    ...     def target(self, cosines, context):
    ...         return 0.5 * cosines
    >>> af.target_cosine(0.5, Halved())
    Array(0.25, dtype=float32)
    """

    link: ClassVar[str] = "softmax"
    normalized: ClassVar[bool] = True
    default_scale: ClassVar[float] = 64.0
    needs_key: ClassVar[bool] = False
    needs_center_norms: ClassVar[bool] = False
    state_by_class: ClassVar[bool] = False
    needs_all_classes: ClassVar[str] = ""

    @property
    def needs_norms(self) -> bool:
        """No: cosines alone decide."""
        return False

    @property
    def has_bias(self) -> bool:
        """No: a class has nothing but its centres that is trained with it."""
        return False

    @property
    def no_scale(self) -> str:
        """Empty: the caller may set the scale."""
        return ""

    @property
    def has_scale(self) -> bool:
        """Whether the caller may set the scale of the logits."""
        return not self.no_scale

    @property
    def keeps_state(self) -> bool:
        """Whether calls take a running state and return the next one."""
        return type(self).init_state is not MarginRule.init_state

    @property
    def centers_per_class(self) -> int:
        """One."""
        return 1

    def init_state(self, num_classes: int | None = None, embedding_dim: int | None = None) -> Any:
        """The running state before the first step, or None where the margin keeps none."""
        del num_classes, embedding_dim
        return None

    def init_params(self, num_classes: int, *, scale: float | None = None) -> Any:
        """Trainable scalars of the margin itself, or None where it has none."""
        del num_classes, scale
        return None

    def init_bias(self, num_classes: int) -> Array | None:
        """One trainable number per class, float[C], or None where the margin has none."""
        return jnp.zeros(num_classes) if self.has_bias else None

    def offsets(self, bias: Array | None, context: Context) -> Array | None:
        """What ``bias`` adds to the products of each class, float[C], or None for nothing."""
        del context
        return bias

    def prototypes(self, centers: Array, context: Context) -> Array:
        """What stands in for the centres, float[C, D]."""
        del context
        return centers

    @property
    def features_momentum(self) -> ArrayLike | None:
        """Of the running mean of the backbone whose features `remember` takes.

        None where it takes the batch's embeddings.
        """
        return None

    @property
    def observes_others(self) -> bool:
        """Whether `observe` wants ``others_lse``: of the logits with the state so far."""
        return False

    def observe(self, context: Context) -> Context:
        """``context`` with its state moved on by this batch; it holds for this batch already."""
        return context

    def remember(self, embeddings: Array, labels: Array, context: Context) -> Context:
        """``context`` with its state moved on by what holds from the next batch on."""
        del embeddings, labels
        return context

    def scales(self, context: Context) -> Array:
        """What the cosines are multiplied by: a scalar, or one number per row."""
        assert context.scale is not None
        return context.scale

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        return cosines

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, elementwise; the true class's entry is ignored."""
        del context
        return cosines

    def target_loss(self, logits: Array, context: Context) -> Array:
        """With ``link="sum"``: the true class's term, float[B] from its logits."""
        raise NotImplementedError

    def negative_losses(self, logits: Array, context: Context) -> Array:
        """With ``link="sum"``: the wrong classes' terms, elementwise from their logits."""
        raise NotImplementedError

    def finish(self, losses: Array, context: Context) -> Array:
        """Losses after the sum over classes, with what belongs to whole rows."""
        del context
        return losses


def detach_margin(cosines: Array, value: Array, gradient: str) -> Array:
    """``value`` as it is, or with the derivative of the bare cosine.

    >>> value = lambda c: detach_margin(c, 3.0 * c, "straight_through")
    >>> float(value(1.0)), float(jax.grad(value)(1.0))
    (3.0, 1.0)
    """
    if gradient == "exact":
        return value
    return cosines + jax.lax.stop_gradient(value - cosines)


def like(value: ArrayLike, cosines: Array) -> Array:
    """A hyper-parameter in the type of the cosines.

    >>> like(1, jnp.float32(0.5))
    Array(1., dtype=float32)
    """
    return jnp.asarray(value, cosines.dtype)


def per_row(values: Array, cosines: Array) -> Array:
    """One number per row, or a scalar, beside cosines of all classes [B, C].

    >>> per_row(jnp.ones(3), jnp.ones((3, 2))).shape
    (3, 1)
    """
    return values[:, None] if values.ndim == cosines.ndim - 1 == 1 else values


def mean_where(values: Array, where: Array | None) -> tuple[Array, Array]:
    """(mean over the rows that count, whether there are any).

    >>> mean_where(jnp.array([1.0, 3.0, 9.0]), jnp.array([True, True, False]))
    (Array(2., dtype=float32), Array(True, dtype=bool))
    """
    counts = jnp.ones(values.shape, bool) if where is None else where
    total = jnp.sum(counts).astype(values.dtype)
    mean = jnp.sum(jnp.where(counts, values, 0.0)) / jnp.maximum(total, 1.0)
    return mean, total > 0.0


def stored(value: ArrayLike) -> Array:
    """A number of a running state: float32, and never differentiated."""
    return jax.lax.stop_gradient(jnp.asarray(value, jnp.float32))
