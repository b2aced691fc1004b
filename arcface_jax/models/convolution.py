"""Convolution whose gradients are fast on a CPU too."""

import functools

import jax
from jax import Array

from arcface_jax.models.strided import input_gradient_by_parity


def convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    r"""Convolution over NHWC images, equal to XLA's own.

    .. math:: y_{b,i,j,o} = \sum_{u,v,c} x_{b,\, s i + u - p,\, s j + v - p,\, c}\, w_{u,v,c,o}

    XLA's CPU compiler takes the gradient to the input of a convolution with stride 2 as one of a
    zero-stuffed gradient, three quarters of whose products are with zeros. Here it is a sum over
    the four parities of input positions on a CPU (``python -m benchmarks.layers`` compares).

    Args:
      x: float[B, H, W, c_in].
      kernel: float[k, k, c_in, c_out] in x's dtype.
      stride: between two outputs, in pixels.
      padding: zero pixels on every side.

    Returns:
      float[B, H', W', c_out] with H' = (H + 2 padding - k) // stride + 1.

    >>> convolution(jax.numpy.ones((1, 4, 4, 1)), jax.numpy.ones((1, 1, 1, 1)), 2, 0).shape
    (1, 2, 2, 1)
    """
    if stride == 2:
        return _with_stride_2(x, kernel, padding)
    return by_xla(x, kernel, stride=stride, padding=padding)


def by_xla(x: Array, kernel: Array, *, stride: int, padding: int, groups: int = 1) -> Array:
    """The convolution with the gradients that XLA derives; `convolution` says the shapes.

    >>> x, kernel = jax.numpy.ones((1, 4, 4, 2)), jax.numpy.ones((3, 3, 2, 1))
    >>> by_xla(x, kernel, stride=1, padding=1).shape
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _with_stride_2(x: Array, kernel: Array, padding: int) -> Array:
    return by_xla(x, kernel, stride=2, padding=padding)


def _forward(x: Array, kernel: Array, padding: int):
    return _with_stride_2(x, kernel, padding), (x, kernel)


def _backward(padding: int, saved: tuple[Array, Array], grad: Array):
    x, kernel = saved
    plain = functools.partial(by_xla, stride=2, padding=padding)

    def by_parity(grad: Array) -> Array:
        return input_gradient_by_parity(grad, kernel, padding=padding, shape=x.shape)

    def as_xla_does(grad: Array) -> Array:
        return jax.linear_transpose(lambda x: plain(x, kernel), x)(grad)[0]

    return (
        jax.lax.platform_dependent(grad, cpu=by_parity, default=as_xla_does),
        jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(grad)[0],
    )


_with_stride_2.defvjp(_forward, _backward)
