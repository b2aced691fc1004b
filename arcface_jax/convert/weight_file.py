"""The project's own weight files: safetensors with the network's config and the contract inside."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from arcface_jax.embedder import Embedder
from arcface_jax.evaluation import ImpostorScores
from arcface_jax.known_names import refuse_unknown, unknown_name
from arcface_jax.models import (
    BackboneConfig,
    IResNetConfig,
    MobileFaceNet128dConfig,
    MobileFaceNetConfig,
    ViTConfig,
)
from arcface_jax.models.arrays import Place, arrays_of, fill
from arcface_jax.models.blank import blank
from arcface_jax.models.preprocessing import Preprocessing
from arcface_jax.whole_file import whole_file

FORMAT = "arcface_jax weights 1"
_IMPOSTORS = "impostor_counts"
_CONFIGS: dict[str, Any] = {
    config.__name__.removesuffix("Config"): config
    for config in (IResNetConfig, MobileFaceNetConfig, MobileFaceNet128dConfig, ViTConfig)
}


def save(embedder: Embedder, path: str | os.PathLike[str]) -> None:
    """Writes a network with its contract and impostor scores as one safetensors file.

    Arrays are named by their place in the network, joined by dots; config, contract and format are
    in the metadata. A file that is there is replaced when the new one is whole.
    """
    from safetensors.numpy import save as to_bytes

    # safetensors writes raw buffers: a transposed array would come back wrong.
    arrays = {
        _name(place): np.ascontiguousarray(variable[...])
        for place, variable in arrays_of(embedder.model).items()
    }
    metadata = {
        "format": FORMAT,
        "model": json.dumps(config_to_json(embedder.model.config)),
        "preprocessing": json.dumps(embedder.preprocessing.to_json()),
    }
    if embedder.impostors is not None:
        arrays[_IMPOSTORS] = embedder.impostors.counts
        metadata["impostor_source"] = embedder.impostors.source
    with whole_file(path, "wb") as file:
        file.write(to_bytes(arrays, metadata))


def read(path: str | os.PathLike[str]) -> Embedder:
    """The network of a file that `save` wrote, with its contract and impostor scores.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file, or arrays that do not fit its own config.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or is cut off: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a weight file of this library (format {metadata.get('format')!r}); it "
            "has no config and no contract of its inputs."
        )
    config = config_from_json(json.loads(metadata["model"]))
    model = blank(config)
    own = arrays_of(model)
    counts = arrays.pop(_IMPOSTORS, None)
    if problem := _difference(arrays, {_name(place): own[place] for place in own}):
        raise ValueError(f"{path} does not fit the config in it: {problem}.")
    fill(model, {place: arrays[_name(place)] for place in own})
    return Embedder(
        model,
        preprocessing=Preprocessing.from_json(json.loads(metadata["preprocessing"])),
        impostors=None
        if counts is None
        else ImpostorScores(counts=counts, source=metadata.get("impostor_source", "")),
    )


def config_to_json(config: BackboneConfig) -> dict[str, Any]:
    """Plain values of a network's config, its type among them.

    >>> config_to_json(MobileFaceNet128dConfig())["type"]
    'MobileFaceNet128d'
    """
    values = dataclasses.asdict(config)
    kind = type(config).__name__.removesuffix("Config")
    return {"type": kind, **values, "dtype": jnp.dtype(config.dtype).name}


def config_from_json(values: dict[str, Any]) -> BackboneConfig:
    """From what `config_to_json` gave.

    Raises:
      ValueError: a type or field that is not known.

    >>> config_from_json(config_to_json(MobileFaceNet128dConfig(image_size=96))).image_size
    96
    """
    values = dict(values)
    kind = values.pop("type", "none")
    if kind not in _CONFIGS:
        raise unknown_name("network", kind, _CONFIGS)
    refuse_unknown(f"field of {kind}", values, _CONFIGS[kind].__dataclass_fields__)
    tuples = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return _CONFIGS[kind](**tuples | {"dtype": jnp.dtype(values["dtype"]).type})


def _name(place: Place) -> str:
    return ".".join(map(str, place))


def _difference(arrays: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What is on one side only or of another shape, or nothing."""
    missing = sorted(wanted.keys() - arrays.keys())
    unknown = sorted(arrays.keys() - wanted.keys())
    if missing or unknown:
        return f"missing {missing[:5]}, unknown {unknown[:5]}"
    return ", ".join(
        f"{name} is {list(arrays[name].shape)}, not {list(wanted[name].shape)}"
        for name in wanted
        if arrays[name].shape != wanted[name].shape
    )
