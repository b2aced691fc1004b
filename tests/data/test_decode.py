import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from arcface_jax.data.decode import JPEG_DECODERS, ImageDecoder, area_resize, decode, fit_square

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)


def encoded(pixels, kind, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM"])
def test_lossless_files_come_back_exactly(kind):
    np.testing.assert_array_equal(decode(encoded(COLOUR, kind)), COLOUR)
    np.testing.assert_array_equal(decode(encoded(GREY, kind))[..., 0], GREY)


def test_one_bit_png_gives_0_and_255():
    bits = RNG.random((9, 7)) > 0.5
    np.testing.assert_array_equal(decode(encoded(bits, "PNG"))[..., 0], bits * np.uint8(255))


def test_pgm_with_a_comment_is_read():
    data = b"P5\n# a comment\n3 2\n255\n" + bytes(range(6))
    np.testing.assert_array_equal(decode(data)[..., 0], [[0, 1, 2], [3, 4, 5]])


def test_palette_image_gives_its_colours():
    few = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]])
    np.testing.assert_array_equal(decode(encoded(few, "GIF", mode="P")), few)


@pytest.mark.parametrize("name", JPEG_DECODERS)
@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_every_jpeg_decoder_gives_the_pixels_of_pil(name, pixels, channels):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    data = encoded(pixels, "JPEG", quality=90)
    ours = decode(data, channels=channels, jpeg_decoder=name)
    np.testing.assert_array_equal(ours, decode(data, channels=channels, jpeg_decoder="PIL"))
    assert ours.shape == (20, 30, channels or (3 if pixels.ndim == 3 else 1))
    assert ours.flags.writeable


@pytest.mark.parametrize("name", JPEG_DECODERS)
def test_exif_orientation_is_ignored(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(COLOUR, "JPEG", exif=exif), jpeg_decoder=name).shape == (20, 30, 3)


def test_cmyk_jpeg_becomes_rgb():
    assert decode(encoded(COLOUR, "JPEG", mode="CMYK")).shape == (20, 30, 3)


def test_grey_is_repeated_and_colour_becomes_luma():
    assert (decode(encoded(GREY, "PNG"), channels=3) == GREY[..., None]).all()
    luma = COLOUR @ [0.299, 0.587, 0.114]
    assert np.abs(decode(encoded(COLOUR, "PNG"), channels=1)[..., 0] - luma).max() <= 1.0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_file_is_an_error(kind):
    data = encoded(COLOUR, kind)
    with pytest.raises(ValueError, match="damaged"):
        decode(data[: len(data) // 2])


def test_errors_say_what_came():
    with pytest.raises(ValueError, match="0 bytes"):
        decode(b"")
    with pytest.raises(ValueError, match="not an image.*68 65 6c 6c 6f"):
        decode(b"hello there")
    with pytest.raises(ValueError, match="channels must be 1"):
        decode(b"P5 1 1 255 \0", channels=2)
    with pytest.raises(ValueError, match="8 bits"):
        decode(encoded(np.full((2, 2), 999, np.uint16), "PNG"))
    with pytest.raises(ValueError, match="unknown jpeg_decoder"):
        decode(encoded(GREY, "JPEG"), jpeg_decoder="turbo")


@pytest.mark.parametrize("before,after", [(105, 32), (105, 28), (96, 48), (5, 5), (7, 1)])
def test_area_resize_is_the_mean_of_the_area(before, after):
    image = np.random.default_rng(1).integers(0, 256, (before, before, 1), np.uint8)
    # Blown up by the output size, every input pixel is a block that falls wholly into one output.
    fine = np.kron(image[..., 0].astype(np.float64), np.ones((after, after)))
    expected = fine.reshape(after, before, after, before).mean(axis=(1, 3))
    np.testing.assert_allclose(
        area_resize(image.astype(np.float64), size=after)[..., 0], expected, rtol=1e-12
    )
    np.testing.assert_array_equal(
        area_resize(image, size=after)[..., 0], np.floor(expected + 0.5 + 1e-9).astype(np.uint8)
    )


def test_area_resize_keeps_the_mean_and_the_batch():
    images = np.random.default_rng(2).random((3, 105, 70, 2))
    small = area_resize(images, size=(32, 20))
    assert small.shape == (3, 32, 20, 2)
    np.testing.assert_allclose(small.mean((1, 2)), images.mean((1, 2)), rtol=1e-12)


def test_area_resize_refuses_to_grow():
    with pytest.raises(ValueError, match="3 px to 4 px"):
        area_resize(np.zeros((3, 3, 1)), size=4)


def test_fit_square_takes_the_centre_and_grows_smoothly():
    wide = np.arange(6, dtype=np.uint8).reshape(1, 6, 1).repeat(2, axis=0)
    np.testing.assert_array_equal(fit_square(wide, size=2)[0, :, 0], [2, 3])
    assert fit_square(wide, size=8).shape == (8, 8, 1)


def test_decoder_checks_its_options():
    with pytest.raises(ValueError, match="at least 1"):
        ImageDecoder(size=0)
    with pytest.raises(ValueError, match="channels"):
        ImageDecoder(channels=4)
