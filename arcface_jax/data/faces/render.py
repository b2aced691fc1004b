"""A picture of a person."""

import numpy as np

from arcface_jax.data.faces.background import draw_background
from arcface_jax.data.faces.body import draw_body, draw_ears
from arcface_jax.data.faces.camera import develop
from arcface_jax.data.faces.hair import draw_hair, draw_hair_behind, hair_shell
from arcface_jax.data.faces.head import draw_head, head_surface
from arcface_jax.data.faces.identity import Identity
from arcface_jax.data.faces.nuisances import Nuisances
from arcface_jax.data.faces.occlusions import draw_bar, draw_glasses
from arcface_jax.data.faces.scene import build_scene

_SIZES = (16, 256)


def render(identity: Identity, nuisances: Nuisances, *, size: int) -> np.ndarray:
    """The picture of a person, uint8[size, size, 3], the same for the same arguments.

    Args:
      identity: who.
      nuisances: how.
      size: side in px, 16..256.

    Raises:
      ValueError: ``size`` is outside 16..256.
    """
    if size != int(size) or not _SIZES[0] <= size <= _SIZES[1]:
        raise ValueError(
            f"size must be a whole number of px in [{_SIZES[0]}, {_SIZES[1]}], got {size}; "
            "render at the nearest of these and resize."
        )
    scene = build_scene(identity, nuisances, size=int(size))
    canvas = draw_background(scene)
    hair = hair_shell(scene)
    draw_hair_behind(canvas, scene, hair)
    draw_body(canvas, scene)
    draw_ears(canvas, scene, near=False)
    rows, columns = scene.outline()
    face, face_canvas = scene.cropped(rows, columns), canvas[:, rows, columns]
    head = head_surface(face)
    shade = None if hair is None else hair.shade(scene)[rows, columns]
    draw_head(face_canvas, face, head, shade)
    draw_ears(canvas, scene, near=True)
    draw_hair(canvas, scene, hair)
    if nuisances.occlusion in ("glasses", "sunglasses"):
        draw_glasses(face_canvas, face, head)
    if nuisances.occlusion == "bar":
        draw_bar(canvas, scene)
    return develop(canvas, scene)
