"""What hides part of a face: mask, glasses, bar. The hat is in hair.py."""

import numpy as np

from arcface_jax.data.faces.colours import linear, scaled
from arcface_jax.data.faces.scene import EVERYWHERE, Scene, cos_sin
from arcface_jax.data.faces.shapes import norm, paint, pixel_cover
from arcface_jax.data.faces.surface import Surface


def paint_mask(albedo: np.ndarray, scene: Scene, head: Surface) -> None:
    """A pleated mask over mouth and nose, with its straps."""
    u, v, w = head.sphere
    above = v - (0.34 * scene.nuisances.occlusion_size - 0.42)
    edge = above - 0.12 * np.maximum(1.0 - np.square(u * 3.0), 0.0)
    cover = pixel_cover(edge, scene.pixel) * (w > -0.25)
    strap = pixel_cover(np.abs(above + 0.06) - 0.015, scene.pixel)
    paint(albedo, EVERYWHERE, np.maximum(cover, strap), scene.nuisances.occlusion_colour)
    albedo *= 1.0 - (0.12 * (np.sin(v * 38.0) > 0.6)) * cover


def draw_glasses(canvas: np.ndarray, scene: Scene, head: Surface) -> None:
    """Glasses, or sunglasses with larger and dark lenses."""
    identity, nuisances, pixel = scene.identity, scene.nuisances, scene.pixel
    dark = nuisances.occlusion == "sunglasses"
    half_u = 0.20 + 0.06 * nuisances.occlusion_size
    half_v = half_u * (0.82 if dark else 0.72)
    centre_u, centre_v = max(identity.eye_spacing + 0.01, half_u + 0.04), identity.eye_height - 0.02
    frame = scaled(nuisances.occlusion_colour, (0.55, 0.55, 0.55))
    patch = scene.patch((centre_v - 1.2 * half_v, centre_v + 1.2 * half_v), identity.head_width)
    u, v = head.sphere[0][patch], head.sphere[1][patch] - centre_v
    beside = np.abs(u)
    front = head.cover[patch] * (head.sphere[2][patch] > 0.0)
    # A superellipse, between a circle and a square.
    x, y = np.square((beside - centre_u) * (1.0 / half_u)), np.square(v * (1.0 / half_v))
    outside = (np.sqrt(norm(x, y)) - 1.0) * half_v
    lens = pixel_cover(outside, pixel) * front
    if dark:
        paint(canvas, patch, lens * 0.95, (0.09, 0.09, 0.10))
    sheen = np.maximum(1.0 - np.abs(u - np.sign(u) * centre_u + v + 0.12) * 14.0, 0.0) * lens
    paint(canvas, patch, sheen * 0.3, (0.9, 0.93, 0.96))
    rim = np.abs(outside) - 0.022
    # Bridge and arms: what of a level bar lies outside of the lenses.
    bar = np.maximum(np.abs(v - 0.06) - 0.02, -outside)
    rim = pixel_cover(np.minimum(rim, bar), pixel)
    paint(canvas, patch, rim * front * 0.95, frame)


def draw_bar(canvas: np.ndarray, scene: Scene) -> None:
    """A strip across the image, whatever the head does behind it."""
    nuisances = scene.nuisances
    cos, sin = cos_sin(nuisances.occlusion_angle)
    half = 0.08 + 0.16 * nuisances.occlusion_size
    across = np.abs(cos * scene.body_y - sin * scene.body_x - nuisances.occlusion_offset)
    tone = np.maximum(1.0 - 0.4 * np.square(across * (1.0 / half)), 0.0)
    colour = linear(nuisances.occlusion_colour) * tone
    canvas += pixel_cover(across - half, scene.pixel) * (colour - canvas)
