"""Batches of any size, and how far from float64 a head may be."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from arcface_jax import testing

# Value and gradient tolerances of the golden file.
CE, GRADIENT = 5e-6, 2e-5


def large_batch(margin, *, rows, classes, dim=16, dtype=jnp.float32):
    """As testing.make_batch, of any size, with rows near to and far from their centres."""
    rng = np.random.default_rng(0)
    k = margin.centers_per_class
    w = rng.normal(size=(classes, dim) if k == 1 else (classes, k, dim))
    own = w if k == 1 else w[:, 0]
    labels = rng.integers(0, classes, rows)
    x = rng.normal(size=(rows, dim))
    x[: rows // 3] += 2.0 * own[labels[: rows // 3]]
    x[rows // 3 : rows // 2] -= 2.0 * own[labels[rows // 3 : rows // 2]]
    small = testing.make_batch(margin, classes=classes, warm=False)
    scale = 32.0 if margin.has_scale else None
    return dataclasses.replace(
        small,
        embeddings=jnp.asarray(10.0 * x, dtype),
        centers=jnp.asarray(w, dtype),
        labels=jnp.asarray(labels, jnp.int32),
        scale=scale,
        bias=None if small.bias is None else small.bias.astype(dtype),
        params=margin.init_params(classes, scale=scale),
        state=margin.init_state(classes, dim) if margin.keeps_state else None,
    )


def allowed_difference(losses, batch, *, steepness=1.0):
    """Of float32 losses to those of float64; without a scale the embedding's length is it.

    The golden file's tolerance is for targets that fall up to three times as fast as the cosine.
    """
    scale = batch.scale
    if scale is None:
        scale = np.linalg.norm(np.asarray(batch.embeddings), axis=1)
    return CE * np.maximum(np.abs(losses), 0.05 * scale * max(1.0, steepness / 3.0))
