"""Cheeks and chin, the folds from nose to mouth, freckles and a mole."""

import numpy as np

from arcface_jax.data.faces.colours import scaled
from arcface_jax.data.faces.scene import Patch, Scene
from arcface_jax.data.faces.shapes import dome, norm, paint, pixel_cover, raise_dome, saturate
from arcface_jax.data.faces.surface import Surface


def paint_skin(albedo: np.ndarray, slopes: np.ndarray, scene: Scene, head: Surface) -> None:
    """Relief and blush of chin and cheeks, and the marks of the skin."""
    identity = scene.identity
    patch = scene.patch((-1.0, -0.66), 0.26)
    u, v = head.sphere[0][patch], head.sphere[1][patch]
    raise_dome(slopes, patch, u, v + 0.87, (0.25, 0.20), identity.chin_relief)

    patch = scene.patch((-0.75, 0.08), 0.66)
    u, v = head.sphere[0][patch], head.sphere[1][patch]
    beside, smile = np.abs(u), max(scene.nuisances.smile, 0.0)
    height, half = 1.2 * identity.cheek_relief + 0.06 * smile, (0.27, 0.25)
    above = v + 0.2 - 0.04 * smile
    cheeks = raise_dome(slopes, patch, beside - 0.38, above, half, height, np.sign(u))
    paint(albedo, patch, cheeks * identity.blush, scaled(identity.skin, (1.0, 0.72, 0.70)))
    _paint_folds(albedo, patch, scene, beside, v)
    if identity.freckles > 0.0:
        _paint_freckles(albedo, patch, scene, u, v)
    if identity.mole > 0.0:
        _paint_mole(albedo, scene, head)


def _paint_folds(
    albedo: np.ndarray, patch: Patch, scene: Scene, beside: np.ndarray, v: np.ndarray
) -> None:
    """A line on either side, from the wing of the nose to the corner of the mouth."""
    identity = scene.identity
    top, bottom = identity.nose_height + 0.02, identity.mouth_height - 0.02
    inner, outer = identity.nose_width + 0.04, identity.mouth_width + 0.08
    along = (v - 0.5 * (top + bottom)) * (2.0 / (top - bottom))
    path = 0.5 * (inner + outer) - (0.5 * (outer - inner)) * along
    line = np.maximum(1.0 - np.abs(beside - path) * 20.0, 0.0)
    line *= np.maximum(1.0 - along * along, 0.0)
    fold = 0.1 + 0.45 * identity.wrinkles + 0.35 * max(scene.nuisances.smile, 0.0)
    paint(albedo, patch, line * fold, scaled(identity.skin, (0.62, 0.54, 0.52)))


def _paint_freckles(
    albedo: np.ndarray, patch: Patch, scene: Scene, u: np.ndarray, v: np.ndarray
) -> None:
    identity, phase = scene.identity, scene.identity.freckle_phase
    dots = np.sin(41.0 * u + 9.0 * v + phase) * np.sin(37.0 * v - 11.0 * u + 2.0 * phase)
    dots += 0.5 * np.sin(23.0 * u + 29.0 * v + 3.0 * phase)
    dots = saturate(dots * 2.0 - 0.6) * dome(u, v + 0.12, (0.62, 0.3))
    paint(albedo, patch, dots * identity.freckles, scaled(identity.skin, (0.6, 0.42, 0.3)))


def _paint_mole(albedo: np.ndarray, scene: Scene, head: Surface) -> None:
    identity = scene.identity
    u, v, radius = identity.mole_x, identity.mole_y, identity.mole
    patch = scene.patch((v - 2.0 * radius, v + 2.0 * radius), abs(u) + 2.0 * radius)
    distance = norm(head.sphere[0][patch] - u, head.sphere[1][patch] - v)
    spot = pixel_cover(distance - radius, scene.pixel) * (head.sphere[2][patch] > 0.0)
    paint(albedo, patch, spot, scaled(identity.skin, (0.34, 0.24, 0.2)))
