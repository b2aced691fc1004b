"""Hair or a hat: a shell around the head, and what hangs behind it."""

import dataclasses
import math

import numpy as np

from arcface_jax.data.faces.colours import linear
from arcface_jax.data.faces.identity import Identity
from arcface_jax.data.faces.scene import Scene
from arcface_jax.data.faces.shapes import norm, pixel_cover, saturate
from arcface_jax.data.faces.surface import Surface, cast, lit, shaded


@dataclasses.dataclass(frozen=True)
class Hair:
    """Hair or a hat, in the pixel rows that can see it in front of the head.

    ``surface``: the shell it lies on. ``above``: how far above the hair line, and ``cover``:
    0..1, both [h, S].
    """

    rows: slice
    surface: Surface
    above: np.ndarray
    cover: np.ndarray

    def shade(self, scene: Scene) -> np.ndarray:
        """How far each pixel of the head lies in the shade of the hair, float32[S, S], 0..1."""
        shade = np.zeros(scene.y.shape, np.float32)
        fall = max(1, round(0.07 / scene.pixel))
        target = shade[self.rows.start + fall : self.rows.stop + fall]
        target[:] = self.cover[: len(target)]
        return shade


def hair_shell(scene: Scene) -> Hair | None:
    """Where hair or a hat is; None where there is neither."""
    identity, nuisances = scene.identity, scene.nuisances
    hat = nuisances.occlusion == "hat"
    if identity.hair_density <= 0.0 and not hat:
        return None
    top, side = identity.hair_top, identity.hair_side
    if hat:
        top, side = max(top, 0.10), max(side, 0.05)
    lowest = 0.0 if hat else max(identity.hair_line - identity.hair_drop - 0.4, -1.1)
    rows, _ = scene.box((-1.1, 1.1), (lowest - 0.1, 1.5))
    x, y = scene.q[rows], scene.y[rows]
    if identity.hair_length == 0.0:
        # Short hair gets thinner towards the ears.
        x = x * (1.0 + (side / identity.head_width) * saturate(0.5 - 2.5 * y))
    if _is_wavy(identity):
        wave = np.sin(y[:, :1] * (9.0 + 8.0 * identity.hair_waviness))
        x = x * (1.0 + (0.045 * identity.hair_waviness**2) * wave)
    axes = (identity.head_width + side, 1.0 + top, identity.head_depth + 0.06)
    surface = cast(scene, x, y, axes=axes, centre=(0.0, 0.02, -0.04))
    above = _above_hair_line(scene, *surface.sphere)
    cover = pixel_cover(-above, scene.pixel if hat else max(scene.pixel, 0.04))
    cover *= surface.cover
    if not hat:
        cover *= identity.hair_density
    return Hair(rows, surface, above, cover)


def _is_wavy(identity: Identity) -> bool:
    return identity.hair_waviness > 0.4 and identity.hair_density == 1.0


def _above_hair_line(scene: Scene, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How far a point of the unit sphere lies above the hair line, > 0 under hair."""
    identity = scene.identity
    # Behind the ears x turns back, so the way round the head goes on from 1 to 2.
    behind = z < 0.0
    way = np.abs(x)
    way += behind * (2.0 - 2.0 * way)
    if scene.nuisances.occlusion == "hat":
        brim = 0.60 - 0.22 * scene.nuisances.occlusion_size
        return y - brim + 0.10 * np.minimum(way, 1.2)
    bare = identity.hair_temple
    side = saturate((way - bare) * (1.0 / (1.0 - bare)))
    above = y - identity.hair_line
    above += identity.hair_drop * (side * side)
    above += identity.hair_peak * np.maximum(1.0 - np.square(way * (1.0 / bare)), 0.0)
    above += 0.30 * saturate((way - 1.08) * 4.0)
    swept = identity.hair_sweep * (x - identity.hair_part)
    swept = np.minimum(np.maximum(swept, -0.30), 0.12)
    above -= swept * (1.0 - side)
    if _is_wavy(identity):
        above -= (0.04 * identity.hair_waviness) * np.sin(17.0 * x + 5.0 * identity.hair_part)
    return above


def draw_hair(canvas: np.ndarray, scene: Scene, hair: Hair | None) -> None:
    """What of the hair, or the hat, lies in front of the head."""
    if hair is None:
        return
    identity, nuisances = scene.identity, scene.nuisances
    sphere = hair.surface.sphere
    if nuisances.occlusion == "hat":
        colour, gloss = nuisances.occlusion_colour, 0.02
        tone = 1.0 - 0.45 * (np.abs(hair.above - 0.14) < 0.02)
    else:
        colour, gloss = identity.hair, identity.hair_gloss
        # Strands run from the parting down.
        turn = (sphere[0] - 0.5 * identity.hair_part) / (0.75 + 0.6 * np.abs(sphere[2]))
        tone = np.sin(turn * 46.0 + 8.0 * identity.hair_waviness * sphere[1])
        tone *= 0.14
        tone += 0.9
        tone *= saturate(0.7 + hair.above * 1.6)
    # Nearly the normals of the shell: it is a little flatter at the sides than a sphere.
    factor, highlight = shaded(sphere, scene, gloss=gloss)
    factor *= tone
    factor *= linear(colour)
    factor += highlight
    part = canvas[:, hair.rows]
    factor -= part
    factor *= hair.cover
    part += factor


def draw_hair_behind(canvas: np.ndarray, scene: Scene, hair: Hair | None) -> None:
    """What of the hair lies behind the head: sides, long hair, a bun."""
    identity = scene.identity
    if hair is None or identity.hair_density < 1.0:
        return
    colour = lit(identity.hair, scene, 0.4)
    # Fills the gap between the head and the sides of the shell.
    lowest = identity.hair_line - identity.hair_drop
    part = canvas[:, hair.rows]
    part += (hair.surface.cover * pixel_cover(lowest - scene.y[hair.rows], 0.2)) * (colour - part)
    if identity.hair_length > 0.0:
        half_x = identity.head_width + identity.hair_side + 0.05
        top, bottom, corner = 0.55, -identity.hair_length, 0.35
        # The back of the head goes the other way as the face turns.
        x = scene.x + 0.25 * math.sin(math.radians(scene.nuisances.yaw))
        if _is_wavy(identity):
            x += (0.05 * identity.hair_waviness) * np.sin(scene.y[:, :1] * 11.0)
        dx = np.maximum(np.abs(x) - (half_x - corner), 0.0)
        dy = np.abs(scene.y - 0.5 * (top + bottom)) - (0.5 * (top - bottom) - corner)
        outside = norm(dx, np.maximum(dy, 0.0)) - corner
        canvas += pixel_cover(outside, scene.pixel) * (colour - canvas)
    if identity.bun > 0.0:
        x, y, _ = scene.project(0.0, 1.0 + identity.hair_top + 0.5 * identity.bun, -0.25)
        reach = 1.2 * identity.bun
        patch = scene.box((x - reach, x + reach), (y - reach, y + reach))
        outside = norm(scene.q[patch] - x, scene.y[patch] - y) - identity.bun
        part = canvas[:, *patch]
        part += pixel_cover(outside, scene.pixel) * (1.5 * colour - part)
