"""Networks from ONNX graphs whose structure is known."""

import dataclasses
import json
import os
from typing import Any

import jax.numpy as jnp
import numpy as np
import onnx
from flax import nnx
from onnx import numpy_helper

from arcface_jax.convert.layer_graph import walk
from arcface_jax.models import MODELS, BackboneConfig, configure
from arcface_jax.models.blank import blank
from arcface_jax.models.layers import Convolution, PReLU
from arcface_jax.models.normalization import BatchNorm
from arcface_jax.models.preprocessing import Preprocessing

# Nodes that change no number on the way from one layer to the next.
_PASSING = ("Identity", "Flatten", "Reshape", "Dropout", "Cast", "Squeeze")

# What `export_onnx` puts between bytes and the first layer, but for nodes of `_PASSING`.
_NORMALIZING = ("Gather", "Transpose", "Sub", "Div")


def load_onnx(
    path: str | os.PathLike[str], *, model: str | BackboneConfig | nnx.Module | None = None
) -> Any:
    """A backbone with the weights of an ONNX graph of an IResNet or a MobileFaceNet.

    The graph is followed from its input, layer by layer, so the names in it do not matter. Where a
    batch norm has been folded into the convolution before it, the network's own becomes the
    identity with the bias as its shift: evaluation gives the same numbers; the statistics and
    gammas that training would go on from are gone. Where the graph normalises bytes itself, as
    `export_onnx` writes it with ``from_bytes=True``, the network takes normalised images again.

    Args:
      path: of the file, weights inside.
      model: a registered name, a config, or a network to fill. None tries the registered networks.

    Returns:
      The network; see `arcface_jax.convert.load_torch`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file, a graph of another structure or other shapes (the node is
        named), or one that takes bytes and states no preprocessing.
    """
    return load_with_contract(path, model=model)[0]


def load_with_contract(
    path: str | os.PathLike[str], *, model: str | BackboneConfig | nnx.Module | None = None
) -> tuple[Any, Preprocessing | None]:
    """`load_onnx`'s network, and the contract that `export_onnx` stored in the file, or None.

    Raises:
      FileNotFoundError: no such file.
      ValueError: as of `load_onnx`.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no ONNX file {path}.")
    try:
        stored = onnx.load(path)
    except Exception as error:
        raise ValueError(f"{path} is no ONNX file with its weights inside: {error}") from None
    notes = {note.key: note.value for note in stored.metadata_props}
    contract = None
    if "preprocessing" in notes:
        contract = Preprocessing.from_json(json.loads(notes["preprocessing"]))
    elif _takes_bytes(_images(stored.graph)):
        raise ValueError(f"{path} takes bytes and does not state what it makes of them.")
    return _network(stored.graph, path, model=model), contract


def _network(graph: Any, path: str, *, model: str | BackboneConfig | nnx.Module | None) -> Any:
    if model is not None:
        config = configure(model) if isinstance(model, str) else model
        net = blank(config) if isinstance(config, BackboneConfig) else config
        return _filled(net, graph, path)
    refusals = []
    for name, registered in MODELS.items():
        config = _sized(registered, graph)
        # Tried on shapes alone: drawing a large network takes seconds.
        shapes = nnx.eval_shape(lambda config=config: config.build(rngs=nnx.Rngs(0)))
        try:
            _follow(shapes, graph)
        except ValueError as error:
            refusals.append(f"{name}: {error}")
            continue
        return _filled(blank(config), graph, path)
    raise ValueError(f"{path} is the graph of no registered network. {' '.join(refusals)}")


def _sized(config: BackboneConfig, graph: Any) -> BackboneConfig:
    """``config`` with the size of input and output that the graph states."""
    images = _images(graph)
    shape = [d.dim_value for d in images.type.tensor_type.shape.dim]
    if _takes_bytes(images) and len(shape) == 4:
        shape = [shape[0], shape[3], *shape[1:3]]
    out = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    sizes: dict[str, int] = {}
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2] > 0:
        sizes |= {"channels": shape[1], "image_size": shape[2]}
    if out and out[-1] > 0:
        sizes["embedding_dim"] = out[-1]
    try:
        return dataclasses.replace(config, **sizes)
    except ValueError:
        return config


def _images(graph: Any) -> Any:
    """The graph's input; older files list their weights among the inputs."""
    stored = {tensor.name for tensor in graph.initializer}
    return next(value for value in graph.input if value.name not in stored)


def _takes_bytes(images: Any) -> bool:
    """Whether the input is uint8[N, h, w, c], which the graph itself normalises."""
    return images.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def _filled(net: Any, graph: Any, path: str) -> Any:
    try:
        found = _follow(net, graph)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the model: {error}") from None
    for variable, value in found:
        variable[...] = jnp.asarray(value, variable.dtype)
    return net


def _follow(net: Any, graph: Any) -> list[tuple[Any, np.ndarray]]:
    """Each variable of the network with the array that the graph has for it."""
    reader = _Reader(graph)
    reader.finish(walk(net, reader, reader.input))
    return reader.found


class _Reader:
    """Follows a graph from its input; values are names of tensors."""

    def __init__(self, graph: Any):
        self.found: list[tuple[Any, np.ndarray]] = []
        self._outputs = [value.name for value in graph.output]
        self._arrays = {tensor.name: tensor for tensor in graph.initializer}
        self._consumers: dict[str, list[Any]] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                self._arrays[node.output[0]] = node.attribute[0].t
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        images = _images(graph)
        self.input = images.name
        if _takes_bytes(images):
            for kind in _NORMALIZING:
                self.input = self._next(self.input, kind).output[0]

    def convolution(self, x: str, layer: Convolution, norm: BatchNorm | None) -> str:
        """Conv, and BatchNormalization where it was not folded."""
        node = self._next(x, "Conv")
        attributes = _attributes(node)
        wanted = {
            "strides": [layer.stride] * 2,
            "pads": [layer.padding] * 4,
            "group": layer.groups,
            "dilations": [1, 1],
        }
        usual = {"strides": [1, 1], "pads": [0] * 4, "group": 1, "dilations": [1, 1]}
        for name, value in wanted.items():
            if attributes.get(name, usual[name]) != value:
                raise ValueError(
                    f"Conv {node.name or node.output[0]} has {name} {attributes.get(name)} where "
                    f"the network has {value}."
                )
        kernel = self._array(node, 1).transpose(2, 3, 1, 0)
        bias = self._array(node, 2) if len(node.input) > 2 else np.zeros(kernel.shape[-1])
        self._set(layer.kernel, kernel, node)
        return self._constant_part(node, layer, norm, bias)

    def linear(self, x: str, layer: Any, norm: BatchNorm, *, size: int) -> str:
        """Gemm (or MatMul and Add), and BatchNormalization where it was not folded."""
        node = self._next(x, "Gemm", "MatMul")
        weight = self._array(node, 1)
        rows = weight if _attributes(node).get("transB") else weight.T
        if rows.shape[1] % size**2:
            raise ValueError(f"{node.op_type} {node.output[0]} has weights {list(weight.shape)}.")
        out = len(rows)
        kernel = rows.reshape(out, -1, size, size).transpose(2, 3, 1, 0).reshape(-1, out)
        bias = self._array(node, 2) if len(node.input) > 2 else np.zeros(out)
        if node.op_type == "MatMul" and self._is_next(node.output[0], "Add"):
            node = self._next(node.output[0], "Add")
            bias = self._array(node, 0 if node.input[0] in self._arrays else 1)
        after = self._is_next(node.output[0], "BatchNormalization")
        if after and norm.scale is None:
            last = self._next(node.output[0], "BatchNormalization")
            factor, shift = self._affine(last)
            self._set(layer.kernel, kernel * factor, node)
            return self._constant_part(last, layer, norm, bias * factor + shift)
        self._set(layer.kernel, kernel, node)
        return self._constant_part(node, layer, norm, bias)

    def norm(self, x: str, layer: BatchNorm) -> str:
        """BatchNormalization."""
        node = self._next(x, "BatchNormalization")
        self._set_norm(layer, node, 0.0)
        return node.output[0]

    def prelu(self, x: str, layer: PReLU) -> str:
        """PRelu."""
        node = self._next(x, "PRelu")
        self._set(layer.slope, self._array(node, 1).ravel(), node)
        return node.output[0]

    def relu(self, x: str) -> str:
        """Relu."""
        return self._next(x, "Relu").output[0]

    def relu6(self, x: str) -> str:
        """Clip to [0, 6]."""
        node = self._next(x, "Clip")
        given = _attributes(node)
        ends = (
            [given.get("min"), given.get("max")]
            if len(node.input) == 1
            else [self._array(node, 1).item(), self._array(node, 2).item()]
        )
        if ends != [0.0, 6.0]:
            raise ValueError(f"Clip {node.output[0]} is to {ends} where the network has [0, 6].")
        return node.output[0]

    def add(self, x: str, y: str) -> str:
        """Add of these two."""
        ends = {self._skip(x), self._skip(y)}
        for node in self._consumers.get(self._skip(x), []):
            if node.op_type == "Add" and {self._skip(name) for name in node.input} == ends:
                return node.output[0]
        raise ValueError(f"nothing adds {x} and {y}.")

    def flatten(self, x: str) -> str:
        """Passes over it: it changes no number."""
        return x

    def finish(self, end: str) -> None:
        """Refuses a graph that goes on."""
        while end not in self._outputs:
            following = [n for n in self._consumers.get(end, []) if n.op_type in _PASSING]
            if not following:
                raise ValueError(f"the graph goes on where the network ends, after {end}.")
            end = following[0].output[0]

    def _constant_part(self, node: Any, layer: Any, norm: BatchNorm | None, bias: Any) -> str:
        """Places a layer's bias, in it or in the batch norm that follows."""
        out = node.output[0]
        if layer.bias is not None:
            self._set(layer.bias, bias, node)
            bias = np.zeros_like(bias)
        if norm is not None and self._is_next(out, "BatchNormalization"):
            node = self._next(out, "BatchNormalization")
            self._set_norm(norm, node, bias)
            return node.output[0]
        if norm is not None:
            if norm.scale is not None:
                self._set(norm.scale, np.ones_like(bias), node)
            self._set(norm.bias, bias, node)
            self._set(norm.mean, np.zeros_like(bias), node)
            self._set(norm.var, np.full_like(bias, 1.0 - norm.epsilon), node)
        elif np.any(bias):
            raise ValueError(f"{node.op_type} {out} has a bias that the network lacks.")
        return out

    def _set_norm(self, layer: BatchNorm, node: Any, bias: Any) -> None:
        """Fills a batch norm, in front of which a bias was left over."""
        scale, shift, mean, variance = (self._array(node, i) for i in range(1, 5))
        epsilon = _attributes(node).get("epsilon", 1e-5)
        if layer.scale is not None:
            self._set(layer.scale, scale, node)
        elif not np.all(scale == 1.0):
            raise ValueError(f"{node.output[0]} has a gamma that the network fixes to 1.")
        self._set(layer.bias, shift, node)
        self._set(layer.mean, mean - bias, node)
        self._set(layer.var, variance + (epsilon - layer.epsilon), node)

    def _affine(self, node: Any) -> tuple[np.ndarray, np.ndarray]:
        scale, shift, mean, variance = (
            self._array(node, i).astype(np.float64) for i in range(1, 5)
        )
        factor = scale / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))
        return factor, shift - factor * mean

    def _set(self, variable: Any, value: np.ndarray, node: Any) -> None:
        if value.shape != variable.shape:
            raise ValueError(
                f"{node.op_type} {node.name or node.output[0]} has an array {list(value.shape)} "
                f"where the network has {list(variable.shape)}."
            )
        self.found.append((variable, value))

    def _array(self, node: Any, place: int) -> np.ndarray:
        name = node.input[place]
        if name not in self._arrays:
            raise ValueError(f"{node.op_type} {node.output[0]}: {name} is not stored in the file.")
        return numpy_helper.to_array(self._arrays[name])

    def _skip(self, x: str) -> str:
        """The tensor at the end of a chain of nodes that change nothing."""
        while len(nodes := self._consumers.get(x, [])) == 1 and nodes[0].op_type in _PASSING:
            x = nodes[0].output[0]
        return x

    def _is_next(self, x: str, kind: str) -> bool:
        return any(node.op_type == kind for node in self._consumers.get(self._skip(x), []))

    def _next(self, x: str, *kinds: str) -> Any:
        x = self._skip(x)
        nodes = self._consumers.get(x, [])
        found = [node for node in nodes if node.op_type in kinds]
        if len(found) != 1:
            there = ", ".join(node.op_type for node in nodes) or "nothing"
            raise ValueError(f"after {x} comes {there} where the network has {' or '.join(kinds)}.")
        return found[0]


def _attributes(node: Any) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
