"""Which entry of a PyTorch state dict is which array of a network, and how its axes move."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from arcface_jax.models import (
    BackboneConfig,
    IResNetConfig,
    MobileFaceNet128dConfig,
    MobileFaceNetConfig,
    ViTConfig,
)
from arcface_jax.models.arrays import Place

Array = Any


class Entry(NamedTuple):
    """One array on both sides."""

    key: str
    """In the state dict."""
    path: Place | None
    """In the network; None for what it does not hold (a frozen gamma, a counter of batches)."""
    to_jax: Callable[[Array], Array]
    to_torch: Callable[[Array], Array]
    constant: float | None = None
    """The value of every entry, where the network does not hold them."""
    channels: int = 0
    """How many entries, likewise; 0 for a single number."""


def _same(x: Array) -> Array:
    return x


def _copy(key: str, path: Place) -> Entry:
    return Entry(key, path, _same, _same)


def _convolution(key: str, path: Place) -> Entry:
    # (out, in / groups, h, w) and (h, w, in / groups, out).
    return Entry(
        key, (*path, "kernel"), lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
    )


def _linear(key: str, path: Place) -> Entry:
    return Entry(key, (*path, "kernel"), lambda x: x.T, lambda x: x.T)


def _flattened_linear(key: str, path: Place, *, size: int) -> Entry:
    """Of a feature map flattened as (c, h, w) there and as (h, w, c) here."""

    def to_jax(x: Array) -> Array:
        return x.reshape(len(x), -1, size, size).transpose(2, 3, 1, 0).reshape(-1, len(x))

    def to_torch(x: Array) -> Array:
        out = x.shape[1]
        return x.reshape(size, size, -1, out).transpose(3, 2, 0, 1).reshape(out, -1)

    return Entry(key, (*path, "kernel"), to_jax, to_torch)


def _norm(key: str, path: Place, *, frozen: int = 0) -> Iterator[Entry]:
    """Batch normalisation; ``frozen`` channels where its gamma is fixed to 1."""
    if frozen:
        yield Entry(f"{key}.weight", None, _same, _same, constant=1.0, channels=frozen)
    else:
        yield _copy(f"{key}.weight", (*path, "scale"))
    yield _copy(f"{key}.bias", (*path, "bias"))
    yield _copy(f"{key}.running_mean", (*path, "mean"))
    yield _copy(f"{key}.running_var", (*path, "var"))
    yield Entry(f"{key}.num_batches_tracked", None, _same, _same, constant=0.0)


def _layer_norm(key: str, path: Place) -> Iterator[Entry]:
    yield _copy(f"{key}.weight", (*path, "scale"))
    yield _copy(f"{key}.bias", (*path, "bias"))


def _iresnet(config: IResNetConfig) -> Iterator[Entry]:
    yield _convolution("conv1.weight", ("conv1",))
    yield from _norm("bn1", ("bn1",))
    yield _copy("prelu.weight", ("prelu", "slope"))
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            key, path = f"layer{stage + 1}.{block}", ("stages", stage, "blocks", block)
            yield from _norm(f"{key}.bn1", (*path, "bn1"))
            yield _convolution(f"{key}.conv1.weight", (*path, "conv1"))
            yield from _norm(f"{key}.bn2", (*path, "bn2"))
            yield _copy(f"{key}.prelu.weight", (*path, "prelu", "slope"))
            yield _convolution(f"{key}.conv2.weight", (*path, "conv2"))
            yield from _norm(f"{key}.bn3", (*path, "bn3"))
            if not block:
                yield _convolution(f"{key}.downsample.0.weight", (*path, "shortcut"))
                yield from _norm(f"{key}.downsample.1", (*path, "shortcut_bn"))
    yield from _norm("bn2", ("bn2",))
    yield _flattened_linear("fc.weight", ("fc",), size=config.final_size)
    yield _copy("fc.bias", ("fc", "bias"))
    frozen = 0 if config.output_gamma else config.embedding_dim
    yield from _norm("features", ("features",), frozen=frozen)


def _conv_block(key: str, path: Place, *, prelu: bool) -> Iterator[Entry]:
    yield _convolution(f"{key}.layers.0.weight", (*path, "conv"))
    yield from _norm(f"{key}.layers.1", (*path, "bn"))
    if prelu:
        yield _copy(f"{key}.layers.2.weight", (*path, "prelu", "slope"))


def _bottleneck(key: str, path: Place) -> Iterator[Entry]:
    for i, part in enumerate(("expand", "depthwise", "project")):
        yield from _conv_block(f"{key}.layers.{i}", (*path, part), prelu=part != "project")


def _mobilefacenet(config: MobileFaceNetConfig) -> Iterator[Entry]:
    yield from _conv_block("layers.0", ("stem",), prelu=True)
    if config.blocks[0] == 1:
        yield from _conv_block("layers.1", ("full_width", 0), prelu=True)
    else:
        for block in range(config.blocks[0]):
            yield from _bottleneck(f"layers.1.layers.{block}", ("full_width", block))
    for stage, count in enumerate(config.blocks[1:]):
        place = 2 * stage + 2
        yield from _bottleneck(f"layers.{place}", ("stages", stage, "halve"))
        for block in range(count):
            yield from _bottleneck(
                f"layers.{place + 1}.layers.{block}", ("stages", stage, "blocks", block)
            )
    yield from _conv_block("conv_sep", ("conv_sep",), prelu=True)
    yield from _conv_block("features.layers.0", ("pool",), prelu=False)
    yield _linear("features.layers.2.weight", ("fc",))
    yield from _norm("features.layers.3", ("features",))


def _mobilefacenet_128d(config: MobileFaceNet128dConfig) -> Iterator[Entry]:
    def unit(convolution: str, norm: str, path: Place) -> Iterator[Entry]:
        yield _convolution(f"{convolution}.weight", (*path, "conv"))
        yield from _norm(norm, (*path, "bn"))

    yield from unit("conv1.0", "conv1.1", ("stem",))
    yield from unit("dw_conv.depthwise", "dw_conv.bn1", ("depthwise",))
    yield from unit("dw_conv.pointwise", "dw_conv.bn2", ("pointwise",))
    for block in range(15):
        key, path = f"features.{block}.conv", ("blocks", block)
        yield from unit(f"{key}.0.0", f"{key}.0.1", (*path, "expand"))
        yield from unit(f"{key}.1.0", f"{key}.1.1", (*path, "depthwise"))
        yield from unit(f"{key}.2", f"{key}.3", (*path, "project"))
    yield from unit("conv2.0", "conv2.1", ("conv_sep",))
    yield from unit("gdconv.depthwise", "gdconv.bn", ("pool",))
    yield _convolution("conv3.weight", ("fc",))
    yield _copy("conv3.bias", ("fc", "bias"))
    yield from _norm("bn", ("features",))


def _vit(config: ViTConfig) -> Iterator[Entry]:
    yield _convolution("patch_embed.proj.weight", ("patch_embed", "proj"))
    yield _copy("patch_embed.proj.bias", ("patch_embed", "proj", "bias"))
    yield _copy("pos_embed", ("pos_embed",))
    yield _copy("mask_token", ("mask_token",))
    for block in range(config.depth):
        key, path = f"blocks.{block}", ("blocks", block)
        yield from _layer_norm(f"{key}.norm1", (*path, "norm1"))
        yield _linear(f"{key}.attn.qkv.weight", (*path, "attn", "qkv"))
        for layer in (("attn", "proj"), ("mlp", "fc1"), ("mlp", "fc2")):
            name = ".".join(layer)
            yield _linear(f"{key}.{name}.weight", (*path, *layer))
            yield _copy(f"{key}.{name}.bias", (*path, *layer, "bias"))
        yield from _layer_norm(f"{key}.norm2", (*path, "norm2"))
    yield from _layer_norm("norm", ("norm",))
    for place in (0, 2):
        yield _linear(f"feature.{place}.weight", ("feature", place))
        yield from _norm(f"feature.{place + 1}", ("feature", place + 1))


@functools.singledispatch
def entries(config: BackboneConfig) -> Iterator[Entry]:
    """Every array of the network's PyTorch counterpart, by the names of its authors.

    Raises:
      ValueError: no counterpart is known.

    >>> from arcface_jax.models import MODELS
    >>> first = next(entries(MODELS["iresnet18"]))
    >>> first.key, first.path
    ('conv1.weight', ('conv1', 'kernel'))
    """
    raise ValueError(f"no PyTorch network is known that is a {type(config).__name__}.")


entries.register(IResNetConfig, _iresnet)
entries.register(MobileFaceNetConfig, _mobilefacenet)
entries.register(MobileFaceNet128dConfig, _mobilefacenet_128d)
entries.register(ViTConfig, _vit)
