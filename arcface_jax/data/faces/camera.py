"""From radiance to an 8-bit picture, with blur and noise."""

import math

import numpy as np

from arcface_jax.data.faces.scene import SUPERSAMPLING, Scene

# Blur is stated for this size, so that one value pictures the same photograph at every size.
_REFERENCE_SIZE = 112


def develop(canvas: np.ndarray, scene: Scene) -> np.ndarray:
    """Linear radiance [3, S, S] to a picture, uint8[size, size, 3]."""
    nuisances, step = scene.nuisances, SUPERSAMPLING
    rows = canvas[:, ::step] + canvas[:, 1::step]
    picture = rows[:, :, ::step] + rows[:, :, 1::step]
    picture *= 1.0 / step**2
    sigma = nuisances.blur * scene.size / _REFERENCE_SIZE
    if sigma > 0.0:
        picture = _blurred(picture, sigma)
    picture = np.sqrt(np.maximum(picture, 0.0))
    picture *= 255.0
    if nuisances.noise > 0.0:
        rng = np.random.default_rng(nuisances.noise_seed)
        picture += nuisances.noise * rng.standard_normal(picture.shape, np.float32)
    picture += 0.5
    picture = np.minimum(np.maximum(picture, 0.0), 255.0)
    return np.ascontiguousarray(picture.transpose(1, 2, 0).astype(np.uint8))


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of [3, H, W] along both sides; the edge pixels are repeated."""
    radius = max(1, math.ceil(2.5 * sigma))
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = weights[0] + 2.0 * sum(weights[1:])
    for _ in range(2):
        length = picture.shape[1]
        padded = np.empty((3, length + 2 * radius, picture.shape[2]), np.float32)
        padded[:, :radius] = picture[:, :1]
        padded[:, radius : radius + length] = picture
        padded[:, radius + length :] = picture[:, -1:]
        blurred = picture * (weights[0] / total)
        for k in range(1, radius + 1):
            pair = padded[:, radius - k : radius - k + length]
            pair = pair + padded[:, radius + k : radius + k + length]
            pair *= weights[k] / total
            blurred += pair
        picture = blurred.transpose(0, 2, 1)
    return picture
