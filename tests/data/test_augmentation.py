import numpy as np
import pytest
from PIL import Image

from arcface_jax.data.augmentation import Augmentation, image_keys, uniform

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 12, 10, 3), np.uint8)
KEYS = image_keys(np.arange(64), np.zeros(64, int), seed=0)
EVERYTHING = Augmentation(
    flip=0.5, shift_px=2, rotate_deg=15.0, scale=0.2, brightness=0.1, contrast=0.2
)


def test_draws_are_uniform_and_independent():
    draws = uniform(image_keys(np.arange(20000), np.zeros(20000, int), seed=1), 4)
    assert draws.min() >= 0.0 and draws.max() < 1.0
    # Standard error of a mean of 20000 uniforms is 0.002, of a correlation 0.007.
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(draws.std(0), 12**-0.5, atol=0.01)
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.035
    assert np.abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.035


def test_keys_differ_by_seed_epoch_and_image():
    index, epoch = np.meshgrid(np.arange(100), np.arange(50))
    keys = [image_keys(index.ravel(), epoch.ravel(), seed=s) for s in (0, 1, 2, 2**40)]
    assert len(np.unique(np.concatenate(keys))) == 4 * 5000


def test_nothing_asked_changes_nothing():
    np.testing.assert_array_equal(Augmentation()(IMAGES, keys=KEYS), IMAGES)


@pytest.mark.parametrize("augmentation", [EVERYTHING, Augmentation(flip=0.5, shift_px=2)])
def test_an_image_does_not_depend_on_its_batch(augmentation):
    whole = augmentation(IMAGES, keys=KEYS)
    for part in (slice(5, 6), slice(20, 50)):
        np.testing.assert_array_equal(augmentation(IMAGES[part], keys=KEYS[part]), whole[part])
    assert (whole != IMAGES).any() and whole.shape == IMAGES.shape and whole.dtype == np.uint8


def test_the_input_is_left_alone():
    before = IMAGES.copy()
    EVERYTHING(IMAGES, keys=KEYS)
    np.testing.assert_array_equal(IMAGES, before)


def test_flip_has_its_probability():
    keys = image_keys(np.arange(2000), np.zeros(2000, int), seed=0)
    images = np.broadcast_to(np.uint8([[[0], [1]]]), (2000, 1, 2, 1))
    flipped = Augmentation(flip=0.25)(images, keys=keys)[:, 0, 0, 0]
    assert abs(flipped.mean() - 0.25) < 0.04  # four standard errors


@pytest.mark.parametrize("fill", [None, 7.0])
def test_shift_moves_whole_pixels_within_reach(fill):
    pad = {"mode": "edge"} if fill is None else {"constant_values": fill}
    moved = Augmentation(shift_px=2, fill=fill)(IMAGES, keys=KEYS)
    seen = set()
    for image, out in zip(IMAGES, moved, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), **pad)
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if (padded[y : y + 12, x : x + 10] == out).all()
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 15


def test_warp_without_turn_and_zoom_is_a_flip():
    still = Augmentation(flip=1.0, rotate_deg=1e-9)
    np.testing.assert_array_equal(still(IMAGES, keys=KEYS), IMAGES[:, :, ::-1])


def test_warp_turns_and_zooms_like_pil():
    """A smooth image, so that the two may differ only by rounding."""
    y, x = np.mgrid[:24, :24]
    smooth = (127 + 60 * np.sin(x / 4) * np.cos(y / 5)).astype(np.uint8)[None, ..., None]
    key = image_keys([3], [0], seed=9)
    warp = Augmentation(rotate_deg=20.0, scale=0.25, fill=0.0)
    out = warp(smooth, keys=key)[0, 4:-4, 4:-4, 0].astype(int)
    *_, angle, zoom, _, _ = (2.0 * uniform(key, 7) - 1.0)[0]
    turn, factor = np.deg2rad(20.0 * angle), 1.25**zoom
    cos, sin = np.cos(turn) / factor, np.sin(turn) / factor
    matrix = (cos, sin, 12 - 12 * (cos + sin), -sin, cos, 12 - 12 * (cos - sin))
    pil = Image.fromarray(smooth[0, ..., 0]).transform(
        (24, 24), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    assert np.abs(np.asarray(pil).astype(int)[4:-4, 4:-4] - out).max() <= 1


def test_scale_is_symmetric_and_bounded():
    keys = image_keys(np.arange(500), np.zeros(500, int), seed=0)
    dot = np.zeros((500, 41, 41, 1), np.uint8)
    dot[:, 10:31, 10:31] = 255
    area = (Augmentation(scale=0.2, fill=0.0)(dot, keys=keys) > 127).sum((1, 2, 3)) / 441
    assert 1 / 1.2**2 - 0.1 <= area.min() < 0.8 and 1.3 < area.max() <= 1.2**2 + 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_light_is_the_formula(dtype):
    light = Augmentation(brightness=0.2, contrast=0.5)
    draws = uniform(KEYS, 7)
    contrast = 1.0 + 0.5 * (2.0 * draws[:, 6] - 1.0)
    added = 255.0 * 0.2 * (2.0 * draws[:, 5] - 1.0)
    expected = contrast[:, None, None, None] * (IMAGES - 127.5) + 127.5
    expected = expected + added[:, None, None, None]
    out = light(IMAGES.astype(dtype), keys=KEYS)
    if dtype == np.uint8:
        expected = np.clip(expected, 0, 255)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, atol=0.501 if dtype == np.uint8 else 1e-3)


def test_grey_images_work_too():
    assert EVERYTHING(IMAGES[..., :1], keys=KEYS).shape == (64, 12, 10, 1)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"flip": 1.5}, "probability"),
        ({"shift_px": -1}, "shift_px"),
        ({"shift_px": 1.5}, "whole number"),
        ({"brightness": float("nan")}, "brightness"),
        ({"fill": 300.0}, "grey level"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
