"""The improved residual network of ArcFace, from 28 px toys to IResNet-200."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.models.layers import Convolution, PReLU, uniform_fan_in
from arcface_jax.models.normalization import BatchNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class IResNetConfig:
    """Size of an `IResNet`.

    Args:
      depths: blocks in each stage; the first block of each stage halves the resolution.
      widths: channels in each stage; the stem has those of the first.
      embedding_dim: D.
      image_size: side of the square input in pixels; the embedding layer depends on it.
      channels: of the input, 1 or 3.
      dropout: rate before the embedding layer.
      dtype: what the convolutional part computes in; parameters, the embedding layer and its
        normalisation stay float32.

    Raises:
      ValueError: a number out of range, or depths and widths of different lengths.

    >>> IResNetConfig(depths=(1, 1), widths=(8, 16), image_size=32).final_size
    8
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    embedding_dim: int = 512
    image_size: int = 112
    channels: int = 3
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        if not self.depths or len(self.depths) != len(self.widths):
            raise ValueError(
                f"depths {self.depths} and widths {self.widths} name the same stages; give one "
                "number each per stage."
            )
        if min(self.depths) < 1 or min(self.widths) < 1 or self.embedding_dim < 1:
            raise ValueError(
                f"depths {self.depths}, widths {self.widths} and embedding_dim "
                f"{self.embedding_dim} must be at least 1."
            )
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels}; images have 1 (grey) or 3 (RGB).")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} lies outside [0, 1).")
        if self.image_size < 2 ** len(self.depths):
            raise ValueError(
                f"image_size={self.image_size} is halved {len(self.depths)} times; take images of "
                f"at least {2 ** len(self.depths)} px or fewer stages."
            )

    @property
    def final_size(self) -> int:
        """Side in pixels of the last feature map."""
        size = self.image_size
        for _ in self.depths:
            size = (size + 1) // 2
        return size


class Block(nnx.Module):
    """BN, conv, BN, PReLU, conv with the stride, BN; added to the raw input or its projection.

    >>> Block(4, 8, stride=2, rngs=nnx.Rngs(0))(jnp.ones((1, 6, 6, 4))).shape
    (1, 3, 3, 8)
    """

    def __init__(
        self, c_in: int, c_out: int, *, stride: int, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        """``stride=2`` projects the shortcut; otherwise ``c_in`` equals ``c_out``."""
        self.bn1 = BatchNorm(c_in, dtype=dtype)
        self.conv1 = Convolution(c_in, c_out, kernel=3, padding=1, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(c_out, dtype=dtype)
        self.prelu = PReLU(c_out)
        self.conv2 = Convolution(
            c_out, c_out, kernel=3, stride=stride, padding=1, dtype=dtype, rngs=rngs
        )
        self.bn3 = BatchNorm(c_out, dtype=dtype)
        projects = stride != 1
        self.shortcut = nnx.data(
            Convolution(c_in, c_out, kernel=1, stride=stride, padding=0, dtype=dtype, rngs=rngs)
            if projects
            else None
        )
        self.shortcut_bn = nnx.data(BatchNorm(c_out, dtype=dtype) if projects else None)

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H / stride, W / stride, c_out]."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        if self.shortcut is None or self.shortcut_bn is None:
            return x + y
        return self.shortcut_bn(self.shortcut(x)) + y


class IResNet(nnx.Module):
    r"""Stem, stages of blocks, then BN, dropout, linear, BN: the embedding, not normalised.

    The last batch norm's scale is fixed to 1, so in training mode an embedding's length is about
    :math:`\sqrt D`. There is no pooling and no activation after the additions.

    Args:
      config: the size.
      rngs: streams ``params`` and, with dropout, ``dropout``.

    Source: Deng et al., ArcFace (CVPR 2019), section 3.1 (BN-Dropout-FC-BN, block of Han et al.);
    exact layers as in arcface_torch.

    >>> config = IResNetConfig(depths=(1,), widths=(4,), embedding_dim=8, image_size=8)
    >>> IResNet(config, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 8, 3))).shape
    (2, 8)
    """

    def __init__(self, config: IResNetConfig, *, rngs: nnx.Rngs):
        """Draws every parameter from ``rngs``."""
        self.config = config
        width, dtype = config.widths[0], config.dtype
        self.conv1 = Convolution(
            config.channels, width, kernel=3, padding=1, dtype=dtype, rngs=rngs
        )
        self.bn1 = BatchNorm(width, dtype=dtype)
        self.prelu = PReLU(width)
        stages = []
        for depth, c_out in zip(config.depths, config.widths, strict=True):
            blocks = [Block(width, c_out, stride=2, dtype=dtype, rngs=rngs)]
            blocks += [
                Block(c_out, c_out, stride=1, dtype=dtype, rngs=rngs) for _ in range(depth - 1)
            ]
            stages.append(nnx.List(blocks))
            width = c_out
        self.stages = nnx.List(stages)
        self.bn2 = BatchNorm(width, dtype=dtype)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.fc = nnx.Linear(
            config.final_size**2 * width,
            config.embedding_dim,
            kernel_init=uniform_fan_in,
            rngs=rngs,
        )
        self.features = BatchNorm(config.embedding_dim, use_scale=False)

    def __call__(self, images: Array) -> Array:
        """float[B, H, W, channels] in [-1, 1] -> float32[B, D], not normalised.

        Raises:
          ValueError: images of another size or number of channels.
        """
        side = self.config.image_size
        expected = (side, side, self.config.channels)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(
                f"expected images [B, {side}, {side}, {self.config.channels}], got "
                f"{images.shape}; resize them or set image_size and channels of the model."
            )
        x = self.prelu(self.bn1(self.conv1(images.astype(self.config.dtype))))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        x = self.dropout(self.bn2(x))
        return self.features(self.fc(x.reshape(x.shape[0], -1).astype(jnp.float32)))
