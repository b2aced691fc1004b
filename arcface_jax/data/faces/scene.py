"""Where each pixel looks on a turned head, and where the light comes from."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from arcface_jax.data.faces.identity import Identity
from arcface_jax.data.faces.nuisances import Nuisances

SUPERSAMPLING = 2
# Half the image's side. The head fills 3/4 of the height, which leaves room for the hair.
_HALF_VIEW = 1.25

# Rows and columns of an image.
Patch = tuple[slice, slice]
EVERYWHERE: Patch = (slice(None), slice(None))


@dataclasses.dataclass(frozen=True)
class Scene:
    """Where each pixel looks, and where the light comes from.

    ``y`` and ``q``, float32[S, S], are coordinates on the plane of the head: roll, shift, scale and
    the stretch of the face undone, and in ``q`` also the widths of jaw, cheeks and forehead, so
    that in (q, y) the head is an ellipsoid. ``x`` is ``q`` before the latter. ``body_x`` [1, S] and
    ``body_y`` [S, 1] keep the roll, as shoulders do not tilt. ``rotation`` takes head coordinates
    to the camera's. ``pixel`` is a supersampled pixel's side. ``light`` and ``half_way`` are unit
    vectors of the camera's frame; ``direct`` and ``ambient`` linear colours, float32[3, 1, 1].
    """

    identity: Identity
    nuisances: Nuisances
    size: int
    pixel: float
    body_x: np.ndarray
    body_y: np.ndarray
    x: np.ndarray
    y: np.ndarray
    q: np.ndarray
    rotation: tuple[tuple[float, float, float], ...]
    light: tuple[float, float, float]
    half_way: tuple[float, float, float]
    direct: np.ndarray
    ambient: np.ndarray

    def project(self, u: float, v: float, w: float) -> tuple[float, float, float]:
        """Head coordinates to (q, y, depth towards the camera)."""
        a, b, c = self.rotation
        return (
            a[0] * u + a[1] * v + a[2] * w,
            b[0] * u + b[1] * v + b[2] * w,
            c[0] * u + c[1] * v + c[2] * w,
        )

    def to_head(self, vector: tuple[float, float, float]) -> tuple[float, ...]:
        """A direction of the camera's frame in the head's."""
        return tuple(
            sum(row[axis] * part for row, part in zip(self.rotation, vector, strict=True))
            for axis in range(3)
        )

    def depth(self, u: float, v: float) -> float:
        """How far the head's front lies before its middle at (u, v)."""
        rest = 1.0 - (u / self.identity.head_width) ** 2 - v * v
        return self.identity.head_depth * math.sqrt(max(rest, 0.0))

    def box(self, q: tuple[float, float], y: tuple[float, float]) -> Patch:
        """Rows and columns of the pixels that can see this rectangle of the head's plane."""
        middle = 0.5 * (y[0] + y[1])
        width, push = _widths(self.identity, middle, self.nuisances.yaw, maximum=max)
        x_middle = 0.5 * (q[0] + q[1]) * width + push
        half_x = 0.5 * (q[1] - q[0]) * max(width, 1.0) * 1.15
        middle *= self.identity.face_length
        half_y = 0.5 * (y[1] - y[0]) * self.identity.face_length
        cos, sin = cos_sin(self.nuisances.roll)
        centre_x, centre_y = cos * x_middle + sin * middle, cos * middle - sin * x_middle
        reach_x = abs(cos) * half_x + abs(sin) * half_y
        reach_y = abs(cos) * half_y + abs(sin) * half_x
        left = (centre_x - float(self.body_x[0, 0])) / self.pixel
        top = (float(self.body_y[0, 0]) - centre_y) / self.pixel
        return (
            _slice(top, reach_y / self.pixel, self.body_y.size),
            _slice(left, reach_x / self.pixel, self.body_x.size),
        )

    def patch(self, v: tuple[float, float], half_u: float) -> Patch:
        """Rows and columns of the pixels that can see the face where |u| <= half_u."""
        a, b, _ = self.rotation
        near = self.depth(0.0, min(abs(v[0]), abs(v[1])))
        far = self.depth(half_u, max(abs(v[0]), abs(v[1])))
        ends = (a[2] * near, a[2] * far)
        heights = (b[2] * near, b[2] * far)
        spill = abs(b[0]) * half_u
        return self.box(
            (min(ends) - a[0] * half_u, max(ends) + a[0] * half_u),
            (min(heights) + b[1] * v[0] - spill, max(heights) + b[1] * v[1] + spill),
        )

    def outline(self) -> Patch:
        """Rows and columns of the pixels that can see the head."""
        a, b, _ = self.rotation
        half_axes = (self.identity.head_width, 1.0, self.identity.head_depth)
        half_q, half_y = (
            math.hypot(*(part * axis for part, axis in zip(row, half_axes, strict=True)))
            for row in (a, b)
        )
        return self.box((-half_q, half_q), (-half_y, half_y))

    def cropped(self, rows: slice, columns: slice) -> "Scene":
        """The same scene, seen by these pixels only."""
        return dataclasses.replace(
            self,
            body_x=self.body_x[:, columns],
            body_y=self.body_y[rows],
            x=self.x[rows, columns],
            y=self.y[rows, columns],
            q=self.q[rows, columns],
        )


def build_scene(identity: Identity, nuisances: Nuisances, *, size: int) -> Scene:
    """The scene of a picture of ``size`` px."""
    side = size * SUPERSAMPLING
    zoom = _HALF_VIEW / nuisances.scale
    centres = pixel_centres(side)
    body_x = ((centres - 2.0 * nuisances.shift_x) * zoom)[None, :]
    body_y = ((2.0 * nuisances.shift_y - centres) * zoom)[:, None]
    cos, sin = cos_sin(nuisances.roll)
    x = cos * body_x - sin * body_y
    y = (sin / identity.face_length) * body_x + (cos / identity.face_length) * body_y
    widths, push = _widths(identity, y, nuisances.yaw)

    cos_yaw, sin_yaw = cos_sin(nuisances.yaw)
    cos_pitch, sin_pitch = cos_sin(nuisances.pitch)
    cos_up, sin_up = cos_sin(nuisances.light_elevation)
    cos_side, sin_side = cos_sin(nuisances.light_azimuth)
    light = (cos_up * sin_side, sin_up, cos_up * cos_side)
    norm = math.hypot(light[0], light[1], light[2] + 1.0) + 1e-9
    warm = nuisances.light_warmth
    tint = np.array([1.0 + 0.22 * warm, 1.0, 1.0 - 0.32 * warm], np.float32)[:, None, None]
    return Scene(
        identity=identity,
        nuisances=nuisances,
        size=size,
        pixel=2.0 * zoom / side,
        body_x=body_x,
        body_y=body_y,
        x=x,
        y=y,
        q=(x - push) / widths,
        rotation=(
            (cos_yaw, 0.0, sin_yaw),
            (-sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw),
            (-cos_pitch * sin_yaw, -sin_pitch, cos_pitch * cos_yaw),
        ),
        light=light,
        half_way=(light[0] / norm, light[1] / norm, (light[2] + 1.0) / norm),
        direct=tint * nuisances.light_intensity,
        # The light from all sides keeps half of the tint: it is the same light off the walls.
        ambient=(0.5 + 0.5 * tint) * nuisances.light_ambient,
    )


@functools.lru_cache(maxsize=8)
def pixel_centres(side: int) -> np.ndarray:
    """float32[side]: pixel centres from -1 to 1."""
    centres = ((np.arange(side) + 0.5) * (2.0 / side) - 1.0).astype(np.float32)
    # The cache hands the same array to every caller.
    centres.flags.writeable = False
    return centres


def _widths(identity: Identity, y: Any, yaw: float, *, maximum: Any = np.maximum) -> Any:
    """Relative width of the head at height y, and how far the chin leads the turn of the head."""
    # A head that nods does so little that heights in the image serve for heights on the head.
    down, up, cheek = maximum(-y, 0.0), maximum(y, 0.0), (y + 0.2) * 2.2
    down = down * down
    widths = 1.0 + identity.jaw * down
    widths += identity.forehead * (up * up)
    widths += identity.cheekbone * maximum(1.0 - cheek * cheek, 0.0)
    return widths, (0.16 * math.sin(math.radians(yaw))) * down


def _slice(middle: float, reach: float, side: int) -> slice:
    first = min(max(math.floor(middle - reach), 0), side)
    return slice(first, min(max(math.ceil(middle + reach) + 1, first), side))


def cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine of an angle."""
    angle = math.radians(degrees)
    return math.cos(angle), math.sin(angle)
