"""MobileFaceNet as InsightFace trains it (``mbf``, ``mbf_large``)."""

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
from arcface_jax.models.layers import kaiming_fan_out
from arcface_jax.models.normalization import BatchNorm
from arcface_jax.models.remat import rematerialized

# Channels inside the bottlenecks that halve the resolution, and inside the others.
_HIDDEN = ((128, 128), (256, 256), (512, 256))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileFaceNetConfig(BackboneConfig):
    """Size of a `MobileFaceNet`; fields of every backbone are those of `BackboneConfig`.

    Args:
      blocks: residual bottlenecks at full width after the stem (1 is a plain grouped convolution
        instead), then in each of the three stages.
      scale: channels in units of 64 / 64 / 128 / 128.

    Raises:
      ValueError: a number out of range.

    >>> MobileFaceNetConfig(scale=4).widths
    (256, 256, 512, 512)
    """

    blocks: tuple[int, ...] = (1, 4, 6, 2)
    scale: int = 2

    def __post_init__(self):
        super().__post_init__()
        if len(self.blocks) != 4 or min(self.blocks) < 1 or self.scale < 1:
            raise ValueError(
                f"blocks={self.blocks} are four numbers of at least 1, and scale={self.scale} at "
                "least 1."
            )
        last_map_size(self)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after the stem and after each stage."""
        return tuple(self.scale * width for width in (64, 64, 128, 128))

    def build(self, *, rngs: nnx.Rngs) -> "MobileFaceNet":
        """The network, freshly drawn."""
        return MobileFaceNet(self, rngs=rngs)


class Stage(nnx.Module):
    """A bottleneck that halves the resolution, then residual ones.

    >>> import jax.numpy as jnp
    >>> stage = Stage(4, 8, hidden=(8, 8), count=1, config=MobileFaceNetConfig(), rngs=nnx.Rngs(0))
    >>> stage(jnp.ones((1, 4, 4, 4))).shape
    (1, 2, 2, 8)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: tuple[int, int],
        count: int,
        config: MobileFaceNetConfig,
        rngs: nnx.Rngs,
    ):
        """``count`` residual bottlenecks; ``hidden`` channels in the first and in the others."""
        make = functools.partial(Bottleneck, activation="prelu", config=config, rngs=rngs)
        self.halve = make(c_in, c_out, hidden=hidden[0], stride=2, residual=False)
        self.blocks = nnx.List(
            make(c_out, c_out, hidden=hidden[1], stride=1, residual=True) for _ in range(count)
        )

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H / 2, W / 2, c_out]."""
        x = self.halve(x)
        for block in self.blocks:
            x = block(x)
        return x


class MobileFaceNet(nnx.Module):
    """Bottlenecks of MobileNetV2 with PReLU, a 7x7 depthwise convolution, linear, batch norm.

    Args:
      config: the size.
      rngs: stream ``params``.

    Source: Chen et al., MobileFaceNets (2018); exact layers as in arcface_torch.

    >>> import jax.numpy as jnp
    >>> config = MobileFaceNetConfig(blocks=(1, 1, 1, 1), scale=1, embedding_dim=8, image_size=32)
    >>> MobileFaceNet(config, rngs=nnx.Rngs(0))(jnp.ones((2, 32, 32, 3))).shape
    (2, 8)
    """

    def __init__(self, config: MobileFaceNetConfig, *, rngs: nnx.Rngs):
        """Draws every parameter from ``rngs``."""
        self.config = config
        block = functools.partial(ConvBlock, config=config, rngs=rngs)
        first, *widths = config.widths
        self.stem = block(config.channels, first, kernel=3, stride=2, activation="prelu")
        count, *counts = config.blocks
        if count == 1:
            full_width = [block(first, first, kernel=3, groups=64, activation="prelu")]
        else:
            full_width = [
                Bottleneck(
                    first,
                    first,
                    hidden=128,
                    stride=1,
                    residual=True,
                    activation="prelu",
                    config=config,
                    rngs=rngs,
                )
                for _ in range(count)
            ]
        self.full_width = nnx.List(full_width)
        stages, width = [], first
        for c_out, number, hidden in zip(widths, counts, _HIDDEN, strict=True):
            stages.append(
                Stage(width, c_out, hidden=hidden, count=number, config=config, rngs=rngs)
            )
            width = c_out
        self.stages = nnx.List(stages)
        wide = config.wide_dtype
        self.conv_sep, self.pool = pooling_blocks(
            width, activation="prelu", config=config, rngs=rngs
        )
        self.fc = nnx.Linear(
            POOLED, config.embedding_dim, use_bias=False, kernel_init=kaiming_fan_out, rngs=rngs
        )
        self.features = BatchNorm(config.embedding_dim, **config.norm, dtype=wide)

    def __call__(self, images: Array) -> Array:
        """float[B, H, W, channels] in [-1, 1] -> float32[B, D], not normalised.

        Raises:
          ValueError: images of another size or number of channels.
        """
        self.config.check_images(images)
        remat = self.config.remat
        x = self.stem(images.astype(self.config.dtype))
        for block in self.full_width:
            x = block(x)
        for stage in self.stages:
            x = stage(x) if remat == "none" else rematerialized(stage, x)
        x = self.pool(self.conv_sep(x))
        return self.features(self.fc(x.reshape(x.shape[0], -1)))
