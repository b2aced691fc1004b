"""Placing a face by its five landmarks on the template that all recognition models share.

The convention is PIL's (``Image.transform``, affine, bilinear, 8 bit): pixel centres lie at +0.5
and the value outside is 0. It is part of the preprocessing contract of a model: another convention
moves its embeddings.
"""

import numpy as np
from PIL import Image

from arcface_jax.data.decode import area_resize

TEMPLATE_112 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""float64[5, 2], x and y in a 112 px crop: eyes (image left, right), nose, mouth corners."""
TEMPLATE_112.flags.writeable = False

_FULL = 112


def similarity_transform(points, template=TEMPLATE_112):
    r"""The [2, 3] matrix that takes points nearest to the template: rotation, one scale, shift.

    Least squares over all five points, without reflection. With points and template as complex
    numbers z and w, :math:`w = a z + b`,

    .. math:: a = \sum_k (w_k - \bar w) \overline{(z_k - \bar z)} / \sum_k |z_k - \bar z|^2,
        \quad b = \bar w - a \bar z

    Args:
      points: float[n, 2], x and y in px of the source image.
      template: float[n, 2], where they should lie.

    Returns:
      float64[2, 3] M; M @ (x, y, 1) lies in the crop.

    Raises:
      ValueError: shapes differ, values aren't finite, or all points coincide.

    Source: Umeyama, PAMI 1991, eqs. 40-42, in two dimensions.

    >>> similarity_transform([[0, 0], [2, 0]], [[1, 1], [1, 5]])
    array([[ 0., -2.,  1.],
           [ 2.,  0.,  1.]])
    """
    points, template = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if points.ndim != 2 or points.shape[1:] != (2,) or points.shape != template.shape:
        raise ValueError(
            f"landmarks and template must both be [n, 2] (x, y), got {list(points.shape)} and "
            f"{list(template.shape)}; reshape 10 numbers x1 y1 ... x5 y5 to (5, 2)."
        )
    if not np.isfinite(points).all():
        raise ValueError("the landmarks hold NaN or infinity; leave this image out.")
    z, w = points @ [1, 1j], template @ [1, 1j]
    dz, dw = z - z.mean(), w - w.mean()
    spread = np.sum(np.abs(dz) ** 2)
    if spread == 0.0:
        raise ValueError("all landmarks lie on one point; no transform is defined by them.")
    a = np.sum(dw * dz.conj()) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(image, points, *, size: int = _FULL):
    """The face as a size x size crop, uint8[size, size, c].

    From 112 px up the image is warped once, to the template scaled to ``size``. Below, it is warped
    to the smallest multiple k * size >= 112 and averaged over k x k blocks: a bilinear warp alone
    looks at four pixels and would alias.

    Args:
      image: uint8[H, W, c], c = 1 or 3.
      points: float[5, 2], landmarks in px of ``image``, in the order of the template.
      size: side of the crop, px.

    >>> align(np.zeros((150, 150, 3), np.uint8), TEMPLATE_112, size=48).shape
    (48, 48, 3)
    """
    if size < 1:
        raise ValueError(f"size is the side of the crop in px, at least 1, got {size}.")
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            f"expected an image uint8[H, W, 1 or 3], got {image.dtype}{list(image.shape)}."
        )
    blocks = max(1, -(-_FULL // size))
    side = blocks * size
    forward = similarity_transform(points, TEMPLATE_112 * (side / _FULL))
    backward = np.linalg.inv(np.vstack([forward, [0.0, 0.0, 1.0]]))[:2]
    source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    warped = source.transform(
        (side, side),
        Image.Transform.AFFINE,
        tuple(backward.ravel()),
        Image.Resampling.BILINEAR,
    )
    crop = np.array(warped).reshape(side, side, image.shape[2])
    return crop if blocks == 1 else area_resize(crop, size=size)
