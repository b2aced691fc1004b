"""The nose: a ridge that stands off the face, so that it moves against it as the head turns."""

import math

import numpy as np

from arcface_jax.data.faces.colours import scaled
from arcface_jax.data.faces.scene import Patch, Scene
from arcface_jax.data.faces.shapes import dome, norm, paint, pixel_cover, raise_dome, saturate

# On the plane of the head, (q, y).
_Point = tuple[float, float]


def paint_nose(albedo: np.ndarray, slopes: np.ndarray, shadow: np.ndarray, scene: Scene) -> None:
    """Ridge, tip and wings, the nostrils, and the shadow they throw on the face."""
    identity = scene.identity
    width, tip_v, out = identity.nose_width, identity.nose_height, identity.nose_protrusion
    root_v = identity.eye_height + 0.06
    ground = scene.depth(0.0, tip_v)
    root_q, root_y, _ = scene.project(0.0, root_v, scene.depth(0.0, root_v))
    tip_q, tip_y, _ = scene.project(0.0, tip_v, ground + out)
    base_q, base_y, _ = scene.project(0.0, tip_v, ground)
    reach = 1.4 * width
    patch = scene.box(
        (min(root_q, base_q, tip_q) - reach, max(root_q, base_q, tip_q) + reach),
        (min(tip_y, base_y) - 0.2, root_y + 0.1),
    )
    _raise_ridge(slopes, patch, scene, root=(root_q, root_y), tip=(tip_q, tip_y))
    dq, dy = scene.q[patch] - tip_q, scene.y[patch] - tip_y
    raise_dome(slopes, patch, dq, dy, (0.78 * width, 0.11), 0.45 * out)
    _paint_wings(albedo, slopes, patch, scene, base=(base_q, base_y), tip=(tip_q, tip_y))
    _throw_shadow(shadow, scene, base=(base_q, base_y))


def _raise_ridge(
    slopes: np.ndarray, patch: Patch, scene: Scene, *, root: _Point, tip: _Point
) -> None:
    """The ridge from between the eyes to the tip, wider and higher towards it."""
    identity = scene.identity
    way_q, way_y = tip[0] - root[0], tip[1] - root[1]
    length = max(math.hypot(way_q, way_y), 0.1)
    unit_q, unit_y = way_q / length, way_y / length
    dq, dy = scene.q[patch] - root[0], scene.y[patch] - root[1]
    along = (dq * unit_q + dy * unit_y) * (1.0 / length)
    across = dq * unit_y - dy * unit_q
    inner = saturate(along.copy())
    bridge = identity.nose_bridge
    half = bridge + (0.85 * identity.nose_width - bridge) * (inner * inner)
    ratio = across / half
    ridge = np.maximum(1.0 - ratio * ratio, 0.0)
    ridge *= saturate(along * 4.0 + 0.5)
    ridge *= saturate((1.12 - along) * 7.0)
    ridge *= 0.35 + 0.65 * inner
    ridge *= ratio
    ridge /= half
    ridge *= 1.4 * identity.nose_protrusion
    slopes[0][patch] += ridge * unit_y
    slopes[1][patch] -= ridge * unit_q


def _paint_wings(
    albedo: np.ndarray, slopes: np.ndarray, patch: Patch, scene: Scene, *, base: _Point, tip: _Point
) -> None:
    """Wings and nostrils, in pairs left and right of a middle nearer to the face than the tip."""
    identity, q, y = scene.identity, scene.q[patch], scene.y[patch]
    width = identity.nose_width
    spread = width * scene.rotation[0][0]
    dq = q - (base[0] + 0.25 * (tip[0] - base[0]))
    dy = y - (base[1] + 0.25 * (tip[1] - base[1]))
    side, dq = np.sign(dq), np.abs(dq)
    half, height = (0.42 * width, 0.075), 0.2 * identity.nose_protrusion
    raise_dome(slopes, patch, dq - 0.72 * spread, dy + 0.01, half, height, side)
    shade = 0.7 * dome(dq - 1.1 * spread, dy + 0.01, (0.06, 0.10))
    dq, dy = q - 0.5 * (base[0] + tip[0]), y - 0.5 * (base[1] + tip[1])
    np.maximum(shade, 0.6 * dome(dq, dy + 0.11, (1.1 * width, 0.065)), out=shade)
    paint(albedo, patch, shade, scaled(identity.skin, (0.62, 0.52, 0.50)))
    # Seen from below the nostrils open; from above the tip hides them.
    seen = 0.4 + 0.5 * identity.nose_upturn + 0.03 * scene.nuisances.pitch
    height = 0.03 * min(max(seen, 0.3), 1.4)
    dq = (np.abs(dq) - 0.45 * spread) * (1.0 / (0.30 * width))
    hole = norm(dq, (dy + 0.075) * (1.0 / height)) - 1.0
    hole = pixel_cover(hole, scene.pixel / height)
    paint(albedo, patch, hole * 0.85, scaled(identity.skin, (0.30, 0.22, 0.21)))


def _throw_shadow(shadow: np.ndarray, scene: Scene, *, base: _Point) -> None:
    """The shadow on the face, away from the light."""
    light_x, light_y, _ = scene.light
    fall = 0.75 * scene.identity.nose_protrusion
    q, y = base[0] - light_x * fall, base[1] - 0.05 - max(light_y, 0.0) * fall
    reach = 1.3 * scene.identity.nose_width
    patch = scene.box((q - reach, q + reach), (y - 0.17, y + 0.17))
    spot = dome(scene.q[patch] - q, scene.y[patch] - y, (reach, 0.17))
    shadow[patch] -= spot * (0.7 * min(1.0, math.hypot(light_x, light_y)))
