"""Lips, teeth, and the dark between them."""

import numpy as np

from arcface_jax.data.faces.colours import scaled
from arcface_jax.data.faces.scene import Scene
from arcface_jax.data.faces.shapes import paint, pixel_cover
from arcface_jax.data.faces.surface import Surface


def paint_mouth(albedo: np.ndarray, scene: Scene, head: Surface) -> None:
    """Lips, and what an open mouth shows."""
    identity = scene.identity
    smile, opened = scene.nuisances.smile, scene.nuisances.mouth_open
    half = identity.mouth_width * (1.0 + 0.16 * smile) * (1.0 - 0.10 * opened)
    middle = identity.mouth_height
    patch = scene.patch((middle - 0.30, middle + 0.20), 1.1 * half)
    x, v = head.sphere[0][patch] * (1.0 / half), head.sphere[1][patch] - middle
    square = x * x
    arc = np.maximum(1.0 - square, 0.0)
    within = square < 1.0
    line = (identity.mouth_curve + 0.085 * smile) * (square - 0.35)
    thin = 1.0 - 0.2 * max(smile, 0.0)
    dip = identity.cupid_bow * np.maximum(1.0 - np.abs(x) * 3.0, 0.0)
    upper_edge, lower_edge = line, line
    if opened > 0.0:
        upper_edge, lower_edge = line + (0.05 * opened) * arc, line - (0.11 * opened) * arc
    top = upper_edge + (identity.upper_lip * thin) * arc * (1.0 - dip)
    bottom = lower_edge - (identity.lower_lip * thin) * arc * (0.6 + 0.4 * arc)

    shade = np.maximum(1.0 - np.abs(v - bottom + 0.05) * 20.0, 0.0) * arc
    paint(albedo, patch, shade * 0.45, scaled(identity.skin, (0.7, 0.62, 0.6)))
    above = v - top
    lips = pixel_cover(np.maximum(above, bottom - v), scene.pixel) * within
    paint(albedo, patch, lips, identity.lips)
    # The upper lip faces down, so it is the darker one.
    upper = pixel_cover(np.maximum(above, upper_edge - v), scene.pixel) * within
    paint(albedo, patch, upper * 0.5, scaled(identity.lips, (0.66, 0.58, 0.58)))
    seam = np.abs(v - upper_edge)
    if opened > 0.0:
        inside = pixel_cover(np.maximum(v - upper_edge, lower_edge - v), scene.pixel) * within
        paint(albedo, patch, inside, (0.16, 0.06, 0.06))
        teeth = np.minimum(pixel_cover(upper_edge - 0.055 - v, scene.pixel), inside) * (
            square < 0.7
        )
        paint(albedo, patch, teeth * min(1.0, 3.0 * opened), (0.88, 0.85, 0.80))
        seam = np.minimum(seam, np.abs(v - lower_edge))
    seam = pixel_cover(seam - 0.012, scene.pixel) * (square < 1.1)
    paint(albedo, patch, seam * 0.85, scaled(identity.lips, (0.4, 0.3, 0.3)))
