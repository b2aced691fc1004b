"""The ORL (AT&T) faces: 40 people, 10 grey photographs each (Samaria and Harter, 1994)."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from arcface_jax.data.builder import Example, ImageBuilder, open_split, prepare
from arcface_jax.data.dataset import Dataset
from arcface_jax.data.decode import ImageDecoder, decode
from arcface_jax.data.split_names import known_split

_ORIGIN = "AT&T Laboratories Cambridge, the database of faces (att_faces.zip)"
_PEOPLE = {"train": range(1, 31), "test": range(31, 41)}
_MEMBER = re.compile(r"(?:.*/)?s(\d+)/(\d+)\.pgm")


class ORL(ImageBuilder, skip_registration=True):
    """ORL, 92 px wide and 112 px high, re-packed from PGM to PNG without loss.

    train: subjects s1 to s30, 300 images. test: s31 to s40, 100 images.
    """

    name = "orl"
    CHANNELS = 1
    ARCHIVES = {"orl/att_faces.zip": _ORIGIN}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Place orl/att_faces.zip, from {_ORIGIN}."

    @classmethod
    def examples(cls, config: Any, manual_dir: Path | None):
        """For each split, a function that yields its Examples in natural number order."""
        del config
        assert manual_dir is not None
        path = manual_dir / "orl" / "att_faces.zip"
        return {split: lambda p=people: _read(path, p) for split, people in _PEOPLE.items()}


def load_split(
    *,
    split: str,
    data_dir=None,
    manual_dir=None,
    size: int | None = None,
    channels: int | None = 1,
) -> Dataset:
    """One split of ORL.

    Args:
      split: "train" (30 people) or "test" (10 people).
      data_dir: where prepared data sets live.
      manual_dir: directory above orl/att_faces.zip.
      size: output side in px, of the central 92 px square; None: 112 x 92 as stored.
      channels: 1, or 3 for the same image three times.
    """
    known_split("orl", split, _PEOPLE)
    decoder = ImageDecoder(size=size, channels=channels or 1)
    directory = prepare(ORL, data_dir=data_dir, manual_dir=manual_dir)
    return open_split(directory, name="orl", split=split, decoder=decoder)


def _read(path: Path, people: range) -> Iterator[Example]:
    with zipfile.ZipFile(path) as archive:
        # In string order s10 would come after s1.
        found = sorted(
            (int(match[1]), int(match[2]), match[0])
            for match in map(_MEMBER.fullmatch, archive.namelist())
            if match
        )
        for person, number, member in found:
            if person in people:
                name = f"s{person}/{number}.pgm"
                try:
                    pixels = decode(archive.read(member), channels=1)
                except ValueError as error:
                    raise ValueError(f"{path}: {name}: {error}") from None
                png = io.BytesIO()
                Image.fromarray(pixels[..., 0]).save(png, "PNG")
                yield Example(image=png.getvalue(), identity=f"s{person}", id=name)
