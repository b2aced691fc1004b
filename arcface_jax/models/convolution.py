"""Convolution whose gradients are fast on a CPU too."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax.models.slabs import largest_divisor, meetings, pad, sum_slabs
from arcface_jax.models.strided import input_gradient_by_parity

# Patches that are multiplied at once: they are written and read again, which a cache makes cheap.
PATCH_BYTES = 2**21


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    r"""Convolution over NHWC images, equal to XLA's own.

    .. math:: y_{b,i,j,o} = \sum_{u,v,c} x_{b,\, s i + u - p,\, s j + v - p,\, c}\, w_{u,v,c,o}

    XLA's CPU compiler takes the gradient to the kernel as a convolution of transposed images, and
    with stride 2 that to the input as one of a zero-stuffed gradient; both can take several times
    what their products cost (``python -m benchmarks.layers`` compares). On a CPU the former is a
    matrix product with patches of the images, a few rows at a time, and the latter a sum over the
    four parities of input positions.

    Args:
      x: float[B, H, W, c_in].
      kernel: float[k, k, c_in, c_out] in x's dtype.
      stride: between two outputs, in pixels.
      padding: zero pixels on every side.

    Returns:
      float[B, H', W', c_out] with H' = (H + 2 padding - k) // stride + 1.

    >>> convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((1, 1, 1, 1)), 2, 0).shape
    (1, 2, 2, 1)
    """
    return by_xla(x, kernel, stride=stride, padding=padding)


def by_xla(x: Array, kernel: Array, *, stride: int, padding: int, groups: int = 1) -> Array:
    """The convolution with the gradients that XLA derives; `convolution` says the shapes.

    >>> by_xla(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)), stride=1, padding=1).shape
    (1, 4, 4, 1)
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _forward(x: Array, kernel: Array, stride: int, padding: int):
    return convolution(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, saved: tuple[Array, Array], grad: Array):
    x, kernel = saved
    plain = functools.partial(by_xla, stride=stride, padding=padding)

    def input_by_xla(grad: Array) -> Array:
        return jax.linear_transpose(lambda x: plain(x, kernel), x)(grad)[0]

    def input_by_parity(grad: Array) -> Array:
        return input_gradient_by_parity(grad, kernel, padding=padding, shape=x.shape)

    def kernel_by_xla(grad: Array) -> Array:
        return jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(grad)[0]

    def kernel_by_patches(grad: Array) -> Array:
        return _kernel_gradient(x, grad, kernel.shape[0], stride, padding)

    return (
        jax.lax.platform_dependent(
            grad, cpu=input_by_parity if stride == 2 else input_by_xla, default=input_by_xla
        ),
        jax.lax.platform_dependent(grad, cpu=kernel_by_patches, default=kernel_by_xla),
    )


convolution.defvjp(_forward, _backward)


def _kernel_gradient(x: Array, grad: Array, size: int, stride: int, padding: int) -> Array:
    """Patches [places, k k c_in], transposed, times the gradients [places, c_out]."""
    batch, height, width, c_out = grad.shape
    columns = size**2 * x.shape[-1]
    row_bytes = width * columns * x.dtype.itemsize
    # The sums are read and written with every slab, so that a slab should not be smaller.
    rows = max(PATCH_BYTES, columns * c_out * x.dtype.itemsize) // row_bytes
    float_type = jnp.promote_types(x.dtype, jnp.float32)

    def product(inputs: Array, grads: Array) -> Array:
        outputs = (grads.shape[1], width)
        met = meetings(inputs, size=size, stride=stride, outputs=outputs)
        patches = jnp.concatenate(list(met), axis=-1).reshape(-1, columns)
        return jnp.matmul(patches.T, grads.reshape(-1, c_out), preferred_element_type=float_type)

    total = sum_slabs(
        product,
        pad(x, padding),
        grad,
        size=size,
        stride=stride,
        images=largest_divisor(batch, rows // height),
        rows=largest_divisor(height, rows),
    )
    return total.astype(x.dtype).reshape(size, size, x.shape[-1], c_out)
