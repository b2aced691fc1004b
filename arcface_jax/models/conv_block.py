"""Convolution, batch norm, activation: what mobile networks are made of."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.models.backbone import BackboneConfig
from arcface_jax.models.layers import Convolution, PReLU, kaiming_fan_out
from arcface_jax.models.normalization import BatchNorm


def relu6(x: Array) -> Array:
    r""":math:`\min(\max(x, 0), 6)`.

    >>> relu6(jnp.array([-1.0, 7.0]))
    Array([0., 6.], dtype=float32)
    """
    return jnp.clip(x, 0, 6)


ACTIVATIONS = {"relu": jax.nn.relu, "relu6": relu6, "none": lambda x: x}


class ConvBlock(nnx.Module):
    """Convolution (no bias), batch norm, and an activation.

    Args:
      c_in: channels of the input.
      c_out: channels of the output.
      kernel: side in pixels; padding is half of it unless given.
      stride: 1 or 2.
      padding: zero pixels on every side.
      groups: of channels that do not meet.
      activation: "prelu" (one trained slope per channel), "relu", "relu6" or "none".
      config: of the backbone.
      dtype: what it computes in; the config's unless given.
      rngs: stream ``params``.

    >>> block = ConvBlock(3, 8, kernel=3, stride=2, activation="relu6", config=BackboneConfig(),
    ...                   rngs=nnx.Rngs(0))
    >>> block(jnp.ones((1, 4, 4, 3))).shape
    (1, 2, 2, 8)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        activation: str,
        config: BackboneConfig,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        """Draws the kernel from stream ``params``."""
        dtype = config.dtype if dtype is None else dtype
        self.conv = Convolution(
            c_in,
            c_out,
            kernel=kernel,
            stride=stride,
            padding=kernel // 2 if padding is None else padding,
            groups=groups,
            kernel_init=kaiming_fan_out,
            dtype=dtype,
            rngs=rngs,
        )
        self.bn = BatchNorm(c_out, **config.norm, dtype=dtype)
        self.prelu = nnx.data(PReLU(c_out) if activation == "prelu" else None)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H', W', c_out]."""
        y = self.bn(self.conv(x))
        return ACTIVATIONS[self.activation](y) if self.prelu is None else self.prelu(y)


class Bottleneck(nnx.Module):
    """1x1 to ``hidden`` channels, 3x3 on each of them alone, 1x1 back without activation.

    Args:
      c_in: channels of the input.
      c_out: channels of the output.
      hidden: channels between.
      stride: of the depthwise convolution.
      residual: whether the input is added; needs stride 1 and equal channels.
      activation: of the first two, as in `ConvBlock`.
      config: of the backbone.
      rngs: stream ``params``.

    Source: Sandler et al., MobileNetV2 (CVPR 2018), table 1.

    >>> block = Bottleneck(8, 8, hidden=16, stride=1, residual=True, activation="relu6",
    ...                    config=BackboneConfig(), rngs=nnx.Rngs(0))
    >>> block(jnp.ones((1, 4, 4, 8))).shape
    (1, 4, 4, 8)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int,
        stride: int,
        residual: bool,
        activation: str,
        config: BackboneConfig,
        rngs: nnx.Rngs,
    ):
        """Draws the kernels from stream ``params``."""
        block = functools.partial(ConvBlock, config=config, rngs=rngs)
        self.expand = block(c_in, hidden, kernel=1, activation=activation)
        self.depthwise = block(
            hidden, hidden, kernel=3, stride=stride, groups=hidden, activation=activation
        )
        self.project = block(hidden, c_out, kernel=1, activation="none")
        self.residual = residual

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H / stride, W / stride, c_out]."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y
