"""Which network a state dict belongs to, by its names and shapes."""

import math
import re
from collections.abc import Mapping
from typing import Any

from arcface_jax.models import (
    MODELS,
    BackboneConfig,
    IResNetConfig,
    MobileFaceNet128dConfig,
    MobileFaceNetConfig,
    ViTConfig,
)


def recognize(arrays: Mapping[str, Any]) -> BackboneConfig:
    """The config of the network that these arrays, named as in PyTorch, are of.

    Raises:
      ValueError: none that is known.

    >>> recognize({"linear.weight": None})
    Traceback (most recent call last):
    ValueError: the names are of no known network (known: IResNet, MobileFaceNet, ViT of \
arcface_torch and the 128-d MobileFaceNet); the first is linear.weight.
    """
    for mark, make in (
        ("layer1.0.bn1.weight", _iresnet),
        ("conv_sep.layers.0.weight", _mobilefacenet),
        ("gdconv.depthwise.weight", _mobilefacenet_128d),
        ("patch_embed.proj.weight", _vit),
    ):
        if mark in arrays:
            try:
                return make(arrays)
            except (KeyError, IndexError, ZeroDivisionError) as error:
                raise ValueError(
                    f"the names begin like a known network ({mark}) but lack {error}; is the file "
                    "complete?"
                ) from None
    raise ValueError(
        "the names are of no known network (known: IResNet, MobileFaceNet, ViT of arcface_torch "
        f"and the 128-d MobileFaceNet); the first is {next(iter(arrays), 'missing')}."
    )


def name_of(config: BackboneConfig) -> str:
    """The registered name with this config's structure, or the type's.

    >>> name_of(IResNetConfig(depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), embedding_dim=64))
    'iresnet18'
    """
    structure = ("depths", "widths", "blocks", "scale", "width", "depth", "heads")

    def key(config: BackboneConfig) -> tuple[Any, ...]:
        return type(config), *(getattr(config, field, None) for field in structure)

    known = {key(other): name for name, other in MODELS.items()}
    return known.get(key(config), type(config).__name__.removesuffix("Config"))


def _count(arrays: Mapping[str, Any], pattern: str) -> int:
    """How many numbers, counted from 0, stand where the pattern has its group."""
    found = {int(match[1]) for key in arrays if (match := re.match(pattern, key))}
    return max(found, default=-1) + 1


def _iresnet(arrays: Mapping[str, Any]) -> IResNetConfig:
    stages = _count(arrays, r"layer(\d+)\.") - 1
    names = [f"layer{stage + 1}" for stage in range(stages)]
    widths = tuple(arrays[f"{name}.0.bn3.weight"].shape[0] for name in names)
    final = math.isqrt(arrays["fc.weight"].shape[1] // widths[-1])
    gamma = arrays["features.weight"]
    return IResNetConfig(
        depths=tuple(_count(arrays, name + r"\.(\d+)\.") for name in names),
        widths=widths,
        embedding_dim=len(gamma),
        image_size=final * 2**stages,
        channels=arrays["conv1.weight"].shape[1],
        output_gamma=bool((gamma != 1.0).any()),
    )


def _mobilefacenet(arrays: Mapping[str, Any]) -> MobileFaceNetConfig:
    stem = arrays["layers.0.layers.0.weight"]
    return MobileFaceNetConfig(
        blocks=(
            max(_count(arrays, r"layers\.1\.layers\.(\d+)\.layers\.2"), 1),
            *(_count(arrays, rf"layers\.{place}\.layers\.(\d+)\.") for place in (3, 5, 7)),
        ),
        scale=stem.shape[0] // 64,
        embedding_dim=arrays["features.layers.2.weight"].shape[0],
        image_size=16 * arrays["features.layers.0.layers.0.weight"].shape[-1],
        channels=stem.shape[1],
    )


def _mobilefacenet_128d(arrays: Mapping[str, Any]) -> MobileFaceNet128dConfig:
    return MobileFaceNet128dConfig(
        embedding_dim=arrays["conv3.weight"].shape[0],
        image_size=16 * arrays["gdconv.depthwise.weight"].shape[-1],
        channels=arrays["conv1.0.weight"].shape[1],
    )


def _vit(arrays: Mapping[str, Any]) -> ViTConfig:
    patch = arrays["patch_embed.proj.weight"]
    side = math.isqrt(arrays["pos_embed"].shape[1])
    return ViTConfig(
        width=patch.shape[0],
        depth=_count(arrays, r"blocks\.(\d+)\."),
        # Not to be seen in any shape; all of arcface_torch have 8.
        heads=8,
        patch=patch.shape[-1],
        # 112 px where 12 patches of 9 px leave 4 px over.
        image_size=112 if 112 // patch.shape[-1] == side else side * patch.shape[-1],
        embedding_dim=arrays["feature.2.weight"].shape[0],
        channels=patch.shape[1],
    )
