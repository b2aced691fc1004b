"""Vectors, cosines and angles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arcface_jax import geometry


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e4, 1e20, 1e30])
def test_unit_is_right_at_any_length(size, rng):
    x = rng.normal(size=(5, 8))
    got = geometry.unit(jnp.asarray(size * x, jnp.float32))
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    if size < geometry.SHORTEST:
        expected = np.zeros_like(x)
    np.testing.assert_allclose(got, expected, atol=2e-7)


@pytest.mark.parametrize("function", [geometry.unit, geometry.length])
def test_zero_row_has_value_and_derivative_exactly_zero(function):
    x = jnp.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    assert (function(x)[0] == 0.0).all()
    grad = jax.grad(lambda x: jnp.sum(function(x) * 2.0))(x)
    assert (grad[0] == 0.0).all()
    assert jnp.isfinite(grad).all()


def test_unit_gradient_is_the_projection_over_the_length(rng):
    with jax.enable_x64(True):
        x, g = rng.normal(size=(2, 6))
        _, vjp = jax.vjp(geometry.unit, jnp.asarray(x)[None])
        (got,) = vjp(jnp.asarray(g)[None])
        u = x / np.linalg.norm(x)
        np.testing.assert_allclose(got[0], (g - u * (u @ g)) / np.linalg.norm(x), rtol=1e-12)


@pytest.mark.parametrize("cosine", [1.0, 1.0 + 1e-6, -1.0, -1.0 - 1e-6])
@pytest.mark.parametrize("function", [geometry.sine, geometry.angle])
def test_derivative_is_finite_at_the_poles(function, cosine):
    c = jnp.float32(cosine)
    slope = jax.grad(lambda c: function(geometry.clip_cosine(c)))(c)
    assert jnp.isfinite(slope)
    assert abs(slope) <= 1.0 / geometry.SINE_FLOOR


def test_clipping_keeps_the_derivative():
    c = jnp.array([-1.1, -1.0, 0.3, 1.0, 1.1])
    np.testing.assert_array_equal(geometry.clip_cosine(c), jnp.clip(c, -1.0, 1.0))
    slope = jax.vmap(jax.grad(geometry.clip_cosine))(c)
    np.testing.assert_array_equal(slope, np.ones(5))


def test_shifted_cosine_without_a_shift_is_the_cosine_itself():
    c = jnp.linspace(-1.0, 1.0, 101)
    one, zero = jnp.float32(1.0), jnp.float32(0.0)
    value, slope = jax.jvp(lambda c: geometry.shifted_cosine(c, one, zero), (c,), (jnp.ones(101),))
    np.testing.assert_array_equal(value, c)
    np.testing.assert_array_equal(slope, np.ones(101))


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_shifted_cosine_derivatives_match_finite_differences(argument):
    with jax.enable_x64(True):
        at = [np.linspace(-0.95, 0.95, 39), np.full(39, 1.2), np.full(39, 0.4)]

        def value(shift):
            moved = [a + shift * (k == argument) for k, a in enumerate(at)]
            return np.cos(moved[1] * np.arccos(moved[0]) + moved[2])

        def function(x):
            arguments = [jnp.asarray(a) for a in at]
            arguments[argument] = x
            return geometry.shifted_cosine(*arguments)

        _, slope = jax.jvp(function, (jnp.asarray(at[argument]),), (jnp.ones(39),))
        step = 1e-6
        np.testing.assert_allclose(slope, (value(step) - value(-step)) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 7])
def test_chebyshev_is_the_cosine_of_the_multiple(degree):
    theta = np.linspace(0.0, np.pi, 50)
    with jax.enable_x64(True):
        got = geometry.chebyshev(jnp.cos(jnp.asarray(theta)), degree)
        np.testing.assert_allclose(got, np.cos(degree * theta), atol=1e-12)


def test_narrow_floats_are_widened_and_doubles_kept():
    assert geometry.as_float(jnp.ones(1, jnp.float16)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert geometry.as_float(jnp.ones(1, jnp.float64)).dtype == jnp.float64
