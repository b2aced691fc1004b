"""Unit vectors, cosines and angles whose values and derivatives stay finite everywhere."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

# 1 / sin(theta) in a derivative is 1 / max(sin(theta), SINE_FLOOR): in float32 the cosine next to
# 1 has a sine of this size, so no representable angle in between is changed.
SINE_FLOOR = 2.0**-11.5

SHORTEST = 1e-12

# Slices of a row that a CPU combines elementwise before the rest is reduced: so many at most, and
# so many entries wide at least.
PARTS, NARROWEST = 16, 16


def as_float(x: ArrayLike) -> Array:
    """``x`` as float32, or as float64 where it already is: what cosines and losses compute in.

    >>> as_float(jnp.ones(2, jnp.bfloat16)).dtype
    dtype('float32')
    """
    x = jnp.asarray(x)
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def _reduce_rows(
    combine: Callable[..., Array], reduce: Callable[..., Array], function: Callable, x: Array
) -> Array:
    """``reduce(function(x), axis=-1, keepdims=True)``, fast on a CPU too.

    XLA's CPU compiler runs a reduction over the last axis one entry at a time; slices of the axis
    are combined elementwise first, which it does many at a time.
    """
    most = max(1, min(PARTS, x.shape[-1] // NARROWEST))
    parts = max(n for n in range(1, most + 1) if x.shape[-1] % n == 0)

    def by_parts(x: Array) -> Array:
        combined = functools.reduce(combine, map(function, jnp.split(x, parts, axis=-1)))
        return reduce(combined, axis=-1, keepdims=True)

    def at_once(x: Array) -> Array:
        return reduce(function(x), axis=-1, keepdims=True)

    return jax.lax.platform_dependent(x, cpu=by_parts, default=at_once)


def _direction(x: Array) -> tuple[Array, Array, Array]:
    """(unit rows, 1 / length, length), the latter two [..., 1]; all 0 where a row is too short.

    Squares of entries beyond 1e19 overflow float32; those of ``x / k``, with k the largest entry
    of the row, lie in [0, 1].
    """
    largest = _reduce_rows(jnp.maximum, jnp.max, jnp.abs, x)
    k = jnp.where(largest > 0.0, largest, 1.0)
    square = _reduce_rows(jnp.add, jnp.sum, lambda part: jnp.square(part / k), x)
    # Not "longer than": a row of NaN is to stay one.
    counts = ~(jnp.sqrt(square) * k <= SHORTEST)
    inverse = jnp.where(counts, jax.lax.rsqrt(jnp.where(counts, square, 1.0)), 0.0)
    return x / k * inverse, inverse / k, jnp.where(counts, jnp.sqrt(square) * k, 0.0)


@jax.custom_jvp
def _unit(x: Array) -> Array:
    return _direction(x)[0]


@_unit.defjvp
def _unit_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y, inverse, _ = _direction(x)
    return y, (dx - y * jnp.sum(y * dx, axis=-1, keepdims=True)) * inverse


def unit(x: ArrayLike) -> Array:
    r"""Rows of unit length; a row no longer than 1e-12 becomes zero, with derivative zero.

    .. math:: \hat x = x / \lVert x \rVert

    Args:
      x: float[..., D], any length.

    Returns:
      float32[..., D] (float64 stays float64).

    >>> unit(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    Array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    return _unit(as_float(x))


@jax.custom_jvp
def _length(x: Array) -> Array:
    return _direction(x)[2][..., 0]


@_length.defjvp
def _length_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y, _, length = _direction(x)
    return length[..., 0], jnp.sum(y * dx, axis=-1)


def length(x: ArrayLike) -> Array:
    r"""Euclidean length of each row, with derivative zero at a zero row.

    .. math:: \lVert x \rVert = \sqrt{\textstyle\sum_k x_k^2}

    Args:
      x: float[..., D].

    Returns:
      float32[...] (float64 stays float64).

    >>> length(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    Array([5., 0.], dtype=float32)
    """
    return _length(as_float(x))


def clip_cosine(cosine: Array) -> Array:
    """``cosine`` limited to [-1, 1] in value, with derivative 1 everywhere.

    Rounding lifts a cosine above 1; `jnp.clip` would then stop the gradient.

    >>> clip_cosine(jnp.array([1.5, 0.5]))
    Array([1. , 0.5], dtype=float32)
    """
    return cosine + jax.lax.stop_gradient(jnp.clip(cosine, -1.0, 1.0) - cosine)


def cosine_matrix(
    embeddings: ArrayLike,
    centers: ArrayLike,
    *,
    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST,
) -> Array:
    r"""Cosine of the angle between each embedding and each class centre.

    .. math:: c_{ij} = \hat x_i \cdot \hat W_j

    Args:
      embeddings: float[B, D], not normalised.
      centers: float[C, D], not normalised.
      precision: of the matrix product; GPUs would use TF32 below HIGHEST.

    Returns:
      float32[B, C] in [-1, 1] (float64 where both inputs are).

    >>> cosine_matrix(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 4.0]]))
    Array([[1., 0.]], dtype=float32)
    """
    return clip_cosine(jnp.matmul(unit(embeddings), unit(centers).T, precision=precision))


@jax.custom_jvp
def sine(cosine: Array) -> Array:
    r"""Sine of the angle from its cosine, exactly 0 at cosine ±1.

    .. math:: \sin\theta = \sqrt{\max((1 - c)(1 + c), 0)}, \qquad
       d\sin\theta / dc = -c / \max(\sin\theta, 2^{-11.5})

    >>> sine(jnp.array([1.0, 0.0, -1.0]))
    Array([0., 1., 0.], dtype=float32)
    """
    return jnp.sqrt(jnp.maximum((1.0 - cosine) * (1.0 + cosine), 0.0))


@sine.defjvp
def _sine_jvp(primals, tangents):
    (cosine,), (d_cosine,) = primals, tangents
    value = sine(cosine)
    return value, -cosine / jnp.maximum(value, SINE_FLOOR) * d_cosine


@jax.custom_jvp
def angle(cosine: Array) -> Array:
    r"""Angle in radians from its cosine, in [0, pi], with a finite derivative at both ends.

    .. math:: \theta = \mathrm{atan2}(\sin\theta, \cos\theta), \qquad
       d\theta / dc = -1 / \max(\sin\theta, 2^{-11.5})

    >>> angle(jnp.array([1.0, -1.0]))
    Array([0.       , 3.1415927], dtype=float32)
    """
    return jnp.arctan2(sine(cosine), cosine)


@angle.defjvp
def _angle_jvp(primals, tangents):
    (cosine,), (d_cosine,) = primals, tangents
    return angle(cosine), -d_cosine / jnp.maximum(sine(cosine), SINE_FLOOR)


@jax.custom_jvp
def shifted_cosine(cosine: Array, m1: Array, m2: Array) -> Array:
    r"""Cosine of the angle ``m1 * theta + m2`` (radians) from the cosine of ``theta``.

    .. math:: A(c) = \cos(m_1\theta + m_2) = c\cos\delta - \sin\theta\sin\delta, \qquad
       \delta = (m_1 - 1)\theta + m_2

    Equal to ``cosine``, with derivative 1, where ``m1 = 1`` and ``m2 = 0``. The derivative's
    ``1 / sin(theta)`` is floored, so it is finite at ``cosine = ±1``. The three arguments
    broadcast together.

    >>> shifted_cosine(jnp.float32(0.25), jnp.float32(1.0), jnp.float32(0.0))
    Array(0.25, dtype=float32)
    """
    sin = sine(cosine)
    delta = (m1 - 1.0) * jnp.arctan2(sin, cosine) + m2
    return cosine * jnp.cos(delta) - sin * jnp.sin(delta)


@shifted_cosine.defjvp
def _shifted_cosine_jvp(primals, tangents):
    cosine, m1, m2 = primals
    d_cosine, d_m1, d_m2 = tangents
    sin = sine(cosine)
    theta = jnp.arctan2(sin, cosine)
    delta = (m1 - 1.0) * theta + m2
    cos_delta, sin_delta = jnp.cos(delta), jnp.sin(delta)
    by_cosine = m1 * (cos_delta + cosine * sin_delta / jnp.maximum(sin, SINE_FLOOR))
    by_angle = -(sin * cos_delta + cosine * sin_delta)
    value = cosine * cos_delta - sin * sin_delta
    return value, by_cosine * d_cosine + by_angle * (theta * d_m1 + d_m2)


def chebyshev(cosine: Array, degree: int) -> Array:
    r"""Cosine of ``degree`` times the angle, as a polynomial: no sine, finite derivative at ±1.

    .. math:: T_{n+1}(c) = 2 c\,T_n(c) - T_{n-1}(c), \qquad T_n(\cos\theta) = \cos n\theta

    >>> chebyshev(jnp.float32(0.5), 3)
    Array(-1., dtype=float32)
    """
    before, now = jnp.ones_like(cosine), cosine
    for _ in range(degree - 1):
        before, now = now, 2.0 * cosine * now - before
    return now if degree else before
