"""Batch normalisation as the published networks train it."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.models.slabs import largest_divisor

# Parts of an image that a CPU adds up elementwise before the rest is a matrix product.
PARTS = 4


def sum_rows(function: Callable[..., Array], *arrays: Array) -> Array:
    """Sum of ``function(*arrays)`` over all axes but the last, float[channels].

    XLA's CPU compiler is slow at reductions over leading axes (``python -m benchmarks.layers``).
    There each image is cut into parts that are added in one elementwise pass, which stores no
    summand, and a matrix product with ones adds the rows of the result. The batch is left whole:
    it may lie on several devices.

    Args:
      function: of each row alone, elementwise.
      *arrays: of one shape.

    >>> sum_rows(jnp.square, 2.0 * jnp.ones((2, 3, 4)))
    Array([24., 24., 24., 24.], dtype=float32)
    """
    batch, channels = arrays[0].shape[0], arrays[0].shape[-1]
    places = math.prod(arrays[0].shape[1:-1])
    parts = largest_divisor(places, PARTS)

    def by_parts(*arrays: Array) -> Array:
        cut = [each.reshape(batch, parts, places // parts, channels) for each in arrays]
        summands = (function(*(each[:, i] for each in cut)) for i in range(parts))
        total = functools.reduce(jnp.add, summands).reshape(-1, channels)
        ones = jnp.ones((1, total.shape[0]), total.dtype)
        return jnp.matmul(ones, total, precision=jax.lax.Precision.HIGHEST)[0]

    def at_once(*arrays: Array) -> Array:
        return jnp.sum(function(*arrays), axis=tuple(range(arrays[0].ndim - 1)))

    return jax.lax.platform_dependent(*arrays, cpu=by_parts, default=at_once)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _along(values: Array, x: Array) -> Array:
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize_batch(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    r"""(x normalised per channel over the batch, its mean, its variance).

    .. math:: y = \gamma\,(x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta

    Computed in float32 at least and returned in x's dtype; the gradient of the mean and of the
    variance that are returned is not propagated.

    >>> normalize_batch(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), 0.0)
    (Array([[-1.],
           [ 1.]], dtype=float32), Array([2.], dtype=float32), Array([1.], dtype=float32))
    """
    # Two passes: the difference of mean squares and squared mean loses digits that the gradients
    # of a deep network miss.
    count = x.size // x.shape[-1]
    mean = sum_rows(_wide, x) / count
    variance = sum_rows(lambda part: jnp.square(_wide(part) - _along(mean, part)), x) / count
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    y = (_wide(x) - _along(mean, x)) * _along(factor, x) + _along(bias, x)
    return y.astype(x.dtype), mean, variance


def _normalize_forward(x: Array, scale: Array, bias: Array, epsilon: float):
    result = normalize_batch(x, scale, bias, epsilon)
    return result, (x, scale, result[1], result[2])


def _normalize_backward(epsilon: float, saved, grads):
    x, scale, mean, variance = saved
    inverse = jax.lax.rsqrt(variance + epsilon)

    def standard(x: Array) -> Array:
        return (_wide(x) - _along(mean, x)) * _along(inverse, x)

    bias_grad = sum_rows(_wide, grads[0])
    scale_grad = sum_rows(lambda x, grad: standard(x) * _wide(grad), x, grads[0])
    count = x.size // x.shape[-1]
    centered = _wide(grads[0]) - _along(bias_grad / count, x)
    x_grad = (centered - standard(x) * _along(scale_grad / count, x)) * _along(scale * inverse, x)
    return x_grad.astype(x.dtype), scale_grad, bias_grad


normalize_batch.defvjp(_normalize_forward, _normalize_backward)


class BatchNorm(nnx.Module):
    r"""Batch normalisation over all axes but the last.

    .. math:: y = \gamma\,(x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta

    In training :math:`\mu, \sigma^2` are those of the batch, and the running ones move towards
    them (the variance unbiased, as PyTorch does); in evaluation the running ones are used.
    Statistics and parameters are float32 whatever ``dtype`` is.

    With ``group`` rows of the batch that share statistics, each group is normalised by its own, as
    the published networks are trained (128 images on each GPU), and the running ones follow the
    groups' means. A large batch without groups is less noisy, which trains differently.

    Args:
      channels: size of the last axis.
      momentum: share of the running statistics that is kept; PyTorch's 0.1 is 0.9 here.
      epsilon: added to the variance.
      group: rows of the batch that are normalised together; None: all. The batch on one device is
        normalised without traffic between devices.
      use_scale: whether there is a trained gamma; False fixes it to 1.
      dtype: of the result.
      use_running_average: evaluation mode; `flax.nnx.view` sets it on a whole model.

    Source: Ioffe and Szegedy, Batch Normalization (ICML 2015), algorithms 1 and 2.

    >>> BatchNorm(1)(jnp.array([[1.0], [3.0]])).round(3)
    Array([[-1.],
           [ 1.]], dtype=float32)
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        group: int | None = None,
        use_scale: bool = True,
        dtype: DTypeLike = jnp.float32,
        use_running_average: bool = False,
    ):
        """Gamma 1, beta 0, running mean 0 and variance 1."""
        self.scale = nnx.data(nnx.Param(jnp.ones(channels)) if use_scale else None)
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.momentum = momentum
        self.epsilon = epsilon
        self.group = group
        self.dtype = dtype
        self.use_running_average = use_running_average

    def set_view(self, use_running_average: bool | None = None, **kwargs):
        """Switches between batch and running statistics, for `flax.nnx.view`."""
        if use_running_average is not None:
            self.use_running_average = use_running_average
        return kwargs

    def __call__(self, x: Array) -> Array:
        """float[..., channels] -> the same shape, in ``dtype``."""
        bias = self.bias[...]
        scale = jnp.ones_like(bias) if self.scale is None else self.scale[...]
        if self.use_running_average:
            factor = scale * jax.lax.rsqrt(self.var[...] + self.epsilon)
            y = _wide(x) * _along(factor, x) + _along(bias - self.mean[...] * factor, x)
            return y.astype(self.dtype)
        y, mean, variance = self._normalized(x, scale, bias)
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1.0 - keep) * jax.lax.stop_gradient(mean)
        self.var[...] = keep * self.var[...] + (1.0 - keep) * jax.lax.stop_gradient(variance)
        return y.astype(self.dtype)

    def _normalized(self, x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
        """(x normalised, mean of the groups' means, mean of their unbiased variances)."""
        rows, group = x.shape[0], self.group or x.shape[0]
        if rows % group:
            raise ValueError(
                f"a batch of {rows} does not divide into groups of {group}; take a multiple, or "
                "another group for batch normalisation."
            )
        count = x.size // x.shape[-1] // (rows // group)
        if count < 2:
            raise ValueError(
                "batch normalisation of one row leaves nothing to learn from; train with at least "
                "2 images in a batch (and in a group)."
            )
        if group == rows:
            y, mean, variance = normalize_batch(x, scale, bias, self.epsilon)
        else:
            grouped = x.reshape(rows // group, group, *x.shape[1:])
            y, means, variances = jax.vmap(
                lambda part: normalize_batch(part, scale, bias, self.epsilon)
            )(grouped)
            y, mean, variance = y.reshape(x.shape), means.mean(axis=0), variances.mean(axis=0)
        return y, mean, variance * (count / (count - 1))
