"""Parameters, batch statistics and multiply-accumulates of a network, without running it."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params

from arcface_jax.models.backbone import BackboneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What a backbone holds and computes.

    Attributes:
      parameters: trained numbers.
      statistics: running means and variances of batch normalisation.
      macs: multiply-accumulates of convolutions and matrix products for one image, in evaluation;
        some tables call this number FLOPs.
    """

    parameters: int
    statistics: int
    macs: int


def count(config: BackboneConfig) -> Counts:
    """Counts of the network of that config; nothing is allocated.

    >>> from arcface_jax.models import MODELS
    >>> count(MODELS["mobilefacenet_128d"])
    Counts(parameters=999936, statistics=19712, macs=233810432)
    """
    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    fixed = nnx.view(model, use_running_average=True, deterministic=True)
    graphdef, state = nnx.split(fixed)
    shape = (1, config.image_size, config.image_size, config.channels)

    def embed(state: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)(images)

    traced = jax.make_jaxpr(embed)(state, jax.ShapeDtypeStruct(shape, jnp.float32))
    return Counts(
        parameters=_size(nnx.state(model, nnx.Param)),
        statistics=_size(nnx.state(model, nnx.BatchStat)),
        macs=sum(_products(traced.jaxpr)),
    )


def _size(state: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def _products(jaxpr: Any) -> Iterator[int]:
    """Multiply-accumulates of each convolution and matrix product."""
    for equation in jaxpr.eqns:
        result = math.prod(equation.outvars[0].aval.shape)
        shapes: list[Any] = [getattr(v.aval, "shape", ()) for v in equation.invars]
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.params["dimension_numbers"].rhs_spec
            yield result * math.prod(shapes[1]) // shapes[1][kernel[0]]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            yield result * math.prod(shapes[0][axis] for axis in contracted)
        for inner in jaxprs_in_params(equation.params):
            yield from _products(inner)
