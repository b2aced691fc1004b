"""Convolution, batch norm, activation: what mobile networks are made of."""

import functools

import jax
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.models.backbone import BackboneConfig
from arcface_jax.models.layers import Convolution, PReLU, kaiming_fan_out
from arcface_jax.models.normalization import BatchNorm

# Channels after the last 1x1 convolution of either MobileFaceNet.
POOLED = 512

ACTIVATIONS = {"relu": jax.nn.relu, "relu6": jax.nn.relu6, "none": lambda x: x}


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
    >>> block(jax.numpy.ones((1, 4, 4, 3))).shape
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
    >>> block(jax.numpy.ones((1, 4, 4, 8))).shape
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


def pooling_blocks(
    c_in: int, *, activation: str, config: BackboneConfig, rngs: nnx.Rngs
) -> tuple[ConvBlock, ConvBlock]:
    """1x1 to 512 channels, then one weight per place and channel of the last map, in float32.

    Source: Chen et al., MobileFaceNets (2018), section 3.2 (global depthwise convolution).

    >>> config = BackboneConfig(image_size=32)
    >>> separate, pool = pooling_blocks(8, activation="relu6", config=config, rngs=nnx.Rngs(0))
    >>> pool(separate(jax.numpy.ones((2, 2, 2, 8)))).shape
    (2, 1, 1, 512)
    """
    block = functools.partial(ConvBlock, config=config, dtype=config.wide_dtype, rngs=rngs)
    side = last_map_size(config)
    return (
        block(c_in, POOLED, kernel=1, activation=activation),
        block(POOLED, POOLED, kernel=side, padding=0, groups=POOLED, activation="none"),
    )


def last_map_size(config: BackboneConfig) -> int:
    """Side of the last map, after four halvings.

    Raises:
      ValueError: an image size that is no multiple of 16.

    >>> last_map_size(BackboneConfig(image_size=112))
    7
    """
    if config.image_size % 16:
        raise ValueError(f"image_size={config.image_size} must be a multiple of 16.")
    return config.image_size // 16
