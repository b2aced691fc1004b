"""Nested configs by their dotted paths."""

from collections.abc import Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted path -> value.

    >>> flatten({"margin": {"name": "arcface", "m": 0.5}, "scale": 32.0})
    {'margin.name': 'arcface', 'margin.m': 0.5, 'scale': 32.0}
    """
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
