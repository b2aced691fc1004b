"""Neck, shoulders and ears."""

import math

import numpy as np

from arcface_jax.data.faces.colours import linear, scaled
from arcface_jax.data.faces.scene import Scene
from arcface_jax.data.faces.shapes import dome, norm, pixel_cover
from arcface_jax.data.faces.surface import lit


def draw_body(canvas: np.ndarray, scene: Scene) -> None:
    """Neck and clothes."""
    identity = scene.identity
    rows = slice(int(np.searchsorted(-scene.body_y[:, 0], 0.4)), None)
    x, y = scene.body_x, scene.body_y[rows]
    part = canvas[:, rows]
    half = identity.neck_width * (1.0 + 0.25 * np.square(y + 0.95))
    ratio = x / half
    nx = np.minimum(np.maximum(ratio, -1.0), 1.0)
    light_x, _, light_z = scene.light
    # The chin keeps much of the light from the neck.
    diffuse = np.maximum(light_x * nx + light_z * np.sqrt(1.0 - nx * nx), 0.0) * 0.6
    neck = scene.direct * diffuse
    neck += scene.ambient * 0.7
    neck *= linear(identity.skin)
    neck -= part
    neck *= pixel_cover((np.abs(ratio) - 1.0) * half, scene.pixel)
    part += neck
    shoulders = np.square(x * (1.0 / 1.35)) + np.square((y + 1.95) * (1.0 / 0.88)) - 1.0
    collar = 1.0 - (
        np.square(x * (1.0 / (identity.neck_width + 0.06))) + np.square((y + 1.08) * (1.0 / 0.22))
    )
    cloth = lit(scene.nuisances.clothes, scene, 0.7) * (1.0 + (0.35 * light_x) * x) - part
    cloth *= pixel_cover(np.maximum(0.45 * shoulders, 0.15 * collar), scene.pixel)
    part += cloth


def draw_ears(canvas: np.ndarray, scene: Scene, *, near: bool) -> None:
    """Ears stand behind the head's outline, unless its turn brings one forward (``near``)."""
    identity = scene.identity
    if identity.hair_length > 0.0 and identity.hair_drop >= 1.0:
        return
    turn = math.sin(math.radians(scene.nuisances.yaw))
    light_x, light_y, light_z = scene.light
    height = identity.ear_size
    for side in (-1.0, 1.0):
        q, y, depth = scene.project(
            side * (identity.head_width + 0.3 * identity.ear_spread), identity.ear_height, -0.12
        )
        if (depth > 0.04) != near:
            continue
        toward = max(-side * turn, 0.0)
        half = height * (0.36 + 0.3 * toward) + 0.5 * identity.ear_spread * (1.0 - toward)
        reach = 1.25 * half
        patch = scene.box((q - reach, q + reach), (y - 1.1 * height, y + 1.1 * height))
        dy = scene.y[patch] - y
        # The top leans outwards.
        dx = scene.q[patch] - q - (side * 0.18) * dy
        outside = (norm(dx * (1.0 / half), dy * (1.0 / height)) - 1.0) * half
        facing = 0.2 + 0.4 * side * light_x * (1.0 - toward) + 0.6 * light_z + 0.15 * light_y
        facing = max(facing, 0.0)
        cover = pixel_cover(outside, scene.pixel)
        part = canvas[:, *patch]
        skin = lit(scaled(identity.skin, (1.0, 0.93, 0.92)), scene, facing)
        part += cover * (skin - part)
        hollow = dome(dx + side * 0.1 * half, dy - 0.12 * height, (0.72 * half, 0.7 * height))
        dark = lit(scaled(identity.skin, (0.62, 0.48, 0.46)), scene, 0.7 * facing)
        part += np.minimum(cover, hollow) * (dark - part)
