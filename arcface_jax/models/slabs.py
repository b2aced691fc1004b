"""Sums over the places of a feature map, a few rows at a time, for CPUs."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def pad(x: Array, padding: int) -> Array:
    """Zeros around float[B, H, W, C].

    >>> pad(jnp.ones((1, 2, 2, 1)), 1).shape
    (1, 4, 4, 1)
    """
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def meetings(x: Array, *, size: int, stride: int, outputs: tuple[int, int]) -> Iterator[Array]:
    """For each tap of a kernel, the inputs [B, *outputs, C] that it meets.

    Args:
      x: float[B, H, W, C], already padded.
      size: side of the kernel.
      stride: between two outputs.
      outputs: rows and columns of the output.

    >>> [float(met[0, 0, 0, 0]) for met in meetings(
    ...     jnp.arange(4.0).reshape(1, 2, 2, 1), size=2, stride=1, outputs=(1, 1))]
    [0.0, 1.0, 2.0, 3.0]
    """
    batch, _, _, channels = x.shape
    height, width = (stride * (n - 1) + 1 for n in outputs)
    for row in range(size):
        for column in range(size):
            yield jax.lax.slice(
                x,
                (0, row, column, 0),
                (batch, row + height, column + width, channels),
                (1, stride, stride, 1),
            )


def sum_slabs(
    term: Callable[[Array, Array], Any],
    x: Array,
    grad: Array,
    *,
    size: int,
    stride: int,
    rows: int,
) -> Any:
    """The sum of ``term(inputs, grads)`` over slabs that stay in a processor's cache.

    Args:
      term: of padded inputs float[1, stride (rows - 1) + size, W, C] and of the gradients
        float[1, rows, W', C'] to the outputs that they meet; any pytree.
      x: float[B, H, W, C], already padded.
      grad: float[B, H', W', C'].
      size: side of the kernel.
      stride: between two outputs.
      rows: of a slab; divides H'.
    """
    batch, height, *rest = grad.shape
    slabs, tall = height // rows, stride * (rows - 1) + size
    zero = jnp.zeros((), jnp.int32)

    def of_slab(index: Array) -> Any:
        image, row = index // slabs, index % slabs * rows
        return term(
            jax.lax.dynamic_slice(x, (image, stride * row, zero, zero), (1, tall, *x.shape[2:])),
            jax.lax.dynamic_slice(grad, (image, row, zero, zero), (1, rows, *rest)),
        )

    def add(total: Any, index: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_slab(index)), None

    indices = jnp.arange(batch * slabs, dtype=jnp.int32)
    shapes = jax.eval_shape(of_slab, indices[0])
    zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
    return jax.lax.scan(add, zeros, indices)[0]


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor up to a bound that is at least 1.

    >>> largest_divisor(56, 10), largest_divisor(7, 0)
    (8, 1)
    """
    return max(n for n in range(1, max(1, min(number, at_most)) + 1) if number % n == 0)
