"""A strided convolution whose input gradient is fast on a CPU."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _convolve(x: Array, kernel: Array, padding: int, stride: int = 2) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=_LAYOUT,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def halving_convolution(x: Array, kernel: Array, padding: int) -> Array:
    """Convolution with stride 2 over NHWC images, equal to XLA's own.

    XLA takes the gradient to the input as a convolution of the zero-stuffed output gradient,
    which its CPU compiler does slowly (``python -m benchmarks.layers`` compares). On a CPU each
    of the four parities of input positions is instead a sum of small matrix products.

    Args:
      x: float[B, H, W, c_in].
      kernel: float[k, k, c_in, c_out] in x's dtype.
      padding: zero pixels on every side.

    Returns:
      float[B, H', W', c_out] with H' = (H + 2 padding - k) // 2 + 1.

    >>> halving_convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((1, 1, 1, 1)), 0).shape
    (1, 2, 2, 1)
    """
    return _convolve(x, kernel, padding)


def _forward(x: Array, kernel: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, padding), (x, kernel)


def _backward(padding: int, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved

    def by_xla(grad: Array) -> Array:
        _, vjp = jax.vjp(lambda x: _convolve(x, kernel, padding), x)
        return vjp(grad)[0]

    def by_parity(grad: Array) -> Array:
        return _input_gradient(grad, kernel, padding, x.shape)

    grad_x = jax.lax.platform_dependent(grad, cpu=by_parity, default=by_xla)
    _, vjp = jax.vjp(lambda kernel: _convolve(x, kernel, padding), kernel)
    return grad_x, vjp(grad)[0]


halving_convolution.defvjp(_forward, _backward)


def _input_gradient(grad: Array, kernel: Array, padding: int, shape: tuple[int, ...]) -> Array:
    """Gradient to the input, one parity of rows and columns after the other."""
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
                total += jnp.einsum("bhwo,io->bhwi", part, kernel[row_tap, column_tap])
        return total

    rows = [jnp.stack([plane(r, 0), plane(r, 1)], axis=3) for r in (0, 1)]
    full = jnp.stack(rows, axis=2).reshape(batch, 2 * half[0], 2 * half[1], channels)
    return full[:, :height, :width]
