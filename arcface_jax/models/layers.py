"""Layers that Flax lacks or sets differently from the published networks."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.models.convolution import by_xla, convolution
from arcface_jax.models.grouped import grouped_convolution
from arcface_jax.models.normalization import sum_rows


@jax.custom_vjp
def leaky(x: Array, slope: Array) -> Array:
    r""":math:`\max(x, 0) + a \min(x, 0)` with one slope a per entry of the last axis.

    >>> leaky(jnp.array([[-4.0, 4.0]]), jnp.array([0.25, 0.25]))
    Array([[-1.,  4.]], dtype=float32)
    """
    return jnp.where(x >= 0, x, x * slope.reshape((1,) * (x.ndim - 1) + slope.shape))


def _leaky_forward(x: Array, slope: Array):
    return leaky(x, slope), (x, slope)


def _leaky_backward(saved, grad):
    x, slope = saved
    wide = slope.reshape((1,) * (x.ndim - 1) + slope.shape)
    float_type = jnp.promote_types(x.dtype, jnp.float32)
    slope_grad = sum_rows(
        lambda x, grad: jnp.minimum(x, 0).astype(float_type) * grad.astype(float_type), x, grad
    )
    return jnp.where(x >= 0, grad, grad * wide), slope_grad.astype(slope.dtype)


leaky.defvjp(_leaky_forward, _leaky_backward)


class PReLU(nnx.Module):
    """Leaky rectifier with one trained slope per channel; `nnx.PReLU` has one for all.

    Args:
      channels: size of the last axis.
      init: every slope's first value.

    Source: He et al., Delving Deep into Rectifiers (ICCV 2015), eq. 1.

    >>> PReLU(2)(jnp.array([[-4.0, 4.0]]))
    Array([[-1.,  4.]], dtype=float32)
    """

    def __init__(self, channels: int, *, init: float = 0.25):
        """Every slope starts at ``init``."""
        self.slope = nnx.Param(jnp.full((channels,), init, jnp.float32))

    def __call__(self, x: Array) -> Array:
        """float[..., channels] -> the same shape and dtype."""
        return leaky(x, self.slope[...].astype(x.dtype))


def normal_tenth(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """N(0, 0.1), as arcface_torch draws the convolutions of its residual networks.

    >>> abs(float(normal_tenth(jax.random.key(0), (1000,)).std()) - 0.1) < 0.01
    True
    """
    return 0.1 * jax.random.normal(key, shape, dtype)


def kaiming_fan_out(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    r"""N(0, :math:`\sqrt{2 / (k^2 c_\text{out})}`), PyTorch's ``kaiming_normal_(mode="fan_out")``.

    Channels in groups count as if there were none, as they do there.

    Source: He et al., Delving Deep into Rectifiers (ICCV 2015), eq. 14.

    >>> abs(float(kaiming_fan_out(jax.random.key(0), (1, 1, 400, 8)).std()) - 0.5) < 0.02
    True
    """
    fan_out = shape[-1] * math.prod(shape[:-2])
    return (2.0 / fan_out) ** 0.5 * jax.random.normal(key, shape, dtype)


class Convolution(nnx.Module):
    """Square convolution, padding written out.

    ``SAME`` would pad (0, 1) at stride 2 on an even size where the published networks pad (1, 1).

    Args:
      c_in: channels of the input.
      c_out: channels of the output.
      kernel: side in pixels.
      stride: between two outputs, in pixels.
      padding: zero pixels on every side.
      groups: channels are cut into so many groups that do not meet; ``c_in`` is depthwise.
      use_bias: whether a trained constant is added, 0 at first.
      kernel_init: draws float[kernel, kernel, c_in / groups, c_out]; N(0, 0.1) without it.
      dtype: what it computes in; kernel and bias are float32.
      rngs: stream ``params``.

    >>> x = jnp.ones((1, 4, 4, 3))
    >>> Convolution(3, 8, kernel=3, stride=2, padding=1, rngs=nnx.Rngs(0))(x).shape
    (1, 2, 2, 8)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int,
        stride: int = 1,
        padding: int,
        groups: int = 1,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = normal_tenth,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Draws the kernel from stream ``params``."""
        shape = (kernel, kernel, c_in // groups, c_out)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.data(nnx.Param(jnp.zeros(c_out)) if use_bias else None)
        self.stride = stride
        self.padding = padding
        self.groups = groups
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H', W', c_out] in ``dtype``."""
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        if self.groups == 1:
            y = convolution(x, kernel, self.stride, self.padding)
        elif x.shape[-1] == kernel.shape[3]:
            y = grouped_convolution(x, kernel, self.stride, self.padding)
        else:
            y = by_xla(x, kernel, stride=self.stride, padding=self.padding, groups=self.groups)
        if self.bias is None:
            return y
        return y + self.bias[...].astype(self.dtype).reshape(1, 1, 1, -1)


def uniform_fan_in(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    r"""Uniform in :math:`\pm 1/\sqrt{\text{rows}}`, PyTorch's default for linear layers.

    >>> bool((abs(uniform_fan_in(jax.random.key(0), (16, 2))) <= 0.25).all())
    True
    """
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)
