"""The cross entropy of one class against the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arcface_jax.losses import cross_entropy


def test_tiny_losses_keep_their_digits():
    with jax.enable_x64(True):
        got = cross_entropy(jnp.array([[-jnp.inf, -46.0]]), jnp.array([46.8]))
        assert float(got[0]) == pytest.approx(np.exp(-92.8), rel=1e-12)


def test_losses_are_not_capped():
    got = cross_entropy(jnp.array([[-jnp.inf, 1000.0]]), jnp.array([-1000.0]))
    assert float(got[0]) == 2000.0


def test_without_another_class_loss_and_gradient_are_zero():
    negatives, target = jnp.array([[-jnp.inf]]), jnp.array([3.0])
    assert float(cross_entropy(negatives, target)[0]) == 0.0
    grads = jax.grad(lambda n, t: cross_entropy(n, t).sum(), argnums=(0, 1))(negatives, target)
    assert all(float(jnp.abs(g).sum()) == 0.0 for g in grads)


def test_gradient_is_softmax_minus_one_hot(rng):
    logits = rng.normal(size=(5, 7)) * 3
    labels = rng.integers(0, 7, 5)
    hot = np.eye(7, dtype=bool)[labels]

    def total(z):
        own = jnp.sum(jnp.where(hot, z, 0.0), axis=1)
        return cross_entropy(jnp.where(hot, -jnp.inf, z), own).sum()

    with jax.enable_x64(True):
        got = jax.grad(total)(jnp.asarray(logits))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(got, p - hot, atol=1e-14)
