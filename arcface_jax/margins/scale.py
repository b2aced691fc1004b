"""The scale that a caller gives, or the margin's own."""

import math

from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_number
from arcface_jax.margins.rule import MarginRule


def scale_of(margin: MarginRule, scale: ArrayLike | None) -> Array | None:
    """The scale as an array, the margin's default for None, and None where it takes none.

    Raises:
      ValueError: a scale that is not positive, or one for a margin that has its own.

    >>> from arcface_jax.margins import norm_softmax
    >>> scale_of(norm_softmax(), -1.0)
    Traceback (most recent call last):
    ValueError: scale=-1.0 lies outside (0, inf).
    """
    if scale is None:
        return geometry.as_float(margin.default_scale) if margin.has_scale else None
    if not margin.has_scale:
        raise ValueError(
            f"{type(margin).__name__} has no scale to set: {margin.no_scale} Leave scale=None."
        )
    check_number("scale", scale, 0.0, math.inf, includes_low=False)
    return geometry.as_float(scale)
