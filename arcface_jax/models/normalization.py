"""Batch normalisation as the published networks train it."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


def sum_rows(x: Array) -> Array:
    """Sum over all axes but the last, float[channels].

    As a matrix product on a CPU: XLA's own reduction over leading axes takes longer there, see
    ``python -m benchmarks.layers``.

    >>> sum_rows(jnp.ones((2, 3, 4)))
    Array([6., 6., 6., 6.], dtype=float32)
    """

    def by_product(flat: Array) -> Array:
        ones = jnp.ones((1, flat.shape[0]), flat.dtype)
        return jnp.matmul(ones, flat, precision=jax.lax.Precision.HIGHEST)[0]

    flat = x.reshape(-1, x.shape[-1])
    return jax.lax.platform_dependent(
        flat, cpu=by_product, default=functools.partial(jnp.sum, axis=0)
    )


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _along(values: Array, x: Array) -> Array:
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def _statistics(x: Array) -> tuple[Array, Array]:
    count = x.size // x.shape[-1]
    mean = sum_rows(x) / count
    return mean, jnp.maximum(sum_rows(jnp.square(x)) / count - jnp.square(mean), 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def standardize(x: Array, epsilon: float) -> tuple[Array, Array, Array]:
    r"""(x with mean 0 and variance 1 per channel over the batch, its mean, its variance).

    .. math:: \hat x = (x - \mu) / \sqrt{\sigma^2 + \epsilon}

    Statistics are float32 (float64 for float64 input); their own gradient is not propagated.

    >>> standardize(jnp.array([[1.0], [3.0]]), 0.0)[1:]
    (Array([2.], dtype=float32), Array([1.], dtype=float32))
    """
    wide = _wide(x)
    mean, variance = _statistics(wide)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return ((wide - _along(mean, x)) * _along(inverse, x)).astype(x.dtype), mean, variance


def _standardize_forward(x: Array, epsilon: float):
    result = standardize(x, epsilon)
    return result, (x, result[1], result[2])


def _standardize_backward(epsilon: float, saved, grads):
    x, mean, variance = saved
    grad = _wide(grads[0])
    inverse = jax.lax.rsqrt(variance + epsilon)
    unit = (_wide(x) - _along(mean, x)) * _along(inverse, x)
    count = x.size // x.shape[-1]
    mean_grad = _along(sum_rows(grad) / count, x)
    mean_product = _along(sum_rows(grad * unit) / count, x)
    return (((grad - mean_grad - unit * mean_product) * _along(inverse, x)).astype(x.dtype),)


standardize.defvjp(_standardize_forward, _standardize_backward)


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
        y, mean, variance = self._standardized(x)
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1.0 - keep) * jax.lax.stop_gradient(mean)
        self.var[...] = keep * self.var[...] + (1.0 - keep) * jax.lax.stop_gradient(variance)
        if self.scale is not None:
            return scale_and_shift(_wide(y), scale, bias).astype(self.dtype)
        return (_wide(y) + _along(bias, x)).astype(self.dtype)

    def _standardized(self, x: Array) -> tuple[Array, Array, Array]:
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
            y, mean, variance = standardize(x, self.epsilon)
        else:
            grouped = x.reshape(rows // group, group, *x.shape[1:])
            y, means, variances = jax.vmap(lambda part: standardize(part, self.epsilon))(grouped)
            y, mean, variance = y.reshape(x.shape), means.mean(axis=0), variances.mean(axis=0)
        return y, mean, variance * (count / (count - 1))


@jax.custom_vjp
def scale_and_shift(x: Array, scale: Array, shift: Array) -> Array:
    """``scale * x + shift`` along the last axis, with the gradients summed by `sum_rows`.

    >>> scale_and_shift(jnp.ones((2, 1)), jnp.array([2.0]), jnp.array([1.0]))
    Array([[3.],
           [3.]], dtype=float32)
    """
    return x * _along(scale, x) + _along(shift, x)


def _scale_and_shift_forward(x: Array, scale: Array, shift: Array):
    return scale_and_shift(x, scale, shift), (x, scale)


def _scale_and_shift_backward(saved, grad):
    x, scale = saved
    return grad * _along(scale, x), sum_rows(grad * x), sum_rows(grad)


scale_and_shift.defvjp(_scale_and_shift_forward, _scale_and_shift_backward)
