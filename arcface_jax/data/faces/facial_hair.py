"""Beard and moustache."""

import numpy as np

from arcface_jax.data.faces.colours import mix
from arcface_jax.data.faces.scene import Scene
from arcface_jax.data.faces.shapes import paint, saturate
from arcface_jax.data.faces.surface import Surface


def paint_facial_hair(albedo: np.ndarray, scene: Scene, head: Surface) -> None:
    """Beard and moustache, where the person has them."""
    identity = scene.identity
    colour = mix(identity.hair, (0.17, 0.11, 0.08), 0.3)
    if identity.beard > 0.0:
        patch = scene.patch((-1.0, identity.beard_line + 0.25), 0.9 * identity.head_width)
        u, v = head.sphere[0][patch], head.sphere[1][patch]
        # Everything low on the face but the lips and the cheeks.
        bare = 1.0 - np.square(u * (1.0 / 0.50)) - np.square((v + 0.36) * (1.0 / 0.44))
        below = v - identity.beard_line - 0.25 * np.abs(u)
        region = saturate(0.4 - np.maximum(bare * 3.0, below * 7.0))
        region *= head.sphere[2][patch] > -0.3
        paint(albedo, patch, region * identity.beard, colour)
    if identity.moustache > 0.0:
        lip = identity.mouth_height + identity.upper_lip
        middle = 0.55 * lip + 0.45 * (identity.nose_height - 0.06)
        reach = identity.mouth_width + 0.05
        patch = scene.patch((middle - 0.2, middle + 0.1), reach + 0.05)
        u, v = head.sphere[0][patch], head.sphere[1][patch]
        droop = np.square(u * (1.0 / reach))
        away = np.abs(v - middle + (0.09 - 0.05 * scene.nuisances.smile) * droop)
        band = saturate((0.055 * (1.1 - droop) - away) * 30.0 + 0.3)
        band *= droop < 1.1
        paint(albedo, patch, band * identity.moustache, colour)
