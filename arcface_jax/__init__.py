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
from arcface_jax.margins import ByClass as ByClass
from arcface_jax.margins import Margin as Margin
from arcface_jax.margins import MarginRule as MarginRule
from arcface_jax.margins import adacos as adacos
from arcface_jax.margins import adaface as adaface
from arcface_jax.margins import airface as airface
from arcface_jax.margins import arcface as arcface
from arcface_jax.margins import circle_class as circle_class
from arcface_jax.margins import combined as combined
from arcface_jax.margins import cosface as cosface
from arcface_jax.margins import curricularface as curricularface
from arcface_jax.margins import elasticface as elasticface
from arcface_jax.margins import interclass_filter as interclass_filter
from arcface_jax.margins import l_softmax as l_softmax
from arcface_jax.margins import magface as magface
from arcface_jax.margins import margin_logits as margin_logits
from arcface_jax.margins import mv_softmax_am as mv_softmax_am
from arcface_jax.margins import mv_softmax_arc as mv_softmax_arc
from arcface_jax.margins import norm_softmax as norm_softmax
from arcface_jax.margins import p2sgrad as p2sgrad
from arcface_jax.margins import register_margin as register_margin
from arcface_jax.margins import softmax as softmax
from arcface_jax.margins import sphereface as sphereface
from arcface_jax.margins import sphereface2 as sphereface2
from arcface_jax.margins import sphereface_psi as sphereface_psi
from arcface_jax.margins import sphereface_r as sphereface_r
from arcface_jax.margins import subcenter_arcface as subcenter_arcface
from arcface_jax.margins import target_cosine as target_cosine
from arcface_jax.margins import uniface as uniface
from arcface_jax.margins import vpl as vpl

__version__ = "0.1.0"

_LATER = ("analysis", "convert", "data", "evaluation", "models", "testing", "training")

__all__ = [
    "ByClass",
    "Margin",
    "MarginRule",
    "adacos",
    "adaface",
    "airface",
    "arcface",
    "circle_class",
    "combined",
    "cosface",
    "curricularface",
    "elasticface",
    "interclass_filter",
    "l_softmax",
    "magface",
    "margin_logits",
    "margin_softmax_loss",
    "mv_softmax_am",
    "mv_softmax_arc",
    "norm_softmax",
    "p2sgrad",
    "register_margin",
    "softmax",
    "sphereface",
    "sphereface2",
    "sphereface_psi",
    "sphereface_r",
    "subcenter_arcface",
    "target_cosine",
    "uniface",
    "vpl",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"arcface_jax.{name}")
    raise AttributeError(f"module 'arcface_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
