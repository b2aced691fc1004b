"""Weights of any known kind, told apart by what is in the file."""

import os
from pathlib import Path
from typing import Any

from arcface_jax.embedder import Embedder
from arcface_jax.models import BackboneConfig, MobileFaceNet128dConfig
from arcface_jax.models.preprocessing import Preprocessing

# Of ImageNet's photographs, in 0..255.
_IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def usual_inputs(config: BackboneConfig) -> Preprocessing:
    """The contract that public weights of this network were trained with.

    The 128-d MobileFaceNet takes ImageNet's normalisation, the networks of arcface_torch
    (p - 127.5) / 127.5; both RGB faces on the five-point template. Others say so themselves:
    AdaFace's take BGR, MagFace's p / 255.

    >>> from arcface_jax.models import MODELS
    >>> usual_inputs(MODELS["iresnet50"]).std
    (127.5,)
    """
    values: dict[str, Any] = {}
    if isinstance(config, MobileFaceNet128dConfig) and config.channels == 3:
        values = {"mean": _IMAGENET_MEAN, "std": _IMAGENET_STD}
    return Preprocessing.for_model(config, alignment="five_points", **values)


def load(
    path: str | os.PathLike[str],
    *,
    model: str | BackboneConfig | None = None,
    preprocessing: Preprocessing | None = None,
) -> Embedder:
    """A network from a safetensors file of `save`, a PyTorch file, or an ONNX graph.

    Args:
      path: of the file.
      model: the network, where the file does not say which.
      preprocessing: the contract; without it that of the file, or `usual_inputs`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file of no known kind, one that does not fit, or a contract that contradicts the
        file's own.
    """
    from arcface_jax.convert import weight_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}.")
    kind = kind_of(path)
    if kind == "safetensors":
        embedder = weight_file.read(path)
        _refuse_another(preprocessing, embedder.preprocessing, path)
        return embedder
    if kind == "onnx":
        from arcface_jax.convert.onnx_reader import load_with_contract

        net, stored = load_with_contract(path, model=model)
        if stored is not None:
            _refuse_another(preprocessing, stored, path)
        preprocessing = preprocessing or stored
    else:
        from arcface_jax.convert.torch_weights import load_torch

        net = load_torch(path, model=model)
    return Embedder(net, preprocessing=preprocessing or usual_inputs(net.config))


def _refuse_another(given: Preprocessing | None, stored: Preprocessing, path: Path) -> None:
    if given not in (None, stored):
        raise ValueError(
            f"{path} was saved with {stored}, and another contract gives other numbers; do not "
            "give one."
        )


def kind_of(path: Path) -> str:
    """One of "safetensors", "torch" and "onnx", by the first bytes.

    Raises:
      ValueError: none of them.
    """
    with path.open("rb") as file:
        start = file.read(10)
    # The length of a header in JSON, and the header. Its first byte may be any, so it comes first;
    # read as a length, the beginnings of the others pass their files' ends.
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and length <= path.stat().st_size - 8:
        return "safetensors"
    # A ZIP archive, or a pickle of any protocol.
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "torch"
    # An ONNX model begins with its IR version, field 1 of the message.
    if start[:1] == b"\x08":
        return "onnx"
    raise ValueError(
        f"{path} is neither safetensors, nor a PyTorch file, nor an ONNX graph (it begins with "
        f"{start[:4].hex()})."
    )
