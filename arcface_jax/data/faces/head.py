"""The head, and everything painted on it."""

import numpy as np

from arcface_jax.data.faces.colours import linear, scaled
from arcface_jax.data.faces.eyes import paint_eyes
from arcface_jax.data.faces.facial_hair import paint_facial_hair
from arcface_jax.data.faces.mouth import paint_mouth
from arcface_jax.data.faces.nose import paint_nose
from arcface_jax.data.faces.occlusions import paint_mask
from arcface_jax.data.faces.scene import EVERYWHERE, Scene
from arcface_jax.data.faces.shapes import paint
from arcface_jax.data.faces.skin import paint_skin
from arcface_jax.data.faces.surface import Surface, cast, shaded


def head_surface(scene: Scene) -> Surface:
    """Where the rays meet the head; ``sphere`` holds (u, v, w / head_depth)."""
    identity = scene.identity
    axes = (identity.head_width, 1.0, identity.head_depth)
    surface = cast(scene, scene.q, scene.y, axes=axes)
    surface.sphere[0] *= identity.head_width
    return surface


def draw_head(
    canvas: np.ndarray, scene: Scene, head: Surface, hair_shade: np.ndarray | None
) -> None:
    """The head of :func:`head_surface` with the face on it."""
    identity = scene.identity
    albedo = np.empty_like(canvas)
    albedo[:] = linear(identity.skin)
    # Minus the gradient of the relief, along u and v.
    slopes = np.zeros((2, *canvas.shape[1:]), np.float32)
    shadow = np.ones(canvas.shape[1:], np.float32)
    paint_skin(albedo, slopes, scene, head)
    paint_facial_hair(albedo, scene, head)
    paint_nose(albedo, slopes, shadow, scene)
    paint_mouth(albedo, scene, head)
    patch, glint = paint_eyes(albedo, slopes, scene, head)
    if hair_shade is not None:
        shade = scaled(identity.skin, (0.5, 0.4, 0.4))
        paint(albedo, EVERYWHERE, hair_shade * 0.5, shade)
    if scene.nuisances.occlusion == "mask":
        paint_mask(albedo, scene, head)

    normal = np.empty_like(canvas)
    np.multiply(head.sphere[0], identity.head_width**-2, out=normal[0])
    np.multiply(head.sphere[2], 1.0 / identity.head_depth, out=normal[2])
    np.add(head.sphere[1], slopes[1], out=normal[1])
    normal[0] += slopes[0]
    factor, highlight = shaded(normal, scene, gloss=identity.skin_gloss, shadow=shadow)
    albedo *= factor
    albedo += highlight
    albedo[:, *patch] += glint
    albedo -= canvas
    albedo *= head.cover
    canvas += albedo
