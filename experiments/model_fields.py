"""The fields of all registered networks, as fields of a config."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from arcface_jax.convert.recognize import name_of
from arcface_jax.known_names import unknown_name
from arcface_jax.models import MODELS, BackboneConfig, configure

# Fields that follow from the data, and the config's own name for each.
_PLACES = {"image_size": "data.size", "channels": "data.channels"}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


# May differ from those of the weights that a run begins with.
_FREE = (
    "dtype",
    "remat",
    "dropout",
    "drop_path",
    "mask_ratio",
    "norm_epsilon",
    "norm_momentum",
    "norm_group",
)


def model_fields(name: str) -> ConfigDict:
    """A config with a network's name and an empty field for every field of every network.

    What is left empty is as in the network that is named.

    >>> "depths" in model_fields("resnet_small") and "heads" in model_fields("resnet_small")
    True
    """
    fields = ConfigDict({"name": name})
    for config in MODELS.values():
        hints = typing.get_type_hints(type(config))
        for field in dataclasses.fields(config):
            if field.name in _PLACES:
                continue
            kind = str if field.name == "dtype" else typing.get_origin(hints[field.name])
            fields[field.name] = config_dict.placeholder(kind or hints[field.name])
    return fields


def make_model(values: Mapping[str, Any], *, size: int, channels: int) -> BackboneConfig:
    """The network that a config's model fields describe.

    Args:
      values: fields of `model_fields`, None where left empty.
      size: of the images, px.
      channels: of the images.

    Raises:
      ValueError: an unknown name, a field that the network does not have, or a value out of range.

    >>> make_model({"name": "iresnet18", "dropout": 0.4}, size=112, channels=3).dropout
    0.4
    """
    given = {field: value for field, value in values.items() if value is not None}
    if "dtype" in given:
        if given["dtype"] not in DTYPES:
            raise unknown_name("model.dtype", given["dtype"], DTYPES)
        given["dtype"] = DTYPES[given["dtype"]]
    return configure(given.pop("name"), **given, image_size=size, channels=channels)


def check_weights(model: BackboneConfig, weights: BackboneConfig, *, source: str) -> None:
    """Refuses weights of another network than the one to be trained.

    Raises:
      ValueError: what differs, and what to set.

    >>> check_weights(configure("vit_t"), configure("vit_b"), source="x.pt")
    Traceback (most recent call last):
    ValueError: init_from=x.pt is another network: set model.name=vit_b (or model.width=512, \
model.depth=24).
    """
    name = name_of(weights)
    if type(model) is not type(weights):
        raise ValueError(f"init_from={source} is another network: set model.name={name}.")
    differing = [
        f"{_PLACES.get(field.name, f'model.{field.name}')}={getattr(weights, field.name)}"
        for field in dataclasses.fields(weights)
        if field.name not in _FREE and getattr(model, field.name) != getattr(weights, field.name)
    ]
    if differing:
        change = ", ".join(differing)
        named = f"model.name={name} (or {change})" if name in MODELS else change
        raise ValueError(f"init_from={source} is another network: set {named}.")
