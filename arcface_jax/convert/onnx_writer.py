"""Networks as ONNX graphs: convolutions with their batch norms folded in, any batch size."""

import json
import os
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from arcface_jax.convert.layer_graph import walk
from arcface_jax.models.layers import Convolution, PReLU
from arcface_jax.models.normalization import BatchNorm
from arcface_jax.models.preprocessing import Preprocessing
from arcface_jax.whole_file import whole_file

# Newer ones are refused by runtimes in use; every one since reads these.
OPSET = 17
IR_VERSION = 8


def export_onnx(
    model: Any,
    path: str | os.PathLike[str],
    *,
    preprocessing: Preprocessing | None = None,
    from_bytes: bool = False,
) -> None:
    """Writes the network in evaluation mode as an ONNX graph.

    The graph's input is ``images`` float32[N, c, size, size], normalised, and its output
    ``embeddings`` float32[N, D], not normalised. Batch norms after a convolution or the last linear
    layer are folded into it.

    Args:
      model: an IResNet or a MobileFaceNet.
      path: of the file; one that is there is replaced when the new one is whole.
      preprocessing: the contract, stored in the file's metadata.
      from_bytes: makes the input uint8[N, size, size, c] (grey or RGB) and normalises in the graph.

    Raises:
      ValueError: a network that cannot be written, or from_bytes without a contract.
    """
    config = model.config
    if preprocessing is not None:
        preprocessing.check_model(config)
    graph = _Writer()
    side, channels = config.image_size, config.channels
    if from_bytes:
        if preprocessing is None:
            raise ValueError("from_bytes=True needs preprocessing=: what the bytes become.")
        x = graph.normalized("images", preprocessing)
        taken = helper.make_tensor_value_info(
            "images", TensorProto.UINT8, ["N", side, side, channels]
        )
    else:
        x = "images"
        taken = helper.make_tensor_value_info(
            "images", TensorProto.FLOAT, ["N", channels, side, side]
        )
    graph.node("Identity", [walk(model, graph, x)], name="embeddings")
    given = helper.make_tensor_value_info(
        "embeddings", TensorProto.FLOAT, ["N", config.embedding_dim]
    )
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, type(model).__name__, [taken], [given], initializer=graph.initializers
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="arcface_jax",
    )
    if preprocessing is not None:
        contract = {"preprocessing": json.dumps(preprocessing.to_json())}
        helper.set_model_props(made, contract)
    onnx.checker.check_model(made)
    with whole_file(path, "wb") as file:
        file.write(made.SerializeToString())


class _Writer:
    """Nodes of a graph, named by their outputs."""

    def __init__(self):
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._numbers: dict[str, int] = {}

    def node(self, kind: str, inputs: list[str], *, name: str = "", **attributes: Any) -> str:
        """Adds a node and gives the name of its output."""
        out = name or self._fresh(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, **attributes))
        return out

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Adds an array and gives its name."""
        name = self._fresh(name)
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def _fresh(self, kind: str) -> str:
        self._numbers[kind] = self._numbers.get(kind, -1) + 1
        return f"{kind}_{self._numbers[kind]}"

    def normalized(self, x: str, preprocessing: Preprocessing) -> str:
        """uint8 [N, h, w, c] as the network wants it, [N, c, h, w]."""
        order = [2, 1, 0] if preprocessing.colors == "BGR" else list(range(preprocessing.channels))
        x = self.node("Gather", [x, self.constant("order", order, np.int64)], axis=3)
        x = self.node("Transpose", [x], perm=[0, 3, 1, 2])
        x = self.node("Cast", [x], to=TensorProto.FLOAT)
        shape = (1, -1, 1, 1)
        mean = self.constant("mean", np.reshape(preprocessing.mean, shape))
        std = self.constant("std", np.reshape(preprocessing.std, shape))
        return self.node("Div", [self.node("Sub", [x, mean]), std])

    def convolution(self, x: str, layer: Convolution, norm: BatchNorm | None) -> str:
        """One Conv with the batch norm folded in."""
        kernel, bias = _arrays(layer)
        factor, shift = _affine(norm, kernel.shape[-1])
        weight = self.constant("weight", (kernel * factor).transpose(3, 2, 0, 1))
        bias = self.constant("bias", bias * factor + shift)
        return self.node(
            "Conv",
            [x, weight, bias],
            kernel_shape=list(kernel.shape[:2]),
            strides=[layer.stride] * 2,
            pads=[layer.padding] * 4,
            group=layer.groups,
        )

    def norm(self, x: str, layer: BatchNorm) -> str:
        """A BatchNormalization of its own: what follows it pads, so it cannot be folded."""
        scale = np.ones(layer.bias.shape) if layer.scale is None else layer.scale[...]
        names = [
            self.constant(name, value)
            for name, value in (
                ("scale", scale),
                ("shift", layer.bias[...]),
                ("mean", layer.mean[...]),
                ("variance", layer.var[...]),
            )
        ]
        return self.node("BatchNormalization", [x, *names], epsilon=layer.epsilon)

    def prelu(self, x: str, layer: PReLU) -> str:
        """PRelu with a slope per channel."""
        slope = self.constant("slope", np.asarray(layer.slope[...]).reshape(-1, 1, 1))
        return self.node("PRelu", [x, slope])

    def relu(self, x: str) -> str:
        """Relu."""
        return self.node("Relu", [x])

    def relu6(self, x: str) -> str:
        """Clip to [0, 6]."""
        return self.node("Clip", [x, self.constant("zero", 0.0), self.constant("six", 6.0)])

    def add(self, x: str, y: str) -> str:
        """Add."""
        return self.node("Add", [x, y])

    def flatten(self, x: str) -> str:
        """Flatten."""
        return self.node("Flatten", [x])

    def linear(self, x: str, layer: Any, norm: BatchNorm, *, size: int) -> str:
        """One Gemm with the batch norm folded in; rows from (h, w, c) to (c, h, w)."""
        kernel, bias = _arrays(layer)
        factor, shift = _affine(norm, kernel.shape[-1])
        out = kernel.shape[-1]
        rows = (kernel * factor).reshape(size, size, -1, out).transpose(3, 2, 0, 1)
        weight = self.constant("weight", rows.reshape(out, -1))
        bias = self.constant("bias", bias * factor + shift)
        return self.node("Gemm", [x, weight, bias], transB=1)


def _arrays(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias (0 where there is none), float64."""
    kernel = np.asarray(layer.kernel[...], np.float64)
    if layer.bias is None:
        return kernel, np.zeros(kernel.shape[-1])
    return kernel, np.asarray(layer.bias[...], np.float64)


def _affine(norm: BatchNorm | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift that the batch norm is in evaluation, float64."""
    if norm is None:
        return np.ones(channels), np.zeros(channels)
    scale = 1.0 if norm.scale is None else np.asarray(norm.scale[...], np.float64)
    factor = scale / np.sqrt(np.asarray(norm.var[...], np.float64) + norm.epsilon)
    return factor, np.asarray(norm.bias[...], np.float64) - factor * np.asarray(norm.mean[...])
