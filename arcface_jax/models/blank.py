"""Networks to be filled with weights from elsewhere."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from arcface_jax.models.backbone import BackboneConfig


def blank(config: BackboneConfig) -> Any:
    """The network with zeros for parameters and statistics; its random streams are sound.

    Drawing them only to throw them away would take seconds for a large network.

    >>> from arcface_jax.models import MODELS
    >>> float(blank(MODELS["resnet_small"]).fc.kernel[...].max())
    0.0
    """
    numbers = itertools.count()

    def fill(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.fold_in(jax.random.key(0), next(numbers))
        return jnp.zeros(leaf.shape, leaf.dtype)

    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))))
    return nnx.merge(graphdef, jax.tree.map(fill, shapes))
