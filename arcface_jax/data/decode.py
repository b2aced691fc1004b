"""Encoded images to arrays, and exact shrinking.

JPEG goes through simplejpeg where it is installed (faster than PIL), else OpenCV, else
PIL, with the same pixels; everything else goes through PIL. EXIF orientation is never applied, so
that landmarks, which are measured on the stored pixels, stay valid.
"""

import dataclasses
import functools
import importlib
import importlib.util
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

JPEG_DECODERS = ("simplejpeg", "cv2", "PIL")
"""The JPEG decoders in the order in which they are tried."""

_ONE_CHANNEL_MODES = ("1", "L")
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def decode(data: bytes, *, channels: int | None = None, jpeg_decoder: str | None = None):
    """The image as uint8[H, W, channels].

    Args:
      data: a whole JPEG, PNG, PGM, BMP, GIF or WebP file; 1-bit images give 0 and 255.
      channels: 1 (grey; colour becomes ITU-R 601 luma), 3 (RGB; grey is repeated), or None for what
        the file holds.
      jpeg_decoder: one of ``JPEG_DECODERS``; None takes the first that is installed.

    Raises:
      ValueError: empty, truncated or unknown data, more than 8 bits a sample, wrong ``channels``.

    >>> pgm = b"P5 2 1 255 " + bytes([0, 255])
    >>> decode(pgm)[..., 0]
    array([[  0, 255]], dtype=uint8)
    >>> decode(pgm, channels=3).shape
    (1, 2, 3)
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (RGB) or None (as stored), got {channels}.")
    if not data:
        raise ValueError("the image is empty (0 bytes).")
    if data[:3] == b"\xff\xd8\xff":
        name = jpeg_decoder or _first_jpeg_decoder()
        if name not in _JPEG:
            raise ValueError(f"unknown jpeg_decoder {name!r}; known: {', '.join(JPEG_DECODERS)}.")
        image = _JPEG[name](data)
    else:
        image = _decode_pil(data)
    return _with_channels(image, channels)


def area_resize(images, *, size: int | tuple[int, int]):
    """Images shrunk to ``size`` by exact area averaging.

    Each output pixel is the mean of the input under it, parts of pixels counted by their share, for
    any ratio (105 to 32 too): nothing is skipped, so nothing aliases. The filter is separable:
    out = R x C^T with overlap matrices R [h, H] and C [w, W] whose rows sum to 1.

    Args:
      images: [..., H, W, c], uint8 (rounded half up) or floating (kept).
      size: output side, or (height, width), px; at most H and W.

    >>> area_resize(np.uint8([[[0], [10], [20]]] * 3), size=1)[0, 0]
    array([10], dtype=uint8)
    """
    images = np.asarray(images)
    height, width = (size, size) if isinstance(size, int) else size
    if images.dtype == np.uint8 and not (images.shape[-3] % height or images.shape[-2] % width):
        return _block_means(images, height, width)
    rows = _overlap(images.shape[-3], height)
    columns = _overlap(images.shape[-2], width)
    moved = np.moveaxis(images, -1, -3).astype(np.float64)
    out = np.moveaxis(rows @ moved @ columns.T, -3, -1)
    if images.dtype == np.uint8:
        return np.floor(out + 0.5).astype(np.uint8)
    return out.astype(images.dtype)


def _block_means(images, height: int, width: int):
    """Means of whole blocks of pixels in integers: exact, and without the threads of a product."""
    down, across = images.shape[-3] // height, images.shape[-2] // width
    count = down * across
    sums = np.full((*images.shape[:-3], height, width, images.shape[-1]), count // 2, np.uint32)
    for row in range(down):
        for column in range(across):
            sums += images[..., row::down, column::across, :]
    return (sums // count).astype(np.uint8)


def fit_square(image, *, size: int):
    """The central square of an image, size x size px: area-averaged down, bilinear where it grows.

    >>> fit_square(np.zeros((4, 6, 3), np.uint8), size=2).shape
    (2, 2, 3)
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    if side > size:
        return area_resize(square, size=size)
    planes = [
        Image.fromarray(np.ascontiguousarray(square[..., k])).resize(
            (size, size), Image.Resampling.BILINEAR
        )
        for k in range(square.shape[-1])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDecoder:
    """How the encoded images of one data set become arrays; called with a record.

    Attributes:
      size: output side in px (:func:`fit_square`); None keeps the stored size.
      channels: 1, 3, or None for as stored.
      invert: swap black and white (dark ink on paper becomes bright ink on 0).

    >>> ImageDecoder(invert=True)({"image": b"P5 2 1 255 " + bytes([0, 255])})[..., 0]
    array([[255,   0]], dtype=uint8)
    """

    size: int | None = None
    channels: int | None = None
    invert: bool = False

    def __post_init__(self):
        """Check the values."""
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is the output side in px, at least 1, got {self.size}.")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey), 3 (RGB) or None, got {self.channels}.")

    def __call__(self, record):
        """uint8[H, W, channels] of a record with encoded bytes under "image"."""
        image = decode(record["image"], channels=self.channels)
        if self.invert:
            image = 255 - image
        return image if self.size is None else fit_square(image, size=self.size)


@functools.lru_cache(maxsize=64)
def _overlap(before: int, after: int):
    """float64[after, before]: share of input pixel j in output pixel i; rows sum to 1."""
    if not 1 <= after <= before:
        raise ValueError(
            f"area averaging shrinks: got {before} px to {after} px; ask for 1 to {before}."
        )
    edges = np.arange(after + 1) * (before / after)
    pixels = np.arange(before)
    low = np.maximum(edges[:-1, None], pixels[None, :])
    high = np.minimum(edges[1:, None], pixels[None, :] + 1.0)
    weights = np.maximum(high - low, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _with_channels(image, channels: int | None):
    if channels is None or image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return np.array(Image.fromarray(image).convert("L"))[..., None]


@functools.cache
def _first_jpeg_decoder() -> str:
    return next(name for name in JPEG_DECODERS if importlib.util.find_spec(name))


def _decode_pil(data: bytes):
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in DEEP_MODES:
                raise ValueError(
                    f"the image has more than 8 bits a sample (PIL mode {image.mode}); convert it "
                    "to 8 bits first."
                )
            grey = image.mode in _ONE_CHANNEL_MODES or image.mode == "LA"
            pixels = np.array(image.convert("L" if grey else "RGB"))
    except UnidentifiedImageError:
        raise ValueError(
            f"not an image that can be read: {len(data)} bytes that begin with {data[:8].hex(' ')}."
        ) from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"the image is damaged: {error}.") from None
    return pixels[..., None] if grey else pixels


def _decode_simplejpeg(data: bytes):
    import simplejpeg

    try:
        _, _, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("CMYK", "YCCK"):
            return _decode_pil(data)
        return simplejpeg.decode_jpeg(data, colorspace="GRAY" if colorspace == "Gray" else "RGB")
    except ValueError as error:
        raise ValueError(f"the image is damaged: {error}.") from None


def _decode_cv2(data: bytes):
    cv2 = importlib.import_module("cv2")
    flags = cv2.IMREAD_IGNORE_ORIENTATION
    with Image.open(io.BytesIO(data)) as header:
        grey = header.mode == "L"
        if header.mode not in ("L", "RGB"):
            return _decode_pil(data)
    flags |= cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("the image is damaged: OpenCV can't decode it.")
    return image[..., None] if grey else image


_JPEG = {"simplejpeg": _decode_simplejpeg, "cv2": _decode_cv2, "PIL": _decode_pil}
