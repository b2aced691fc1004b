"""Margin losses for recognition in JAX: ArcFace and its family.

The core (margins, losses, heads) needs jax alone; models, data, evaluation, analysis and training
load when they are first named.

>>> import jax.numpy as jnp
>>> import arcface_jax as af
>>> x, w = jnp.eye(2), jnp.eye(2)
>>> af.margin_softmax_loss(x, w, jnp.array([0, 1]), margin=af.cosface(1.0), scale=4.0)
Array([0.6931472, 0.6931472], dtype=float32)
"""

import importlib
from typing import Any

from arcface_jax import heads as heads
from arcface_jax import losses as losses
from arcface_jax.heads import margin_softmax_loss as margin_softmax_loss
from arcface_jax.margins import MARGINS as MARGINS
from arcface_jax.margins import Margin as Margin
from arcface_jax.margins import arcface as arcface
from arcface_jax.margins import combined as combined
from arcface_jax.margins import cosface as cosface
from arcface_jax.margins import margin_logits as margin_logits
from arcface_jax.margins import norm_softmax as norm_softmax
from arcface_jax.margins import softmax as softmax
from arcface_jax.margins import sphereface as sphereface
from arcface_jax.margins import sphereface_psi as sphereface_psi
from arcface_jax.margins import target_cosine as target_cosine

__version__ = "0.1.0"

_LATER = ("analysis", "data", "evaluation", "models", "training")

__all__ = [
    "Margin",
    "arcface",
    "combined",
    "cosface",
    "margin_logits",
    "margin_softmax_loss",
    "norm_softmax",
    "softmax",
    "sphereface",
    "sphereface_psi",
    "target_cosine",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"arcface_jax.{name}")
    raise AttributeError(f"module 'arcface_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
