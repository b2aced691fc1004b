"""A network's layers in the order of its data, for whoever writes or reads a graph of them.

`walk` tells a network's structure once; an ONNX writer and an ONNX reader both follow it.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

from arcface_jax.models import IResNet, MobileFaceNet, MobileFaceNet128d
from arcface_jax.models.conv_block import Bottleneck, ConvBlock
from arcface_jax.models.layers import Convolution, PReLU
from arcface_jax.models.normalization import BatchNorm

Value = Any


class Layers(Protocol):
    """What a graph is made of; each method takes values in (NCHW) and gives the value out."""

    def convolution(self, x: Value, layer: Convolution, norm: BatchNorm | None) -> Value:
        """Convolution, then batch norm."""
        ...

    def norm(self, x: Value, layer: BatchNorm) -> Value:
        """Batch norm alone."""
        ...

    def prelu(self, x: Value, layer: PReLU) -> Value:
        """Leaky rectifier with a slope per channel."""
        ...

    def relu(self, x: Value) -> Value:
        """max(x, 0)."""
        ...

    def relu6(self, x: Value) -> Value:
        """min(max(x, 0), 6)."""
        ...

    def add(self, x: Value, y: Value) -> Value:
        """X + y."""
        ...

    def flatten(self, x: Value) -> Value:
        """[B, c, h, w] -> [B, c h w]."""
        ...

    def linear(self, x: Value, layer: Any, norm: BatchNorm, *, size: int) -> Value:
        """Matrix product (and bias) of a flattened map of that side, then batch norm."""
        ...


@functools.singledispatch
def walk(model: Any, layers: Layers, x: Value) -> Value:
    """The embedding's value, having called ``layers`` for each layer on the way from ``x``.

    Raises:
      ValueError: a network that is not known here.
    """
    raise ValueError(
        f"{type(model).__name__} cannot be written as an ONNX graph; IResNet and MobileFaceNet "
        "can. arcface_jax.convert.export_jax takes any network."
    )


@walk.register
def _(model: IResNet, layers: Layers, x: Value) -> Value:
    x = layers.prelu(layers.convolution(x, model.conv1, model.bn1), model.prelu)
    for stage in model.stages:
        for block in stage.blocks:
            y = layers.convolution(layers.norm(x, block.bn1), block.conv1, block.bn2)
            y = layers.convolution(layers.prelu(y, block.prelu), block.conv2, block.bn3)
            if block.shortcut is not None:
                x = layers.convolution(x, block.shortcut, block.shortcut_bn)
            x = layers.add(y, x)
    x = layers.flatten(layers.norm(x, model.bn2))
    return layers.linear(x, model.fc, model.features, size=model.config.final_size)


@walk.register
def _(model: MobileFaceNet, layers: Layers, x: Value) -> Value:
    x = _conv_block(layers, x, model.stem)
    for block in model.full_width:
        x = _either(layers, x, block)
    for stage in model.stages:
        x = _bottleneck(layers, x, stage.halve)
        for block in stage.blocks:
            x = _bottleneck(layers, x, block)
    x = _conv_block(layers, _conv_block(layers, x, model.conv_sep), model.pool)
    return layers.linear(layers.flatten(x), model.fc, model.features, size=1)


@walk.register
def _(model: MobileFaceNet128d, layers: Layers, x: Value) -> Value:
    for block in (model.stem, model.depthwise, model.pointwise):
        x = _conv_block(layers, x, block)
    for block in model.blocks:
        x = _bottleneck(layers, x, block)
    x = _conv_block(layers, _conv_block(layers, x, model.conv_sep), model.pool)
    return layers.flatten(layers.convolution(x, model.fc, model.features))


def _either(layers: Layers, x: Value, block: ConvBlock | Bottleneck) -> Value:
    if isinstance(block, Bottleneck):
        return _bottleneck(layers, x, block)
    return _conv_block(layers, x, block)


def _conv_block(layers: Layers, x: Value, block: ConvBlock) -> Value:
    x = layers.convolution(x, block.conv, block.bn)
    if block.prelu is not None:
        return layers.prelu(x, block.prelu)
    after: dict[str, Callable[[Value], Value]] = {
        "relu": layers.relu,
        "relu6": layers.relu6,
        "none": lambda x: x,
    }
    return after[block.activation](x)


def _bottleneck(layers: Layers, x: Value, block: Bottleneck) -> Value:
    y = x
    for part in (block.expand, block.depthwise, block.project):
        y = _conv_block(layers, y, part)
    return layers.add(x, y) if block.residual else y
