"""Hyper-parameters that differ from class to class."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByClass:
    """One number per class, to be given to a margin in place of a number.

    Args:
      values: float[C].

    >>> import arcface_jax as af
    >>> margin = af.cosface(ByClass(jnp.array([0.0, 0.5])))
    >>> af.margin_logits(jnp.eye(2), jnp.array([0, 1]), margin=margin, scale=2.0)
    Array([[2., 0.],
           [0., 1.]], dtype=float32)
    """

    values: ArrayLike


def take_classes(margin: Any, labels: Array, *, num_classes: int) -> Any:
    """``margin`` with each `ByClass` replaced by one number per row.

    Raises:
      ValueError: there is not one number per class.

    >>> take_classes({"m": ByClass(jnp.array([1.0, 2.0]))}, jnp.array([1, -1]), num_classes=2)
    {'m': Array([2., 1.], dtype=float32)}
    """

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, ByClass):
            return leaf
        values = jnp.asarray(leaf.values)
        if values.shape != (num_classes,):
            raise ValueError(
                f"ByClass holds one number for each of {num_classes} classes, got {values.shape}."
            )
        return values[jnp.clip(labels, 0, num_classes - 1)]

    return jax.tree.map(take, margin, is_leaf=lambda leaf: isinstance(leaf, ByClass))
