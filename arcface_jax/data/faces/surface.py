"""Curved surfaces: where the rays meet them, and what the light makes of them."""

import dataclasses
import math
from typing import Any

import numpy as np

from arcface_jax.data.faces.colours import Colour, linear
from arcface_jax.data.faces.scene import Scene
from arcface_jax.data.faces.shapes import pixel_cover


@dataclasses.dataclass(frozen=True)
class Surface:
    """Where the rays meet an ellipsoid: points on its unit sphere [3, h, w], pixel cover [h, w]."""

    sphere: np.ndarray
    cover: np.ndarray


def cast(
    scene: Scene,
    x: np.ndarray,
    y: np.ndarray,
    *,
    axes: tuple[float, float, float],
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Surface:
    """Meets the rays along the camera's axis with a turned ellipsoid, in closed form.

    With e1, e2, e3 the camera's axes in coordinates where the ellipsoid is the unit sphere, the
    point x e1 + y e2 + t e3 lies on it where t = sqrt(d) - b, b = (x e1 + y e2) . e3 / |e3|^2 and
    d = b^2 - (|x e1 + y e2|^2 - 1) / |e3|^2.
    """
    shift_x, shift_y, _ = scene.project(*centre)
    if shift_x or shift_y:
        x, y = x - shift_x, y - shift_y
    e1, e2, e3 = (
        tuple(part / axis for part, axis in zip(row, axes, strict=True)) for row in scene.rotation
    )
    square = _dot(e3, e3)
    b1, b2 = _dot(e1, e3) / square, _dot(e2, e3) / square
    k11 = _dot(e1, e1) / square - b1 * b1
    k12 = _dot(e1, e2) / square - b1 * b2
    k22 = _dot(e2, e2) / square - b2 * b2
    inside = k11 * x
    inside += (2.0 * k12) * y
    inside *= x
    inside += k22 * (y * y)
    inside -= 1.0 / square
    # At the outline the gradient of `inside` is about this steep.
    slope = 2.0 * math.sqrt(0.5 * (k11 + k22) / square)
    cover = pixel_cover(inside * (1.0 / slope), scene.pixel)
    depth = np.sqrt(np.maximum(-inside, 0.0))
    depth -= b1 * x
    depth -= b2 * y
    sphere = np.empty((3, *x.shape), np.float32)
    for axis in range(3):
        point = sphere[axis]
        np.multiply(x, e1[axis], out=point)
        point += y * e2[axis]
        point += depth * e3[axis]
    return Surface(sphere, cover)


def shaded(
    normal: np.ndarray, scene: Scene, *, gloss: float, shadow: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What the light makes of a surface: factor of its albedo [3, h, w], and highlights [h, w].

    ``normal``: [3, h, w], in the head's frame, of any length.
    """
    inverse = 1.0 / np.sqrt(_dot(normal, normal) + 1e-9)
    # Light reaches a little beyond the terminator: skin and hair are not plaster.
    wrap = 0.2
    diffuse = _dot(scene.to_head(scene.light), normal) * inverse
    diffuse += wrap
    diffuse = np.maximum(diffuse, 0.0)
    diffuse *= 1.0 / (1.0 + wrap)
    highlight = np.maximum(_dot(scene.to_head(scene.half_way), normal), 0.0)
    highlight *= inverse
    for _ in range(4):
        highlight *= highlight
    if shadow is not None:
        diffuse *= shadow
    highlight *= diffuse
    highlight *= gloss * scene.nuisances.light_intensity
    sky = normal[1] * inverse
    sky *= 0.2
    sky += 0.8
    factor = scene.direct * diffuse
    factor += scene.ambient * sky
    return factor, highlight


def lit(colour: Colour, scene: Scene, facing: float) -> np.ndarray:
    """A flat surface's radiance, float32[3, 1, 1]; ``facing`` is its cosine to the light."""
    return linear(colour) * (scene.direct * facing + scene.ambient)


def _dot(first: Any, second: Any) -> Any:
    """Inner product of triples of numbers or arrays."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
