"""Convolution of few channels with few, fast on a CPU too."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax.models.convolution import by_xla
from arcface_jax.models.slabs import largest_divisor, meetings, pad, sum_slabs
from arcface_jax.models.strided import input_gradient_by_parity

# Rows of an output map whose products are added up before they join the running sums: a slab of
# this many rows stays in a processor's cache.
SLAB_ROWS = 8


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def grouped_convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    r"""Convolution in groups of m channels that meet only each other, equal to XLA's own.

    .. math:: y_{b,i,j,c} = \sum_{u,v} \sum_{a < m}
        x_{b,\, s i + u - p,\, s j + v - p,\, m \lfloor c / m \rfloor + a}\, w_{u,v,a,c}

    With m = 1 it is depthwise. XLA's CPU compiler runs grouped convolutions, above all their
    gradients, through a loop that takes many times what the products cost (``python -m
    benchmarks.layers`` compares). On a CPU the sums are written out over shifted images instead;
    worth it for small m.

    Args:
      x: float[B, H, W, C].
      kernel: float[k, k, m, C] in x's dtype, where m divides C.
      stride: between two outputs, in pixels.
      padding: zero pixels on every side.

    Returns:
      float[B, H', W', C] with H' = (H + 2 padding - k) // stride + 1.

    >>> grouped_convolution(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2)), 2, 1).shape
    (1, 2, 2, 2)
    """
    groups = x.shape[-1] // kernel.shape[2]
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_by_shifts, stride=stride, padding=padding),
        default=functools.partial(by_xla, stride=stride, padding=padding, groups=groups),
    )


def _forward(x: Array, kernel: Array, stride: int, padding: int):
    return grouped_convolution(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, saved: tuple[Array, Array], grad: Array):
    def by_shifts(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        size, members = kernel.shape[0], kernel.shape[2]
        x_grad, kernel_grads = jnp.zeros((), x.dtype), []
        for turn, own in enumerate(_depthwise_kernels(kernel)):
            back = _depthwise_input_gradient(grad, own, stride, padding, x.shape)
            x_grad += _turned(back, -turn % members, members)
            turned = _turned(x, turn, members)
            kernel_grads.append(_depthwise_kernel_gradient(turned, grad, size, stride, padding))
        return x_grad, *jax.linear_transpose(_depthwise_kernels, kernel)(tuple(kernel_grads))

    def as_xla_does(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        groups = x.shape[-1] // kernel.shape[2]
        plain = functools.partial(by_xla, stride=stride, padding=padding, groups=groups)
        return jax.vjp(plain, x, kernel)[1](grad)

    return jax.lax.platform_dependent(*saved, grad, cpu=by_shifts, default=as_xla_does)


grouped_convolution.defvjp(_forward, _backward)


def _by_shifts(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """One depthwise convolution for each way to turn the channels within their groups."""
    total, members = jnp.zeros((), x.dtype), kernel.shape[2]
    for turn, own in enumerate(_depthwise_kernels(kernel)):
        total += _depthwise(_turned(x, turn, members), own, stride, padding)
    return total


def _turned(x: Array, turn: int, members: int) -> Array:
    """x[..., C] with place o of each group of channels taken by member (o + turn) % members."""
    if not turn:
        return x
    channels = x.shape[-1]
    beside = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((members, members),))
    later, earlier = (
        jax.lax.slice_in_dim(beside, members + by, members + by + channels, axis=-1)
        for by in (turn, turn - members)
    )
    inside = (jnp.arange(channels) % members + turn < members).reshape((1,) * (x.ndim - 1) + (-1,))
    return jnp.where(inside, later, earlier)


def _depthwise_kernels(kernel: Array) -> tuple[Array, ...]:
    """The weights [k, k, 1, C] that meet the channels of `_turned` for each turn."""
    members = kernel.shape[2]
    by_group = kernel.reshape(*kernel.shape[:3], -1, members)
    return tuple(
        jnp.stack(
            [by_group[:, :, (place + turn) % members, :, place] for place in range(members)],
            axis=-1,
        ).reshape(*kernel.shape[:2], 1, -1)
        for turn in range(members)
    )


def _covers(size: int, x: Array, padding: int) -> bool:
    """Whether the kernel lies on the whole image, once."""
    return x.shape[1:3] == (size, size) and not padding


def _depthwise(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    size, wide = kernel.shape[0], jnp.promote_types(x.dtype, jnp.float32)
    taps = kernel.reshape(-1, 1, 1, 1, x.shape[-1]).astype(wide)
    if _covers(size, x, padding):
        products = x.astype(wide) * taps.reshape(1, size, size, -1)
        return jnp.sum(products, axis=(1, 2), keepdims=True).astype(x.dtype)
    height, width = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
    total = jnp.zeros((), wide)
    all_met = meetings(pad(x, padding), size=size, stride=stride, outputs=(height, width))
    for tap, met in zip(taps, all_met, strict=True):
        total += met.astype(wide) * tap
    return total.astype(x.dtype)


def _depthwise_input_gradient(
    grad: Array, kernel: Array, stride: int, padding: int, shape: tuple[int, ...]
) -> Array:
    size = kernel.shape[0]
    if shape[1:3] == (size, size) and not padding:
        return grad * kernel.reshape(1, size, size, -1)
    if stride == 1 and padding < size:
        return _depthwise(grad, kernel[::-1, ::-1], 1, size - 1 - padding)
    if stride == 2:
        return input_gradient_by_parity(
            grad,
            kernel,
            padding=padding,
            shape=shape,
            product=lambda grads, tap: grads * tap.reshape(1, 1, 1, -1),
        )
    x = jax.ShapeDtypeStruct(shape, grad.dtype)
    return jax.linear_transpose(lambda x: _depthwise(x, kernel, stride, padding), x)(grad)[0]


def _depthwise_kernel_gradient(
    x: Array, grad: Array, size: int, stride: int, padding: int
) -> Array:
    """Sum over images and places of the products of gradient and input, for each tap.

    The running sums [W', C], one for each tap, are kept per column: adding along an axis that is
    not the last costs a CPU no more than adding two arrays.
    """
    _, height, width, channels = grad.shape
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if _covers(size, x, padding):
        products = x.astype(wide) * grad.astype(wide)
        return jnp.sum(products, axis=0)[:, :, None].astype(x.dtype)
    rows = largest_divisor(height, SLAB_ROWS)

    def per_tap(inputs: Array, grads: Array) -> tuple[Array, ...]:
        all_met = meetings(inputs, size=size, stride=stride, outputs=(rows, width))
        grads = grads.astype(wide)
        return tuple(
            functools.reduce(
                jnp.add, (met[0, row].astype(wide) * grads[0, row] for row in range(rows))
            )
            for met in all_met
        )

    sums = sum_slabs(per_tap, pad(x, padding), grad, size=size, stride=stride, rows=rows)
    summed = jnp.stack([each.sum(axis=0) for each in sums]).astype(x.dtype)
    return summed.reshape(size, size, 1, channels)
