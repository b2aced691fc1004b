import numpy as np
import pytest

from arcface_jax.data.alignment import TEMPLATE_112, align, similarity_transform
from arcface_jax.data.decode import area_resize

POINTS = np.array([[107, 107], [147, 111], [124, 143], [103, 157], [139, 161]])
GOLDEN = [[0.802190, 0.096208, -56.510486], [-0.096208, 0.802190, -25.106902]]


def umeyama(points, template):
    """Umeyama 1991 by singular value decomposition, with its rule against reflection."""
    p, q = points - points.mean(0), template - template.mean(0)
    u, s, vt = np.linalg.svd(q.T @ p / len(points))
    d = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ d @ vt
    scale = np.trace(np.diag(s) @ d) / (p**2).sum(1).mean()
    shift = template.mean(0) - scale * rotation @ points.mean(0)
    return np.column_stack([scale * rotation, shift])


def warped(image, matrix, size):
    """Bilinear values at pixel centres +0.5, 0 outside, cut to 8 bits: float64, written out."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    v, u = np.mgrid[:size, :size] + 0.5
    x, y = np.einsum("ij,jhw->ihw", inverse, np.stack([u, v, np.ones_like(u)]))
    height, width = image.shape[:2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x - 0.5, y - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - left)[..., None], (y - top)[..., None]

    def at(row, column):
        return image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)].astype(float)

    upper = at(top, left) * (1 - fx) + at(top, left + 1) * fx
    lower = at(top + 1, left) * (1 - fx) + at(top + 1, left + 1) * fx
    return np.where(inside[..., None], upper * (1 - fy) + lower * fy, 0.0)


def test_transform_is_the_golden_example():
    np.testing.assert_allclose(similarity_transform(POINTS), GOLDEN, atol=5e-7)


def test_template_is_left_where_it_is():
    np.testing.assert_allclose(similarity_transform(TEMPLATE_112), np.eye(2, 3), atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_transform_equals_umeyama(seed):
    points = np.random.default_rng(seed).uniform(0, 150, (5, 2))
    np.testing.assert_allclose(
        similarity_transform(points), umeyama(points, TEMPLATE_112), atol=1e-9
    )


def test_mirrored_points_are_not_reflected():
    matrix = similarity_transform(TEMPLATE_112 * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, umeyama(TEMPLATE_112 * [-1, 1], TEMPLATE_112), atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_is_the_bilinear_warp_of_the_convention(channels):
    image = np.random.default_rng(0).integers(0, 256, (150, 150, channels), np.uint8)
    crop = align(image, POINTS * 0.6, size=112)
    expected = warped(image, similarity_transform(POINTS * 0.6), 112)
    # PIL cuts off the fraction; a value within 1e-6 of a whole number may fall on either side.
    assert crop.dtype == np.uint8
    assert ((crop <= expected + 1e-6) & (crop > expected - 1 - 1e-6)).all()


def test_outside_is_black():
    bright = np.full((60, 60, 3), 255, np.uint8)
    crop = align(bright, TEMPLATE_112 + [-40.0, -40.0])
    assert crop[:30, :30].max() == 0 and crop[50:90, 50:90].min() == 255


def test_small_crops_average_a_large_one():
    image = np.random.default_rng(1).integers(0, 256, (150, 150, 3), np.uint8)
    np.testing.assert_array_equal(
        align(image, POINTS * 0.6, size=48),
        area_resize(align(image, POINTS * 0.6, size=144), size=48),
    )
    np.testing.assert_array_equal(
        align(image, POINTS * 0.6, size=56),
        area_resize(align(image, POINTS * 0.6, size=112), size=56),
    )


@pytest.mark.parametrize("size", [16, 48, 64, 112, 160])
def test_crop_has_the_size_asked_for_and_the_same_place(size):
    ramp = np.broadcast_to(np.arange(150, dtype=np.uint8)[None, :, None], (150, 150, 3))
    crop = align(np.ascontiguousarray(ramp), TEMPLATE_112, size=size)
    assert crop.shape == (size, size, 3)
    # The template itself maps pixel centre (u + 0.5) * 112 / size onto the ramp.
    wanted = (np.arange(size) + 0.5) * 112 / size - 0.5
    middle = slice(size // 8, size - size // 8)
    assert np.abs(crop[size // 2, :, 0] - wanted)[middle].max() <= 1.0


def test_errors_name_the_cause():
    with pytest.raises(ValueError, match=r"\[4, 2\] and \[5, 2\]"):
        similarity_transform(POINTS[:4])
    with pytest.raises(ValueError, match="NaN"):
        similarity_transform(np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="one point"):
        similarity_transform(np.ones((5, 2)))
    with pytest.raises(ValueError, match="float64"):
        align(np.zeros((9, 9, 3)), POINTS)
    with pytest.raises(ValueError, match="at least 1"):
        align(np.zeros((9, 9, 3), np.uint8), POINTS, size=0)
