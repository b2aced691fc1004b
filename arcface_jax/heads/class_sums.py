"""What a head needs of all wrong classes, and the loss that follows from it."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins import Context, MarginRule
from arcface_jax.margins.rule import per_row


def finite_top(top: Array) -> Array:
    """The largest logit, or 0 where there is none, so that a difference to it is a number.

    >>> finite_top(jnp.array([2.0, -jnp.inf]))
    Array([2., 0.], dtype=float32)
    """
    return jnp.where(top > -jnp.inf, top, 0.0)


def add_exactly(total: Array, lost: Array, more: Array) -> tuple[Array, Array]:
    """``total + more`` as it is rounded, and ``lost`` with what rounding took (Knuth's two-sum).

    >>> total, lost = add_exactly(jnp.float32(2.0**24), jnp.float32(0.0), jnp.float32(1.0))
    >>> float(total), float(lost)
    (16777216.0, 1.0)
    """
    added = total + more
    counted = added - total
    return added, lost + ((total - (added - counted)) + (more - counted))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassSums:
    """Sums over the wrong classes of each row; those that a link does not use are 0.

    Attributes:
      top: float[B], largest logit of a wrong class, -inf where there is none; a constant.
      exponentials: float[B], sum of exp(logit - top).
      logits: float[B], sum of logits, for label smoothing.
      terms: float[B], sum of the terms of ``link="sum"``.
    """

    top: Array
    exponentials: Array
    logits: Array
    terms: Array

    @property
    def lse(self) -> Array:
        """Log-sum-exp over the wrong classes, float[B]; -inf where there is none."""
        return self.lse_above(jnp.zeros_like(self.top))

    def lse_above(self, target: Array) -> Array:
        """``lse - target``, without the rounding of a sum that is larger than the difference."""
        # Not "above 0": NaN is to stay.
        none = self.exponentials == 0.0
        log = jnp.log(jnp.where(none, 1.0, self.exponentials))
        return jnp.where(none, -jnp.inf - target, log + (finite_top(self.top) - target))

    def at(self, top: Array) -> "ClassSums":
        """The same sums with exponentials taken from ``top``, which is no smaller."""
        exponentials = self.exponentials * jnp.exp(self.top - finite_top(top))
        return dataclasses.replace(self, top=top, exponentials=exponentials)

    def __add__(self, other: "ClassSums") -> "ClassSums":
        """The sums over the classes of both."""
        top = jnp.maximum(self.top, other.top)
        mine, theirs = self.at(top), other.at(top)
        return ClassSums(
            top=top,
            exponentials=mine.exponentials + theirs.exponentials,
            logits=mine.logits + theirs.logits,
            terms=mine.terms + theirs.terms,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RunningSums:
    """Sums to which many blocks are added, and what rounding took from them on the way.

    Thousands of blocks of like size would each lose the same last bits; with those summed too
    (compensated summation) the result is that of one block.

    Attributes:
      sums: so far.
      lost: to be added at the end, with the exponentials taken from the same ``top``.
    """

    sums: ClassSums
    lost: ClassSums

    def __add__(self, block: ClassSums) -> "RunningSums":
        """The sums with those of another block."""
        top = jnp.maximum(self.sums.top, block.top)
        mine, lost, theirs = (each.at(top) for each in (self.sums, self.lost, block))
        sums, rest = {}, {}
        for name in ("exponentials", "logits", "terms"):
            of_all = (getattr(part, name) for part in (mine, lost, theirs))
            sums[name], rest[name] = add_exactly(*of_all)
        return RunningSums(ClassSums(top=top, **sums), ClassSums(top=top, **rest))

    @property
    def total(self) -> ClassSums:
        """The sums with what was lost."""
        return self.sums + self.lost


def no_classes(rows: int, dtype: jnp.dtype) -> ClassSums:
    """Sums over nothing.

    >>> no_classes(1, jnp.dtype("float32")).lse
    Array([-inf], dtype=float32)
    """
    zeros = jnp.zeros(rows, dtype)
    return ClassSums(
        top=jnp.full(rows, -jnp.inf, dtype), exponentials=zeros, logits=zeros, terms=zeros
    )


def wrong_logits(products: Array, margin: MarginRule, context: Context) -> Array:
    """Logits of wrong classes, float[B, n]; the true class's entry means nothing.

    >>> import arcface_jax as af
    >>> wrong_logits(jnp.ones((1, 2)), af.arcface(), Context(scale=jnp.float32(4.0)))
    Array([[4., 4.]], dtype=float32)
    """
    scales = margin.scales(context).astype(products.dtype)
    return per_row(scales, products) * margin.negatives(products, context)


def times(counts: Array | None, values: Array) -> Array:
    """Values per class, float[B, n], as often as the class counts.

    >>> times(jnp.array([2.0, 0.0]), jnp.ones((1, 2)))
    Array([[2., 0.]], dtype=float32)
    """
    return values if counts is None else counts[None, :].astype(values.dtype) * values


def sum_logits(
    logits: Array,
    wrong: Array,
    margin: MarginRule,
    context: Context,
    *,
    smoothed: bool,
    counts: Array | None = None,
) -> ClassSums:
    """The sums of a block of logits.

    Args:
      logits: float[B, n].
      wrong: bool[B, n], entries that are classes, and not the row's own.
      margin: says what is summed.
      context: of the batch.
      smoothed: whether the sum of logits is wanted.
      counts: float[n], how often each entry counts; None for once.

    >>> import arcface_jax as af
    >>> sums = sum_logits(
    ...     jnp.zeros((1, 2)), jnp.ones((1, 2), bool), af.arcface(), Context(), smoothed=False
    ... )
    >>> sums.lse
    Array([0.6931472], dtype=float32)
    """
    none = no_classes(logits.shape[0], logits.dtype)
    if margin.link == "sum":
        terms = jnp.where(wrong, margin.negative_losses(logits, context), 0.0)
        return dataclasses.replace(none, terms=jnp.sum(times(counts, terms), axis=1))
    masked = jnp.where(wrong, logits, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(masked, axis=1))
    return ClassSums(
        top=top,
        exponentials=jnp.sum(times(counts, jnp.exp(masked - finite_top(top)[:, None])), axis=1),
        logits=(
            jnp.sum(times(counts, jnp.where(wrong, logits, 0.0)), axis=1)
            if smoothed
            else none.logits
        ),
        terms=none.terms,
    )


def row_losses(
    own: Array,
    sums: ClassSums,
    margin: MarginRule,
    context: Context,
    *,
    label_smoothing: ArrayLike | None,
) -> Array:
    """The loss of each row by the margin's link, float[B].

    Args:
      own: float[B], product with the row's own centre.
      sums: over the wrong classes.
      margin: says what a row loses.
      context: of the batch.
      label_smoothing: share of the true class's weight that is spread over all classes.

    >>> import arcface_jax as af
    >>> context = Context(scale=jnp.float32(2.0))
    >>> row_losses(jnp.zeros(1), no_classes(1, jnp.dtype("float32")), af.norm_softmax(), context,
    ...            label_smoothing=None)
    Array([0.], dtype=float32)
    """
    target = margin.scales(context).astype(own.dtype) * margin.target(own, context)
    if margin.link == "sum":
        return margin.target_loss(target, context) + sums.terms
    losses = jax.nn.softplus(sums.lse_above(target))
    if label_smoothing is None:
        return losses
    assert context.num_classes is not None
    share = jnp.asarray(label_smoothing, losses.dtype)
    return losses + share * (target - (target + sums.logits) / context.num_classes)
