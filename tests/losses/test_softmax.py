"""Plain softmax on features, weights and a bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af


def test_equals_numpy_from_the_formula(rng):
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=6)
    labels = np.array([0, 5, 2, 2])
    z = x @ w.T + b
    expected = np.log(np.exp(z).sum(1)) - z[np.arange(4), labels]
    with jax.enable_x64(True):
        got = af.losses.softmax(*map(jnp.asarray, (x, w, b, labels)))
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_masked_and_ignored_rows_are_zero(rng):
    x, w = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), jnp.eye(2)
    got = af.losses.softmax(x, w, None, jnp.array([0, -1, 1]), where=jnp.array([True, True, False]))
    assert float(got[0]) > 0.0
    assert (got[1:] == 0.0).all()


def test_label_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"label 2 at position 1 lies outside \[0, 2\)"):
        af.losses.softmax(jnp.ones((2, 2)), jnp.eye(2), None, np.array([0, 2]))
