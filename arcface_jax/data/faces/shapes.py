"""Shapes on the image and on the face: the pixels they cover, their colour and their relief."""

from typing import Any

import numpy as np

from arcface_jax.data.faces.colours import Colour, linear
from arcface_jax.data.faces.scene import Patch


def pixel_cover(outside: Any, pixel: float) -> np.ndarray:
    """Share of each pixel within a shape whose signed distance is ``outside``."""
    cover = outside * (-1.0 / pixel)
    cover += 0.5
    return saturate(cover)


def saturate(values: np.ndarray) -> np.ndarray:
    """Clips to [0, 1] in place."""
    np.maximum(values, 0.0, out=values)
    return np.minimum(values, 1.0, out=values)


def norm(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Length of the vectors (dx, dy)."""
    # np.hypot guards against overflow at ten times the cost.
    return np.sqrt(dx * dx + dy * dy)


def dome(dx: np.ndarray, dy: np.ndarray, half: tuple[float, float]) -> np.ndarray:
    """1 - (dx / a)^2 - (dy / b)^2, and 0 outside of that ellipse."""
    x, y = dx * (1.0 / half[0]), dy * (1.0 / half[1])
    x *= x
    y *= y
    x += y
    return np.maximum(1.0 - x, 0.0)


def raise_dome(
    slopes: np.ndarray,
    patch: Patch,
    dx: np.ndarray,
    dy: np.ndarray,
    half: tuple[float, float],
    height: float,
    side: Any = 1.0,
) -> np.ndarray:
    """Raises the bump height * dome^2; ``side`` is -1 where dx runs against u. Returns the dome."""
    bump = dome(dx, dy, half)
    slopes[0][patch] += bump * dx * (side * (4.0 * height / half[0] ** 2))
    slopes[1][patch] += bump * dy * (4.0 * height / half[1] ** 2)
    return bump


def paint(target: np.ndarray, patch: Patch, cover: Any, colour: Colour) -> None:
    """Lays a colour (sRGB) over linear values [3, S, S]."""
    part = target[:, *patch]
    change = linear(colour) - part
    change *= cover
    part += change
