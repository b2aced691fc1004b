import dataclasses

import numpy as np
import pytest
from PIL import Image

from arcface_jax.data import align
from arcface_jax.data.alignment import TEMPLATE_112
from arcface_jax.data.decode import area_resize
from arcface_jax.data.image_files import CropFiles, image_size, list_files


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_files_are_found_at_any_depth_sorted_by_name(tmp_path):
    for name in ("b.png", "a/z.png", "a/b/c.txt", ".hidden/x.png", "a/.y.png", "own.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list_files(tmp_path, but=[tmp_path / "own.npz"])
    assert list(found) == ["a/b/c.txt", "a/z.png", "b.png"]
    assert found["a/z.png"] == tmp_path / "a" / "z.png"
    assert list_files(tmp_path / "b.png") == {"b.png": tmp_path / "b.png"}


def test_nothing_to_find_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no file"):
        list_files(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        list_files(tmp_path / "none")
    assert caught.value.filename == str(tmp_path / "none")


def test_a_header_tells_the_size(tmp_path, rng):
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    for ending in ("jpg", "png", "ppm", "bmp", "webp"):
        assert image_size(write(tmp_path / f"x.{ending}", pixels)) == (30, 20)
    (tmp_path / "x.pgm").write_bytes(b"P5\n# a comment\n4 3\n255\n" + bytes(12))
    assert image_size(tmp_path / "x.pgm") == (4, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image"), (b"name 1 2 3", "not an image"), (b"\xff\xd8\xff\xe0", "not an image")],
)
def test_what_has_no_header_is_refused(content, message, tmp_path):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        image_size(tmp_path / "x.jpg")


def test_deep_images_are_refused(tmp_path):
    path = write(tmp_path / "deep.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match="more than 8 bits"):
        image_size(path)


def test_crops_are_the_central_square_averaged(tmp_path, rng):
    wide = rng.integers(0, 256, (8, 12, 3), np.uint8)
    same = rng.integers(0, 256, (4, 4), np.uint8)
    paths = (write(tmp_path / "wide.png", wide), write(tmp_path / "same.png", same))
    crops = CropFiles(paths=paths, size=4, channels=3)
    assert len(crops) == 2
    np.testing.assert_array_equal(crops[0], area_resize(wide[:, 2:10], size=4))
    np.testing.assert_array_equal(crops[1], np.repeat(same[..., None], 3, axis=2))
    grey = dataclasses.replace(crops, channels=1)
    np.testing.assert_array_equal(grey[1], same[..., None])
    assert grey[0].shape == (4, 4, 1)


def test_landmarks_place_the_face(tmp_path, rng):
    pixels = rng.integers(0, 256, (150, 150, 3), np.uint8)
    points = TEMPLATE_112 * 0.8 + [20.0, 10.0]
    path = write(tmp_path / "face.png", pixels)
    crops = CropFiles(paths=(path,), size=112, channels=3, landmarks=(points,))
    np.testing.assert_array_equal(crops[0], align(pixels, points))
    shifted = dataclasses.replace(crops, landmarks=(TEMPLATE_112 + [20.0, 10.0],))
    # PIL cuts fractions off, so a pixel may be one lower.
    away = shifted[0].astype(int) - pixels[10:122, 20:132]
    assert set(np.unique(away)) <= {-1, 0}
    with pytest.raises(ValueError, match="1 images and landmarks of 2"):
        CropFiles(paths=(path,), size=112, channels=3, landmarks=(points, points))
