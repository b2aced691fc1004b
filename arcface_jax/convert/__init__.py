"""Weights in and out: PyTorch, ONNX, safetensors, and compiled programs of JAX.

Each kind's package is imported where it is used: safetensors, onnx and flatbuffers come with
``pip install "arcface_jax[export]"``; PyTorch is never needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from arcface_jax.convert.load_any import load as load
from arcface_jax.convert.load_any import usual_inputs as usual_inputs
from arcface_jax.convert.torch_weights import from_state_dict as from_state_dict
from arcface_jax.convert.torch_weights import load_torch as load_torch
from arcface_jax.convert.torch_weights import save_torch as save_torch
from arcface_jax.convert.torch_weights import to_state_dict as to_state_dict

if TYPE_CHECKING:
    from arcface_jax.convert.compiled import export_jax as export_jax
    from arcface_jax.convert.compiled import load_jax as load_jax
    from arcface_jax.convert.onnx_reader import load_onnx as load_onnx
    from arcface_jax.convert.onnx_writer import export_onnx as export_onnx
    from arcface_jax.convert.weight_file import save as save

_LATER = {
    "export_jax": "compiled",
    "export_onnx": "onnx_writer",
    "load_jax": "compiled",
    "load_onnx": "onnx_reader",
    "save": "weight_file",
}

__all__ = [
    "export_jax",
    "export_onnx",
    "from_state_dict",
    "load",
    "load_jax",
    "load_onnx",
    "load_torch",
    "save",
    "save_torch",
    "to_state_dict",
    "usual_inputs",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
