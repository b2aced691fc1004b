"""The arrays of a network by their places in it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

Place = tuple[Any, ...]


def arrays_of(model: Any) -> dict[Place, Any]:
    """Place -> variable of each parameter and batch statistic.

    >>> sorted(arrays_of(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    [('bias',), ('kernel',)]
    """
    return dict(nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))))


def fill(model: Any, arrays: Mapping[Place, Any]) -> None:
    """Puts arrays into the places of the network's own.

    >>> linear = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    >>> fill(linear, {("bias",): jnp.ones(1)})
    >>> linear.bias[...]
    Array([1.], dtype=float32)
    """
    own = arrays_of(model)
    filled = {place: own[place].replace(jnp.asarray(array)) for place, array in arrays.items()}
    nnx.update(model, nnx.from_flat_state(filled))
