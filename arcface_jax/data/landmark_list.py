"""Lists of facial landmarks: a line for each image, its name and 10 numbers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def read_landmarks(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Image name -> float64[5, 2], x and y in px in the order of the template.

    A line is the name and x1 y1 ... x5 y5 (eye at image left, eye at image right, nose, mouth at
    image left, mouth at image right), parted by tabs or spaces. Empty lines are passed over.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a line that is not so, or a name that comes twice; file and line are named.
    """
    path = Path(path)
    landmarks: dict[str, np.ndarray] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file; landmarks are lines of text.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        # From the right: a name may hold spaces.
        name, *numbers = line.strip().rsplit(maxsplit=10)
        try:
            points = np.array(numbers, np.float64).reshape(5, 2)
        except ValueError:
            points = np.array([np.nan])
        if not np.isfinite(points).all():
            raise ValueError(
                f"{path}, line {number}: expected an image and 10 numbers x1 y1 ... x5 y5, got "
                f"{line[:120]!r}."
            )
        if name in landmarks:
            raise ValueError(f"{path}, line {number}: {name} comes twice.")
        landmarks[name] = points
    return landmarks


def match_landmarks(
    paths: Sequence[str | os.PathLike[str]], landmarks: Mapping[str, np.ndarray]
) -> list[np.ndarray | None]:
    """The landmarks of each image file, None where there are none.

    A list may name its images from any directory above them: the line of a file is the one whose
    name is the longest end of its path.

    Raises:
      ValueError: two files for one line.

    >>> found = match_landmarks(["/faces/ann/1.jpg", "/faces/bob/2.jpg"], {"ann/1.jpg": np.eye(5)})
    >>> found[0].shape, found[1]
    ((5, 5), None)
    """
    found: list[np.ndarray | None] = []
    owner: dict[str, str] = {}
    for path in paths:
        parts = Path(path).parts
        ends = ("/".join(parts[k:]).replace("//", "/") for k in range(len(parts)))
        name = next((end for end in ends if end in landmarks), None)
        if name is None:
            found.append(None)
            continue
        other = owner.setdefault(name, os.fspath(path))
        if other != os.fspath(path):
            raise ValueError(
                f"the landmarks of {name} could be those of {other} and of {path}; name the images "
                "in the list with their directories."
            )
        found.append(landmarks[name])
    return found
