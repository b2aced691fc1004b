"""The head that streams classes: a block of logits at a time, forward and backward."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax import geometry
from arcface_jax.heads.batch_losses import OneDevice
from arcface_jax.heads.class_products import class_products, own_products
from arcface_jax.heads.class_sums import (
    ClassSums,
    RunningSums,
    add_exactly,
    finite_top,
    no_classes,
    sum_logits,
    times,
    wrong_logits,
)
from arcface_jax.margins import Context, MarginRule
from arcface_jax.parallel import varying_like, varying_together


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Fixed:
    """What is fixed when a pass over the classes is compiled.

    Attributes:
      block: classes at a time.
      normalized: whether products are cosines.
      smoothed: whether the sum of logits is wanted.
      precision: of the matrix products.
      structure: of (margin, context), without its leaves.
      floating: which leaves are differentiated.
    """

    block: int
    normalized: bool
    smoothed: bool
    precision: jax.lax.PrecisionLike
    structure: Any
    floating: tuple[bool, ...]

    def rebuild(self, numbers: list[Array], others: list[Any]) -> tuple[MarginRule, Context]:
        """(margin, context) from its leaves."""
        numbers, others = list(numbers), list(others)
        leaves = [(numbers if floating else others).pop(0) for floating in self.floating]
        return jax.tree.unflatten(self.structure, leaves)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Held:
    """What a pass needs and has no gradient.

    Attributes:
      labels: int[B], each row's class among these classes, or a number outside [0, C).
      counts: float[C], classes that each stands for, 0 for padding; None for one each.
      others: leaves of (margin, context) that are not differentiated.
      fixed: what is not even traced.
    """

    labels: Array
    counts: Array | None
    others: list[Any]
    fixed: Fixed


def _entries(held: Held, start: Any, size: int) -> tuple[Array, Array, Array | None]:
    """(is the row's own class, is another class that exists, counts) of a block, [B, size]."""
    index = start + jnp.arange(size, dtype=jnp.int32)
    is_label = held.labels[:, None] == index[None, :]
    counts = _cut(held.counts, start, size)
    wrong = ~is_label if counts is None else ~is_label & (counts > 0)[None, :]
    return is_label, wrong, counts


def _over_blocks(total: int, block: int, add: Callable[[Any, int, Any], Any], carry: Any) -> Any:
    """``carry`` after ``add(start, size, carry)`` for each block; the last may be shorter."""
    whole, rest = divmod(total, block)
    if whole == 1:
        carry = add(0, block, carry)
    elif whole:
        carry = jax.lax.fori_loop(0, whole, lambda i, carry: add(i * block, block, carry), carry)
    return add(whole * block, rest, carry) if rest else carry


def _cut(array: Array | None, start: Any, size: int) -> Array | None:
    return None if array is None else jax.lax.dynamic_slice_in_dim(array, start, size)


def _paste(array: Array | None, part: Array | None, start: Any) -> Array | None:
    if array is None or part is None:
        return None
    return jax.lax.dynamic_update_slice_in_dim(array, part, start, 0)


def _products(rows: Array, centers: Array, bias: Array | None, fixed: Fixed) -> Array:
    return class_products(
        rows, centers, bias, normalized=fixed.normalized, precision=fixed.precision
    )


@jax.custom_vjp
def stream(
    rows: Array, centers: Array, bias: Array | None, numbers: list[Array], held: Held
) -> tuple[Array, ClassSums]:
    """(product with each row's own class, sums over its wrong classes), a block at a time.

    Args:
      rows: float[B, D], of unit length where the margin is on cosines.
      centers: float[C, D] or float[C, K, D], as stored.
      bias: float[C] or None.
      numbers: the differentiated leaves of (margin, context).
      held: the rest.

    Returns:
      (float[B], sums); the product is 0 for a row whose class is not among these.
    """
    margin, context = held.fixed.rebuild(numbers, held.others)

    def add(start: Any, size: int, sums: RunningSums) -> RunningSums:
        block = _cut(centers, start, size)
        assert block is not None
        products = _products(rows, block, _cut(bias, start, size), held.fixed)
        logits = wrong_logits(products, margin, context)
        _, wrong, counts = _entries(held, start, size)
        return sums + sum_logits(
            logits, wrong, margin, context, smoothed=held.fixed.smoothed, counts=counts
        )

    own = own_products(rows, centers, bias, held.labels, normalized=held.fixed.normalized)
    none = varying_like(no_classes(rows.shape[0], rows.dtype), rows)
    sums = _over_blocks(centers.shape[0], held.fixed.block, add, RunningSums(none, none))
    return own, sums.total


def _stream_forward(rows, centers, bias, numbers, held):
    own, sums = stream(rows, centers, bias, numbers, held)
    return (own, sums), (rows, centers, bias, numbers, held, sums.top)


def _stream_backward(residuals, cotangents):
    rows, centers, bias, numbers, held, top = residuals
    by_own, by_sums = cotangents
    fixed = held.fixed
    finite = finite_top(top)[:, None]

    def block_sums(
        products: Array, numbers: list[Array], wrong: Array, counts: Array | None
    ) -> Array:
        """A number whose gradient is that of the loss through this block."""
        margin, context = fixed.rebuild(numbers, held.others)
        logits = wrong_logits(products, margin, context)
        if margin.link == "sum":
            terms = jnp.where(wrong, margin.negative_losses(logits, context), 0.0)
            return jnp.sum(by_sums.terms[:, None] * times(counts, terms))
        # The largest logit of all classes is known by now, so nothing is rescaled.
        shares = jnp.where(wrong, jnp.exp(jnp.where(wrong, logits - finite, 0.0)), 0.0)
        total = jnp.sum(by_sums.exponentials[:, None] * times(counts, shares))
        if fixed.smoothed:
            smooth = times(counts, jnp.where(wrong, logits, 0.0))
            total += jnp.sum(by_sums.logits[:, None] * smooth)
        return total

    def add(start: Any, size: int, carry: Any) -> Any:
        totals, lost, by_centers, by_bias = carry
        is_label, wrong, counts = _entries(held, start, size)
        products, pull = jax.vjp(
            lambda rows, centers, bias: _products(rows, centers, bias, fixed),
            rows,
            _cut(centers, start, size),
            _cut(bias, start, size),
        )
        by_products, more_numbers = jax.grad(block_sums, argnums=(0, 1))(
            products, numbers, wrong, counts
        )
        more_rows, part, bias_part = pull(jnp.where(is_label, by_own[:, None], by_products))
        more = more_rows, *more_numbers
        totals, lost = zip(*map(add_exactly, totals, lost, more), strict=True)
        return totals, lost, _paste(by_centers, part, start), _paste(by_bias, bias_part, start)

    like = (rows, *numbers), (rows, *numbers), centers, bias
    nothing = varying_like(jax.tree.map(jnp.zeros_like, like), rows)
    totals, lost, by_centers, by_bias = _over_blocks(centers.shape[0], fixed.block, add, nothing)
    by_rows, *by_numbers = map(jnp.add, totals, lost)
    return by_rows, by_centers, by_bias, by_numbers, None


stream.defvjp(_stream_forward, _stream_backward)


def floating_leaves(tree: Any) -> tuple[list[Array], list[Any], Any, tuple[bool, ...]]:
    """(leaves that can be differentiated, the others, structure, which is which).

    >>> floating_leaves({"a": 1.5, "b": jnp.int32(2)})[3]
    (True, False)
    """
    leaves, structure = jax.tree.flatten(tree)
    floating = tuple(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves)
    numbers = [jnp.asarray(x) for x, is_float in zip(leaves, floating, strict=True) if is_float]
    others = [x for x, is_float in zip(leaves, floating, strict=True) if not is_float]
    return numbers, others, structure, floating


# A block of centres of 2 MB and its logits stay in a core's cache.
CPU_BLOCK_BYTES = 2 * 2**20
ACCELERATOR_BLOCK_BYTES = 256 * 2**20


def default_block(rows: int, dim: int) -> int:
    """Classes at a time for B rows of D numbers, a power of two.

    On a CPU a block of centres and its logits fit in cache; on an accelerator blocks are large
    enough to fill it.

    >>> default_block(128, 512)
    512
    """
    most = CPU_BLOCK_BYTES if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK_BYTES
    return 1 << max(7, (most // (4 * (rows + dim))).bit_length() - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fused(OneDevice):
    """Never holds more than one block of logits; equal to the dense head.

    A forward pass keeps running maxima and sums; the backward pass forms each block again, so it
    costs one more product with the centres and saves the B x C matrix, its exponentials and the
    normalised copy of the centres.

    Args:
      block: classes at a time; None chooses for the backend.
      precision: of the matrix products; HIGHEST, since GPUs would use TF32 below it.

    >>> import arcface_jax as af
    >>> x, w = jnp.eye(2), jnp.eye(2)
    >>> head = Fused(block=1)
    >>> af.margin_softmax_loss(x, w, jnp.arange(2), margin=af.cosface(1.0), scale=4.0, head=head)
    Array([0.6931472, 0.6931472], dtype=float32)
    """

    block: int | None = None
    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST

    def __post_init__(self):
        if self.block is not None and self.block < 1:
            raise ValueError(f"block={self.block}; a block has at least 1 class.")

    def sums(
        self,
        rows: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        bias: Array | None,
        context: Context,
        smoothed: bool,
        counts: Array | None = None,
    ) -> tuple[Array, ClassSums]:
        """(own products, sums over wrong classes) of rows made ready; see `stream`."""
        # What the batch's statistics hold is a constant for the classes.
        context = dataclasses.replace(
            context,
            norms=context.norms if margin.needs_norms else None,
            **{
                name: jax.lax.stop_gradient(getattr(context, name))
                for name in ("center_norms", "target_cosines", "others_lse")
            },
            where=None,
            key=None,
        )
        numbers, others, structure, floating = floating_leaves((margin, context))
        fixed = Fixed(
            block=min(self.block or default_block(*rows.shape), centers.shape[0]),
            normalized=margin.normalized,
            smoothed=smoothed,
            precision=self.precision,
            structure=structure,
            floating=floating,
        )
        held = Held(labels=labels, counts=counts, others=others, fixed=fixed)
        differentiated = (rows, geometry.as_float(centers), bias, numbers)
        # On several devices a gradient differs wherever any of its causes does.
        return stream(*varying_together(differentiated, held), held)
