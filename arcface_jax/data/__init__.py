"""Data sets, alignment, augmentation and the pipeline that feeds the trainer.

TFDS and Grain are imported by what needs them, so ``import arcface_jax.data`` stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

from arcface_jax.data.alignment import align as align
from arcface_jax.data.augmentation import Augmentation as Augmentation
from arcface_jax.data.dataset import Dataset as Dataset
from arcface_jax.data.dataset import check_disjoint as check_disjoint
from arcface_jax.data.dataset import hold_out as hold_out
from arcface_jax.data.decode import area_resize as area_resize
from arcface_jax.data.decode import decode as decode
from arcface_jax.data.load import DATASETS as DATASETS
from arcface_jax.data.load import load as load
from arcface_jax.data.pair_lists import PairList as PairList
from arcface_jax.data.pair_lists import read_pairs as read_pairs

if TYPE_CHECKING:
    from arcface_jax.data.pipeline import batches as batches
    from arcface_jax.data.pipeline import evaluation_batches as evaluation_batches

_LATER = {"batches": "pipeline", "evaluation_batches": "pipeline"}

__all__ = [
    "DATASETS",
    "Augmentation",
    "Dataset",
    "PairList",
    "align",
    "area_resize",
    "batches",
    "check_disjoint",
    "decode",
    "evaluation_batches",
    "hold_out",
    "load",
    "read_pairs",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
