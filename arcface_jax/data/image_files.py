"""Single image files, or all below a directory, as crops for a network."""

import dataclasses
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from arcface_jax.data.alignment import align
from arcface_jax.data.decode import DEEP_MODES, decode, fit_square


def list_files(
    path: str | os.PathLike[str], *, but: Collection[str | os.PathLike[str]] = ()
) -> dict[str, Path]:
    """Name -> path of a file, or of every file below a directory at any depth, sorted by name.

    Names are relative to the directory; those with a part that begins with a dot are passed over.

    Args:
      path: a file or a directory.
      but: files to pass over.

    Raises:
      FileNotFoundError: nothing there, or no file in it.
    """
    root = Path(path)
    # The system's own error names the path, and the command line then the nearest that exists.
    root.stat()
    if not root.is_dir():
        return {root.name: root}
    passed = {Path(other).absolute() for other in but}
    found = {
        file.relative_to(root).as_posix(): file
        for file in root.rglob("*")
        if file.is_file() and file.absolute() not in passed
    }
    visible = [name for name in found if not any(p.startswith(".") for p in name.split("/"))]
    if not visible:
        raise FileNotFoundError(f"{root} holds no file.")
    return {name: found[name] for name in sorted(visible)}


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of an image file in px, from its header alone.

    Raises:
      ValueError: not an image, or one with more than 8 bits a sample.
      OSError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode in DEEP_MODES:
                raise ValueError(f"it has more than 8 bits a sample (PIL mode {image.mode}).")
            return image.size
    except UnidentifiedImageError:
        raise ValueError("it is not an image that can be read.") from None
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is damaged or too large: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropFiles:
    """Image files, each decoded, and aligned or cut to size, when asked.

    Attributes:
      paths: of the files.
      size: side of the crops, px.
      channels: 1 or 3.
      landmarks: float[5, 2] of each, in px of the stored image: faces are placed on the template.
        None: the central square, area-averaged to ``size``; an image of that size stays as it is.

    Raises:
      ValueError: lengths that differ.
    """

    paths: tuple[Path, ...]
    size: int
    channels: int
    landmarks: tuple[np.ndarray, ...] | None = None

    def __post_init__(self):
        if self.landmarks is not None and len(self.landmarks) != len(self.paths):
            raise ValueError(f"{len(self.paths)} images and landmarks of {len(self.landmarks)}.")

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Crop ``index``, uint8[size, size, channels].

        Raises:
          ValueError: a damaged image, or landmarks that define no place.
          OSError: the file cannot be read.
        """
        image = decode(self.paths[index].read_bytes(), channels=self.channels)
        if self.landmarks is not None:
            return align(image, self.landmarks[index], size=self.size)
        return fit_square(image, size=self.size)
