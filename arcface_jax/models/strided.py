"""The input gradient of a convolution with stride 2."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def _product(grads: Array, tap: Array) -> Array:
    return jnp.einsum("bhwo,io->bhwi", grads, tap)


def input_gradient_by_parity(
    grad: Array,
    kernel: Array,
    *,
    padding: int,
    shape: tuple[int, ...],
    product: Callable[[Array, Array], Array] = _product,
) -> Array:
    """Gradient to the input, one parity of rows and columns after the other.

    Each parity is a sum of products, one for each tap that meets it.

    Args:
      grad: float[B, H', W', c_out], to the output.
      kernel: float[k, k, ...].
      padding: zero pixels on every side.
      shape: of the input, (B, H, W, c_in).
      product: of gradients [B, h, w, c_out] and one tap [...], float[B, h, w, c_in]; without it
        the tap is a matrix [c_in, c_out].

    >>> input_gradient_by_parity(
    ...     jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)), padding=1, shape=(1, 4, 4, 1)
    ... )[0, :, :, 0]
    Array([[1., 2., 1., 1.],
           [2., 4., 2., 2.],
           [1., 2., 1., 1.],
           [1., 2., 1., 1.]], dtype=float32)
    """
    batch, height, width, channels = shape
    size = kernel.shape[0]
    half = ((height + 1) // 2, (width + 1) // 2)
    # Input position i meets output o through tap k where i = 2 o + k - padding.
    before = max(0, -((padding - size + 1) // 2))
    after = [
        max(0, (1 + padding) // 2 + inputs - outputs)
        for inputs, outputs in zip(half, grad.shape[1:3], strict=True)
    ]
    padded = jnp.pad(grad, ((0, 0), (before, after[0]), (before, after[1]), (0, 0)))

    def taps(parity: int) -> list[tuple[int, int]]:
        """(tap, first output index) of each tap that reaches inputs of this parity."""
        return [
            (k, (parity + padding - k) // 2) for k in range(size) if (parity + padding - k) % 2 == 0
        ]

    def plane(row_parity: int, column_parity: int) -> Array:
        total = jnp.zeros((batch, *half, channels), grad.dtype)
        for row_tap, row in taps(row_parity):
            for column_tap, column in taps(column_parity):
                part = jax.lax.slice(
                    padded,
                    (0, row + before, column + before, 0),
                    (batch, row + before + half[0], column + before + half[1], grad.shape[3]),
                )
                total += product(part, kernel[row_tap, column_tap])
        return total

    rows = [jnp.stack([plane(r, 0), plane(r, 1)], axis=3) for r in (0, 1)]
    full = jnp.stack(rows, axis=2).reshape(batch, 2 * half[0], 2 * half[1], channels)
    return full[:, :height, :width]
