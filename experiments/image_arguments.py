"""Image files named on the command line, checked against a network's contract.

Imports no JAX: the entry points read its flag before JAX may start.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from arcface_jax.data.image_files import CropFiles
    from arcface_jax.models import Preprocessing

_LANDMARKS = flags.DEFINE_string(
    "landmarks", None, "A file with a line for each image: its name and x1 y1 ... x5 y5 in px."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedImages:
    """Images that can be embedded, and those that cannot.

    Attributes:
      names: of the images in ``crops``.
      crops: what is embedded, decoded when asked.
      refused: name -> reason of each image that is left out.
    """

    names: tuple[str, ...]
    crops: "CropFiles"
    refused: dict[str, str]


def landmarks_path() -> Path | None:
    """The file that --landmarks names, which is there; None where it names none.

    Raises:
      FileNotFoundError: it is not there.
    """
    if not _LANDMARKS.value:
        return None
    path = Path(_LANDMARKS.value)
    path.stat()
    return path


def open_images(
    files: Mapping[str, Path], contract: "Preprocessing", *, landmarks: Path | None
) -> OpenedImages:
    """Reads headers and landmarks; no image is decoded yet.

    Args:
      files: name -> path.
      contract: of the network.
      landmarks: a list of them, or None.

    Raises:
      ValueError: landmarks for a network that takes images as they are, or an image of another
        size than the contract's where faces must be aligned and no landmarks are given.
      FileNotFoundError: no list of landmarks there.
    """
    from arcface_jax.data.image_files import CropFiles, image_size
    from arcface_jax.data.landmark_list import match_landmarks, read_landmarks

    points: dict[str, Any] = {}
    if landmarks is not None:
        if contract.alignment == "none":
            raise ValueError(
                f"--landmarks={landmarks} has no effect: the network takes images as they are."
            )
        listed = read_landmarks(landmarks)
        paths = [path.absolute() for path in files.values()]
        points = dict(zip(files, match_landmarks(paths, listed), strict=True))
    refused, beyond = {}, []
    for name, path in files.items():
        try:
            width, height = image_size(path)
        except (ValueError, OSError) as error:
            refused[name] = str(error)
            continue
        if landmarks is not None:
            if points[name] is None:
                refused[name] = f"{landmarks} has no line for it."
            elif not ((points[name] >= 0.0) & (points[name] <= (width, height))).all():
                beyond.append(name)
        elif contract.alignment == "five_points" and (width, height) != (contract.size,) * 2:
            raise ValueError(
                f"{name} is {width} x {height} px, and the network takes faces on the five-point "
                f"template at {contract.size} px: give the landmarks with --landmarks=FILE, or "
                "crops that are aligned already."
            )
    if beyond:
        print(
            f"landmarks of {len(beyond)} images lie outside of the image (first: {beyond[0]}); are "
            "they px of the image as it is stored?",
            file=sys.stderr,
        )
    names = tuple(name for name in files if name not in refused)
    crops = CropFiles(
        paths=tuple(files[name] for name in names),
        size=contract.size,
        channels=contract.channels,
        landmarks=tuple(points[name] for name in names) if landmarks is not None else None,
    )
    return OpenedImages(names=names, crops=crops, refused=refused)
