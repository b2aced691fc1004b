"""What is behind the person."""

import numpy as np

from arcface_jax.data.faces.colours import linear
from arcface_jax.data.faces.scene import SUPERSAMPLING, Scene, cos_sin, pixel_centres


def draw_background(scene: Scene) -> np.ndarray:
    """Linear radiance, float32[3, S, S]."""
    nuisances = scene.nuisances
    centres = pixel_centres(scene.size * SUPERSAMPLING)
    x, y = centres[None, :], -centres[:, None]
    cos, sin = cos_sin(nuisances.background_angle)
    level = (1.0 + (nuisances.background_gradient * cos) * x) + (
        nuisances.background_gradient * sin
    ) * y
    if nuisances.background_texture > 0.0:
        waves = np.sin(5.0 * x + 7.0 * sin) * np.sin(6.0 * y + 5.0 * cos)
        level += (0.5 * nuisances.background_texture) * (waves + np.sin(9.0 * (x * cos)))
    return linear(nuisances.background) * np.maximum(level, 0.05)
