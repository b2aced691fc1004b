"""MobileFaceNet with ReLU6 and a 128-d output, of which public weights exist."""

import dataclasses
import functools

from flax import nnx
from jax import Array

from arcface_jax.models.backbone import BackboneConfig
from arcface_jax.models.conv_block import (
    POOLED,
    Bottleneck,
    ConvBlock,
    last_map_size,
    pooling_blocks,
)
from arcface_jax.models.layers import Convolution, kaiming_fan_out
from arcface_jax.models.normalization import BatchNorm
from arcface_jax.models.remat import rematerialized

# (expansion, channels, bottlenecks, stride of the first)
_SETTINGS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
_STEM = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileFaceNet128dConfig(BackboneConfig):
    """Of a `MobileFaceNet128d`; its fields are those of `BackboneConfig`.

    >>> MobileFaceNet128dConfig().embedding_dim
    128
    """

    embedding_dim: int = 128

    def __post_init__(self):
        super().__post_init__()
        last_map_size(self)

    def build(self, *, rngs: nnx.Rngs) -> "MobileFaceNet128d":
        """The network, freshly drawn."""
        return MobileFaceNet128d(self, rngs=rngs)


class MobileFaceNet128d(nnx.Module):
    """Fifteen bottlenecks of MobileNetV2, a 7x7 depthwise convolution, 1x1 with bias, batch norm.

    Args:
      config: of every backbone.
      rngs: stream ``params``.

    Source: Chen et al., MobileFaceNets (2018), table 1; exact layers as in foamliu/MobileFaceNet.

    >>> import jax.numpy as jnp
    >>> config = MobileFaceNet128dConfig(image_size=16)
    >>> MobileFaceNet128d(config, rngs=nnx.Rngs(0))(jnp.ones((2, 16, 16, 3))).shape
    (2, 128)
    """

    def __init__(self, config: MobileFaceNet128dConfig, *, rngs: nnx.Rngs):
        """Draws every parameter from ``rngs``."""
        self.config = config
        block = functools.partial(ConvBlock, config=config, rngs=rngs)
        self.stem = block(config.channels, _STEM, kernel=3, stride=2, activation="relu6")
        # Plain ReLU in these two alone.
        self.depthwise = block(_STEM, _STEM, kernel=3, groups=_STEM, activation="relu")
        self.pointwise = block(_STEM, _STEM, kernel=1, activation="relu")
        blocks, width = [], _STEM
        for expansion, c_out, count, stride in _SETTINGS:
            for i in range(count):
                step = 1 if i else stride
                blocks.append(
                    Bottleneck(
                        width,
                        c_out,
                        hidden=expansion * width,
                        stride=step,
                        residual=step == 1 and width == c_out,
                        activation="relu6",
                        config=config,
                        rngs=rngs,
                    )
                )
                width = c_out
        self.blocks = nnx.List(blocks)
        wide = config.wide_dtype
        self.conv_sep, self.pool = pooling_blocks(
            width, activation="relu6", config=config, rngs=rngs
        )
        self.fc = Convolution(
            POOLED,
            config.embedding_dim,
            kernel=1,
            padding=0,
            use_bias=True,
            kernel_init=kaiming_fan_out,
            dtype=wide,
            rngs=rngs,
        )
        self.features = BatchNorm(config.embedding_dim, **config.norm, dtype=wide)

    def __call__(self, images: Array) -> Array:
        """float[B, H, W, channels], normalised -> float32[B, D], not normalised.

        Raises:
          ValueError: images of another size or number of channels.
        """
        self.config.check_images(images)
        x = self.pointwise(self.depthwise(self.stem(images.astype(self.config.dtype))))
        for block in self.blocks:
            x = block(x) if self.config.remat == "none" else rematerialized(block, x)
        x = self.features(self.fc(self.pool(self.conv_sep(x))))
        return x.reshape(x.shape[0], -1)
