"""The improved residual network of ArcFace, from 28 px toys to IResNet-200."""

import dataclasses
import functools
from collections.abc import Callable

from flax import nnx
from jax import Array

from arcface_jax.models.backbone import BackboneConfig
from arcface_jax.models.layers import Convolution, PReLU, uniform_fan_in
from arcface_jax.models.normalization import BatchNorm
from arcface_jax.models.remat import rematerialized


@dataclasses.dataclass(frozen=True, kw_only=True)
class IResNetConfig(BackboneConfig):
    """Size of an `IResNet`; fields of every backbone are those of `BackboneConfig`.

    Args:
      depths: blocks in each stage; the first block of each stage halves the resolution.
      widths: channels in each stage; the stem has those of the first.
      dropout: rate before the embedding layer.
      drop_path: rate at which the last block's branch is left out of an example; that of the
        others falls linearly towards the first.
      output_gamma: whether the output norm has a trained gamma; False fixes it to 1.

    Raises:
      ValueError: a number out of range, or depths and widths of different lengths.

    >>> IResNetConfig(depths=(1, 1), widths=(8, 16), image_size=32).final_size
    8
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    dropout: float = 0.0
    drop_path: float = 0.0
    output_gamma: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.widths):
            raise ValueError(
                f"depths {self.depths} and widths {self.widths} name the same stages; give one "
                "number each per stage."
            )
        if min(self.depths) < 1 or min(self.widths) < 1:
            raise ValueError(f"depths {self.depths} and widths {self.widths} must be at least 1.")
        self.check_rates("dropout", "drop_path")
        if self.image_size < 2 ** len(self.depths):
            raise ValueError(
                f"image_size={self.image_size} is halved {len(self.depths)} times; take images of "
                f"at least {2 ** len(self.depths)} px or fewer stages."
            )

    def build(self, *, rngs: nnx.Rngs) -> "IResNet":
        """The network, freshly drawn."""
        return IResNet(self, rngs=rngs)

    @property
    def final_size(self) -> int:
        """Side in pixels of the last feature map."""
        size = self.image_size
        for _ in self.depths:
            size = (size + 1) // 2
        return size


class Block(nnx.Module):
    """BN, conv, BN, PReLU, conv with the stride, BN; added to the raw input or its projection.

    >>> import jax.numpy as jnp
    >>> config = IResNetConfig(depths=(1,), widths=(4,), image_size=8)
    >>> Block(4, 8, stride=2, drop_path=0.0, config=config, rngs=nnx.Rngs(0))(
    ...     jnp.ones((1, 6, 6, 4))
    ... ).shape
    (1, 3, 3, 8)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        stride: int,
        drop_path: float,
        config: IResNetConfig,
        rngs: nnx.Rngs,
    ):
        """``stride=2`` projects the shortcut; otherwise ``c_in`` equals ``c_out``."""
        norm, convolution = _layers(config, rngs)
        self.bn1 = norm(c_in)
        self.conv1 = convolution(c_in, c_out, kernel=3, padding=1)
        self.bn2 = norm(c_out)
        self.prelu = PReLU(c_out)
        self.conv2 = convolution(c_out, c_out, kernel=3, stride=stride, padding=1)
        self.bn3 = norm(c_out)
        projects = stride != 1
        self.shortcut = nnx.data(
            convolution(c_in, c_out, kernel=1, stride=stride, padding=0) if projects else None
        )
        self.shortcut_bn = nnx.data(norm(c_out) if projects else None)
        self.drop_path = nnx.data(
            nnx.Dropout(drop_path, broadcast_dims=(1, 2, 3), rngs=rngs) if drop_path else None
        )

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H / stride, W / stride, c_out]."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        if self.drop_path is not None:
            y = self.drop_path(y)
        if self.shortcut is None or self.shortcut_bn is None:
            return x + y
        return self.shortcut_bn(self.shortcut(x)) + y


class Stage(nnx.Module):
    """Blocks of one width, of which the first halves the resolution.

    >>> import jax.numpy as jnp
    >>> config = IResNetConfig(depths=(2,), widths=(8,), image_size=8)
    >>> Stage(4, 8, drop_paths=(0.0, 0.0), config=config, rngs=nnx.Rngs(0))(
    ...     jnp.ones((1, 6, 6, 4))
    ... ).shape
    (1, 3, 3, 8)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        drop_paths: tuple[float, ...],
        config: IResNetConfig,
        rngs: nnx.Rngs,
    ):
        """One block for each of ``drop_paths``, its rate."""
        self.blocks = nnx.List(
            Block(
                c_out if i else c_in,
                c_out,
                stride=1 if i else 2,
                drop_path=rate,
                config=config,
                rngs=rngs,
            )
            for i, rate in enumerate(drop_paths)
        )
        self.remat = config.remat

    def __call__(self, x: Array) -> Array:
        """float[B, H, W, c_in] -> [B, H / 2, W / 2, c_out]."""
        for block in self.blocks:
            x = rematerialized(block, x) if self.remat == "block" else block(x)
        return x


class IResNet(nnx.Module):
    r"""Stem, stages of blocks, then BN, dropout, linear, BN: the embedding, not normalised.

    The last batch norm's scale is fixed to 1, so in training mode an embedding's length is about
    :math:`\sqrt D`. There is no pooling and no activation after the additions.

    Args:
      config: the size.
      rngs: streams ``params`` and, with dropout or drop_path, ``dropout``.

    Source: Deng et al., ArcFace (CVPR 2019), section 3.1 (BN-Dropout-FC-BN, block of Han et al.);
    exact layers as in arcface_torch. drop_path: Huang et al., Stochastic Depth (ECCV 2016).

    >>> import jax.numpy as jnp
    >>> config = IResNetConfig(depths=(1,), widths=(4,), embedding_dim=8, image_size=8)
    >>> IResNet(config, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 8, 3))).shape
    (2, 8)
    """

    def __init__(self, config: IResNetConfig, *, rngs: nnx.Rngs):
        """Draws every parameter from ``rngs``."""
        self.config = config
        norm, convolution = _layers(config, rngs)
        width = config.widths[0]
        self.conv1 = convolution(config.channels, width, kernel=3, padding=1)
        self.bn1 = norm(width)
        self.prelu = PReLU(width)
        blocks = sum(config.depths)
        rates = [config.drop_path * i / max(blocks - 1, 1) for i in range(blocks)]
        stages = []
        for depth, c_out in zip(config.depths, config.widths, strict=True):
            own, rates = tuple(rates[:depth]), rates[depth:]
            stages.append(Stage(width, c_out, drop_paths=own, config=config, rngs=rngs))
            width = c_out
        self.stages = nnx.List(stages)
        self.bn2 = norm(width)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.fc = nnx.Linear(
            config.final_size**2 * width,
            config.embedding_dim,
            kernel_init=uniform_fan_in,
            rngs=rngs,
        )
        self.features = norm(
            config.embedding_dim, use_scale=config.output_gamma, dtype=config.wide_dtype
        )

    def __call__(self, images: Array) -> Array:
        """float[B, H, W, channels] in [-1, 1] -> float32[B, D], not normalised.

        Raises:
          ValueError: images of another size or number of channels.
        """
        self.config.check_images(images)
        x = self.prelu(self.bn1(self.conv1(images.astype(self.config.dtype))))
        for stage in self.stages:
            x = rematerialized(stage, x) if self.config.remat == "stage" else stage(x)
        x = self.dropout(self.bn2(x))
        return self.features(self.fc(x.reshape(x.shape[0], -1).astype(self.config.wide_dtype)))


def _layers(
    config: IResNetConfig, rngs: nnx.Rngs
) -> tuple[Callable[..., BatchNorm], Callable[..., Convolution]]:
    """Batch norms and convolutions as the config wants them."""
    norm = functools.partial(BatchNorm, **config.norm, dtype=config.dtype)
    return norm, functools.partial(Convolution, dtype=config.dtype, rngs=rngs)
