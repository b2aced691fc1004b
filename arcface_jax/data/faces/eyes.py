"""Sockets, eyes and brows, both sides at once."""

import math

import numpy as np

from arcface_jax.data.faces.colours import scaled
from arcface_jax.data.faces.scene import Patch, Scene, cos_sin
from arcface_jax.data.faces.shapes import norm, paint, pixel_cover, raise_dome
from arcface_jax.data.faces.surface import Surface


def paint_eyes(
    albedo: np.ndarray, slopes: np.ndarray, scene: Scene, head: Surface
) -> tuple[Patch, np.ndarray]:
    """Sockets, eyes and brows, both sides at once; returns where the eyes glint, and how much."""
    identity, nuisances = scene.identity, scene.nuisances
    skin, width, pixel = identity.skin, identity.eye_width, scene.pixel
    height = identity.eye_height
    patch = scene.patch(
        (height - 0.16, height + identity.brow_gap + 0.16), identity.eye_spacing + 0.26
    )
    u, v = head.sphere[0][patch], head.sphere[1][patch]
    side, outwards, up = np.sign(u), np.abs(u) - identity.eye_spacing, v - height
    depth = 0.015 + identity.eye_depth
    socket = raise_dome(slopes, patch, outwards, up - 0.03, (0.26, 0.18), -depth, side)
    paint(albedo, patch, socket * (5.0 * identity.eye_depth), scaled(skin, (0.66, 0.58, 0.56)))

    cos, sin = cos_sin(identity.eye_tilt)
    x, y = cos * outwards + sin * up, cos * up - sin * outwards
    ratio = x * (1.0 / width)
    arc = np.maximum(1.0 - ratio * ratio, 0.0)
    within = arc > 0.0
    tall = identity.eye_openness * width
    # A shut eye's lids meet a little below its middle.
    upper = tall * (1.15 * nuisances.eye_open - 0.35)
    lower = tall * (0.45 + 0.25 * min(nuisances.eye_open, 1.0))
    lower *= 1.0 - 0.35 * max(nuisances.smile, 0.0)
    upper_lid = (upper * arc) * (1.0 - 0.12 * ratio)
    lower_lid = np.minimum(-lower * arc, upper_lid)
    below = y - upper_lid
    crease = pixel_cover(np.abs(below - 0.06) - 0.012, pixel) * arc
    paint(albedo, patch, crease * (0.75 * identity.lid_crease), scaled(skin, (0.45, 0.36, 0.34)))
    opening = pixel_cover(np.maximum(below, lower_lid - y), pixel) * within
    paint(albedo, patch, opening, (0.84, 0.82, 0.80))
    gaze_x, gaze_y = 0.35 * width * nuisances.gaze_x, 0.25 * width * nuisances.gaze_y + 0.12 * tall
    radius = identity.iris_size
    look_x, look_y = x - gaze_x * side, y - gaze_y
    distance = norm(look_x, look_y)
    iris = np.minimum(pixel_cover(distance - radius, pixel), opening)
    paint(albedo, patch, iris, identity.iris)
    pupil = np.minimum(pixel_cover(distance - 0.42 * radius, pixel), opening)
    paint(albedo, patch, pupil, (0.03, 0.03, 0.03))
    # The upper lid shades the ball.
    shade = np.maximum(0.45 + below * 10.0, 0.0) * opening
    paint(albedo, patch, shade, (0.2, 0.15, 0.14))
    lash = np.abs(below) - (0.008 + 0.014 * identity.lashes)
    lash = np.minimum(lash, np.abs(y - lower_lid) - 0.004)
    lash = pixel_cover(lash, pixel) * within
    paint(albedo, patch, lash * 0.85, (0.10, 0.07, 0.07))

    _paint_brows(albedo, patch, scene, outwards, up)

    # Both eyes mirror the same light, so the glints do not mirror each other.
    glint = norm(look_x - 0.35 * radius * side, look_y - 0.4 * radius)
    glint = np.minimum(pixel_cover(glint - 0.28 * radius, pixel), iris)
    return patch, glint * (0.7 * nuisances.light_intensity)


def _paint_brows(
    albedo: np.ndarray, patch: Patch, scene: Scene, outwards: np.ndarray, up: np.ndarray
) -> None:
    """Brows, in coordinates from the eye's centre."""
    identity, raised = scene.identity, scene.nuisances.brow_raise
    # A frown pulls the inner ends down.
    slope = math.tan(math.radians(identity.brow_slope)) + 0.35 * max(-raised, 0.0)
    along = outwards - 0.015
    ratio = along * (1.0 / identity.brow_width)
    path = slope * along + identity.brow_arch * (0.5 - np.square(ratio - 0.25))
    away = np.abs(up - (identity.brow_gap + 0.06 * raised) - path)
    away -= identity.brow_thickness * np.minimum(1.0, 1.25 - 1.25 * ratio)
    brow = pixel_cover(away, 1.3 * scene.pixel) * (np.abs(ratio) < 1.0)
    paint(albedo, patch, brow * 0.9, identity.brow)
