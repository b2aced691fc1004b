"""Our layers against plain formulas and XLA's own gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arcface_jax.models.convolution import by_xla, convolution
from arcface_jax.models.grouped import grouped_convolution
from arcface_jax.models.layers import Convolution, PReLU, leaky
from arcface_jax.models.normalization import BatchNorm, normalize_batch


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("size", "kernel", "padding", "dtype"),
    [
        ((4, 4), 3, 1, "float32"),
        ((7, 6), 5, 2, "float32"),
        ((1, 1), 3, 1, "float32"),
        ((7, 6), 2, 0, "float32"),
        ((22, 9), 1, 0, "float32"),
        ((22, 9), 3, 0, "float32"),
        ((22, 9), 3, 1, "bfloat16"),
    ],
)
def test_convolution_equals_xla_in_value_and_gradients(size, kernel, padding, dtype, stride, rng):
    same_as_xla(
        convolution,
        (3, *size, 3),
        (kernel, kernel, 3, 4),
        dtype=dtype,
        rng=rng,
        stride=stride,
        padding=padding,
    )


def same_as_xla(ours, x_shape, kernel_shape, *, dtype, rng, stride, padding, groups=1):
    x, w = (jnp.asarray(rng.normal(size=shape), dtype) for shape in (x_shape, kernel_shape))
    value, vjp = jax.vjp(lambda x, w: ours(x, w, stride, padding), x, w)
    wide = x.astype(jnp.float32), w.astype(jnp.float32)
    expected, plain_vjp = jax.vjp(
        lambda x, w: by_xla(x, w, stride=stride, padding=padding, groups=groups), *wide
    )
    g = jnp.asarray(rng.normal(size=value.shape), dtype)
    tolerance = {"float32": 2e-6, "bfloat16": 2e-2}[dtype]
    pairs = zip((value, *vjp(g)), (expected, *plain_vjp(g.astype(jnp.float32))), strict=True)
    for got, wanted in pairs:
        assert got.dtype == dtype
        largest = max(1.0, float(abs(wanted).max()))
        np.testing.assert_allclose(got.astype(jnp.float32), wanted, atol=tolerance * largest)


@pytest.mark.parametrize(("stride", "members"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize(
    ("size", "kernel", "padding", "dtype"),
    [
        ((4, 4), 3, 1, "float32"),
        ((5, 5), 5, 0, "float32"),
        ((3, 3), 2, 0, "float32"),
        ((7, 6), 5, 2, "float32"),
        ((1, 1), 3, 1, "float32"),
        ((22, 9), 3, 1, "float32"),
        ((22, 9), 3, 1, "bfloat16"),
        ((5, 5), 5, 0, "bfloat16"),
    ],
)
def test_grouped_convolution_equals_xla_in_value_and_gradients(
    size, kernel, padding, dtype, members, stride, rng
):
    same_as_xla(
        grouped_convolution,
        (3, *size, 4),
        (kernel, kernel, members, 4),
        dtype=dtype,
        rng=rng,
        stride=stride,
        padding=padding,
        groups=4 // members,
    )


def plain_batch_norm(x, scale, bias, epsilon=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    unit = (x - mean) / jnp.sqrt(variance + epsilon)
    shape = (1,) * (x.ndim - 1) + (-1,)
    return unit * scale.reshape(shape) + bias.reshape(shape)


@pytest.mark.parametrize("shape", [(16, 5), (4, 3, 3, 5)])
def test_batch_norm_equals_the_formula_in_value_and_gradients(shape, rng):
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(2.0, 3.0, size=shape))
        scale, bias = jnp.asarray(rng.normal(size=(2, 5)))
        weights = jnp.asarray(rng.normal(size=shape))
        layer = BatchNorm(5, dtype=jnp.float64)
        graphdef, state = nnx.split(layer)

        def ours(x, scale, bias):
            layer = nnx.merge(graphdef, state, copy=True)
            layer.scale[...], layer.bias[...] = scale, bias
            return (layer(x) * weights).sum()

        def plain(x, scale, bias):
            return (plain_batch_norm(x, scale, bias) * weights).sum()

        got = jax.value_and_grad(ours, argnums=(0, 1, 2))(x, scale, bias)
        expected = jax.value_and_grad(plain, argnums=(0, 1, 2))(x, scale, bias)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_running_statistics_move_by_a_tenth_with_the_unbiased_variance(rng):
    x = jnp.asarray(rng.normal(3.0, 2.0, size=(8, 4)), jnp.float32)
    layer = BatchNorm(4)
    layer(x)
    np.testing.assert_allclose(layer.mean[...], 0.1 * x.mean(0), rtol=1e-5)
    expected = 0.9 + 0.1 * np.var(np.asarray(x), axis=0, ddof=1)
    np.testing.assert_allclose(layer.var[...], expected, rtol=1e-5)


def test_batch_norm_survives_a_constant_channel():
    value, grads = jax.value_and_grad(
        lambda x: normalize_batch(x, jnp.ones(2), jnp.zeros(2), 1e-5)[0].sum()
    )(jnp.ones((8, 2)))
    assert float(value) == 0.0
    assert (grads == 0.0).all()


def test_leaky_gradients_match_the_plain_form(rng):
    x = jnp.asarray(rng.normal(size=(6, 5, 3)), jnp.float32)
    slope = jnp.array([0.25, -0.5, 1.5])
    g = jnp.asarray(rng.normal(size=x.shape), jnp.float32)

    def plain(x, slope):
        return jnp.maximum(x, 0) + slope[None, None] * jnp.minimum(x, 0)

    value, vjp = jax.vjp(leaky, x, slope)
    expected, plain_vjp = jax.vjp(plain, x, slope)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for got, wanted in zip(vjp(g), plain_vjp(g), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_prelu_has_one_slope_per_channel():
    assert PReLU(7).slope.shape == (7,)


def test_groups_are_normalised_apart_and_running_statistics_follow_their_means(rng):
    x = jnp.asarray(rng.normal(2.0, 3.0, size=(12, 3, 3, 5)), jnp.float32)
    layer = BatchNorm(5, group=4, momentum=0.0)
    apart = [BatchNorm(5, momentum=0.0) for _ in range(3)]
    expected = [norm(x[4 * i : 4 * i + 4]) for i, norm in enumerate(apart)]
    np.testing.assert_allclose(layer(x), jnp.concatenate(expected), atol=2e-6)
    for name in ("mean", "var"):
        means = np.mean([getattr(norm, name)[...] for norm in apart], axis=0)
        np.testing.assert_allclose(getattr(layer, name)[...], means, rtol=1e-5)
    assert not np.allclose(layer(x), BatchNorm(5)(x), atol=1e-2)


def test_groups_that_do_not_divide_the_batch_and_single_rows_are_refused():
    with pytest.raises(ValueError, match="a batch of 6 does not divide into groups of 4"):
        BatchNorm(2, group=4)(jnp.ones((6, 2)))
    with pytest.raises(ValueError, match="at least 2 images"):
        BatchNorm(2)(jnp.ones((1, 2)))


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4), (2, 8)])
def test_convolution_equals_the_sum_over_taps_and_channels(stride, groups, rng):
    layer = Convolution(
        8, 16, kernel=3, stride=stride, padding=1, groups=groups, use_bias=True, rngs=nnx.Rngs(0)
    )
    layer.bias[...] = jnp.asarray(rng.normal(size=16), jnp.float32)
    x = np.float32(rng.normal(size=(2, 6, 6, 8)))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    per_in, per_out = 8 // groups, 16 // groups
    expected = np.zeros((2, 6 // stride, 6 // stride, 16)) + bias
    for out in range(16):
        first = out // per_out * per_in
        for i, j, c in np.ndindex(3, 3, per_in):
            part = padded[:, i : i + 6 : stride, j : j + 6 : stride, first + c]
            expected[..., out] += part * kernel[i, j, c, out]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)
