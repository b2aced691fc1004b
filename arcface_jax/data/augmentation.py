"""Random changes of training images, vectorised over the batch, one random key per image.

A key is a 64-bit number made of (seed, epoch, image index), so what happens to an image depends on
nothing else: not on the batch it is in, not on the number of data workers, not on where a run was
resumed.
"""

import dataclasses
import math

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def image_keys(indices, epochs, *, seed: int):
    """uint64[B]: one random key for each (seed, epoch, image index).

    >>> keys = image_keys([0, 1, 0], [0, 0, 1], seed=3)
    >>> len(set(keys.tolist())), bool(keys[0] == image_keys([0], [0], seed=3)[0])
    (3, True)
    """
    key = _mixed(np.uint64(seed % 2**64) + _GOLDEN)
    for part in (epochs, indices):
        # Each part meets a key that is already mixed: equal small numbers must not cancel out.
        key = _mixed((key ^ np.asarray(part).astype(np.uint64)) + _GOLDEN)
    return key


def uniform(keys, count: int):
    """float64[B, count]: numbers in [0, 1), independent for each key and column (SplitMix64).

    >>> uniform(image_keys([5], [0], seed=0), 3).shape
    (1, 3)
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return (_mixed(np.asarray(keys)[:, None] + steps) >> np.uint64(11)).astype(np.float64) / 2.0**53


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random flip, placement and light; called with images and one key for each.

    An image is first placed (flip, rotation and scale about its centre, shift; bilinear, ``fill``
    outside), then its light changes: x -> contrast (x - 127.5) + 127.5 + 255 brightness. A data set
    that brings floats is expected in 0..255 too; it is not rounded or clipped.

    Attributes:
      flip: probability of a left-right flip, 0..1. Faces: 0.5. Characters: 0, as a mirrored
        character is another character.
      shift_px: each axis moves by up to this many px; whole px where nothing rotates or scales.
      rotate_deg: rotation by up to this many degrees either way.
      scale: size changes by a factor in [1 / (1 + scale), 1 + scale].
      brightness: added light, up to this share of full range either way.
      contrast: factor in [1 - contrast, 1 + contrast].
      fill: grey level (0..255) of what comes in from outside; None repeats the edge pixels.

    >>> image = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1)
    >>> Augmentation(flip=1.0)(image, keys=image_keys([0], [0], seed=0))[0, 0, :, 0]
    array([3, 2, 1, 0], dtype=uint8)
    """

    flip: float = 0.0
    shift_px: int = 0
    rotate_deg: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    fill: float | None = None

    def __post_init__(self):
        """Check the ranges."""
        if not 0.0 <= self.flip <= 1.0:
            raise ValueError(f"flip is a probability in [0, 1], got {self.flip}.")
        for name, top in _TOPS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= top):
                raise ValueError(f"{name} must lie in [0, {top}], got {value}.")
        if self.fill is not None and not 0 <= self.fill <= 255:
            raise ValueError(f"fill is a grey level in [0, 255] or None, got {self.fill}.")
        if self.shift_px != int(self.shift_px):
            raise ValueError(f"shift_px is a whole number of px, got {self.shift_px}.")

    def __call__(self, images, *, keys):
        """Changed images, same shape and dtype; ``keys`` uint64[B] as from :func:`image_keys`."""
        draws = uniform(keys, len(_DRAWS))
        draw = {name: draws[:, k] for k, name in enumerate(_DRAWS)}
        flipped = draw["flip"] < self.flip
        if self.rotate_deg or self.scale:
            images = self._warped(images, draw, flipped)
        elif self.shift_px or self.flip:
            images = self._shifted(images, draw, flipped)
        return self._relit(images, draw) if self.brightness or self.contrast else images

    def _shifted(self, images, draw, flipped):
        height, width = images.shape[1:3]
        span = 2 * self.shift_px + 1
        down = (draw["down"] * span).astype(np.int64) - self.shift_px
        right = (draw["right"] * span).astype(np.int64) - self.shift_px
        rows = np.arange(height) - down[:, None]
        columns = np.arange(width) - right[:, None]
        columns = np.where(flipped[:, None], width - 1 - columns, columns)
        pixels = np.clip(rows, 0, height - 1)[:, :, None] * width
        pixels = pixels + np.clip(columns, 0, width - 1)[:, None, :]
        out = _take_pixels(images, pixels)
        if self.fill is not None and self.shift_px:
            outside = ((rows < 0) | (rows >= height))[:, :, None]
            outside = outside | ((columns < 0) | (columns >= width))[:, None, :]
            out[outside] = self.fill
        return out

    def _warped(self, images, draw, flipped):
        # A frame of one px (edge or fill) holds all that lies outside, so that the interpolation
        # below needs no cases at the border.
        frame = ((0, 0), (1, 1), (1, 1), (0, 0))
        if self.fill is None:
            framed = np.pad(images, frame, mode="edge")
        else:
            framed = np.pad(images, frame, constant_values=self.fill)
        count, height, width, channels = images.shape
        angle = np.deg2rad(self.rotate_deg) * (2.0 * draw["angle"] - 1.0)
        zoom = np.exp(np.log1p(self.scale) * (2.0 * draw["zoom"] - 1.0))
        # Output pixel p about the centre looks at the input point M (p - shift), mirrored or not.
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        mirror = np.where(flipped, -1.0, 1.0)
        y = (np.arange(height) - (height - 1) / 2) - self.shift_px * (2.0 * draw["down"] - 1.0)[
            :, None
        ]
        x = (np.arange(width) - (width - 1) / 2) - self.shift_px * (2.0 * draw["right"] - 1.0)[
            :, None
        ]
        column = _outer_sum(
            (mirror * sin)[:, None] * y + (width + 1) / 2, (mirror * cos)[:, None] * x
        )
        row = _outer_sum(cos[:, None] * y + (height + 1) / 2, -sin[:, None] * x)
        np.clip(column, 0.0, width + 0.999, out=column)
        np.clip(row, 0.0, height + 0.999, out=row)
        left, top = column.astype(np.int32), row.astype(np.int32)
        column -= left
        row -= top
        stride = width + 2
        at = top * stride + left
        at += (np.arange(count, dtype=np.int32) * (stride * (height + 2)))[:, None, None]
        out = np.empty(images.shape, np.float32)
        for k in range(channels):
            plane = framed[..., k].astype(np.float32).ravel()
            upper = _between(plane, at, at + 1, column)
            at_lower = at + stride
            lower = _between(plane, at_lower, at_lower + 1, column)
            lower -= upper
            lower *= row
            np.add(upper, lower, out=out[..., k])
        return _like(out, images.dtype)

    def _relit(self, images, draw):
        contrast = 1.0 + self.contrast * (2.0 * draw["contrast"] - 1.0)
        added = 255.0 * self.brightness * (2.0 * draw["brightness"] - 1.0)
        offset = (127.5 * (1.0 - contrast) + added).astype(np.float32)
        if images.dtype != np.uint8:
            per_image = (slice(None), None, None, None)
            return (images * contrast[per_image] + offset[per_image]).astype(images.dtype)
        # 256 values an image cost less than all its pixels.
        levels = np.arange(256, dtype=np.float32)
        table = _like(contrast[:, None].astype(np.float32) * levels + offset[:, None], np.uint8)
        first = (np.arange(len(images), dtype=np.int32) * 256)[:, None, None, None]
        return np.take(table.ravel(), first + images, mode="clip")


_DRAWS = ("flip", "down", "right", "angle", "zoom", "brightness", "contrast")
_TOPS = {
    "shift_px": 1024,
    "rotate_deg": 180.0,
    "scale": 4.0,
    "brightness": 1.0,
    "contrast": 1.0,
}


def _mixed(x):
    """The finaliser of SplitMix64 (Steele, Lea, Flood, 2014): bits out mix all bits in."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _outer_sum(of_rows, of_columns):
    """float32[B, H, W] from [B, H] and [B, W]."""
    return of_rows.astype(np.float32)[:, :, None] + of_columns.astype(np.float32)[:, None, :]


def _between(plane, start, end, share):
    """plane[start] + share (plane[end] - plane[start]), elementwise."""
    out, first = np.take(plane, end, mode="clip"), np.take(plane, start, mode="clip")
    out -= first
    out *= share
    out += first
    return out


def _take_pixels(images, pixels):
    """images[b] at the flat pixel numbers pixels[b]: [B, H, W, c] from int[B, H, W]."""
    per_image = images.shape[1] * images.shape[2]
    first = np.arange(len(images))[:, None, None] * per_image
    return np.take(images.reshape(-1, images.shape[-1]), first + pixels, axis=0, mode="clip")


def _like(values, dtype):
    if dtype == np.uint8:
        values += 0.5
        return np.clip(values, 0.0, 255.0, out=values).astype(np.uint8)
    return values.astype(dtype)
