"""Labeled Faces in the Wild (Huang et al., UMass TR 07-49, 2007), cut by its View 1 lists.

Photographs of real people, for research. Ten people stand on both sides of the View 1 split under
two names (errors that the makers list and leave as they are); ``strict`` takes them out of
training.
"""

import dataclasses
import io
import logging
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from arcface_jax.data.alignment import align
from arcface_jax.data.builder import (
    Example,
    ImageBuilder,
    join,
    missing_files,
    open_split,
    originals_dir,
    prepare,
)
from arcface_jax.data.dataset import Dataset
from arcface_jax.data.decode import decode
from arcface_jax.data.landmark_list import read_landmarks
from arcface_jax.data.pair_lists import PairList, read_pairs
from arcface_jax.data.split_names import known_split
from arcface_jax.known_names import unknown_name

PAIR_LISTS = ("pairs", "pairsDevTrain", "pairsDevTest")
"""The lists of verification pairs that come with LFW."""

SAME_PERSON_AS_IN_TEST = (
    "Recep_Tayyip_Erdogan/Recep_Tayyip_Erdogan_0004.jpg",  # is Abdullah_Gul
    "Anja_Paerson",  # first images exchanged with Janica_Kostelic
    "Raul_Ibanez",  # is Carlos_Beltran_0001
    "Emmy_Rossum/Emmy_Rossum_0001.jpg",  # is Eva_Amurri
    "Hamad_Bin_Isa_al-Khalifa",  # is Mahmoud_Abbas_0012
    "Andrew_Gilligan/Andrew_Gilligan_0001.jpg",  # is Andrew_Caldecott
    "Yingfan_Wang",  # is Wang_Yingfan
    "Talisa_Bratt",  # is Talisa_Soto
    "Takahiro_Mori",  # is Shinya_Taniguchi_0001
    "Choi_Sung-hong",  # is Sung_Hong_Choi_0001
)
"""Training names and images whose person is in the test split under another name."""

_ORIGIN = "vis-www.cs.umass.edu/lfw"
_LANDMARKS_ORIGIN = "github.com/clcarwin/sphereface_pytorch, data/lfw_landmark.txt"
_PEOPLE = {"train": "peopleDevTrain.txt", "test": "peopleDevTest.txt"}
# The landmark file counts px of the 250 px originals, whatever the size of the images at hand.
_LANDMARK_WIDTH = 250
_SPLITS = ("train", "test", "all")


class LFW(ImageBuilder, skip_registration=True):
    """LFW with its original JPEGs and five landmarks, split by peopleDevTrain and peopleDevTest.

    train: 4,038 people, 9,525 images. test: 1,711 people and 3,708 images listed; Betsy_Coffin
    (1 image) was removed from the archive by the makers, so 1,710 and 3,707 are there.
    """

    name = "lfw"
    ENCODING = "jpeg"
    LANDMARKS = True
    ARCHIVES = {
        "lfw/lfw.tgz": _ORIGIN,
        "lfw/peopleDevTrain.txt": _ORIGIN,
        "lfw/peopleDevTest.txt": _ORIGIN,
        "lfw/lfw_landmark.txt": _LANDMARKS_ORIGIN,
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Place {', '.join(ARCHIVES)}, from {_ORIGIN}."

    @classmethod
    def examples(cls, config: Any, manual_dir: Path | None):
        """For each split, a function that yields its Examples, in the order of the archive."""
        del config
        assert manual_dir is not None
        folder = manual_dir / "lfw"
        return {split: lambda f=file: _read(folder, f) for split, file in _PEOPLE.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedDecoder:
    """Decodes a record with landmarks to an aligned crop.

    Attributes:
      size: side of the crop, px.
      channels: 1, 3, or None for as stored.
    """

    size: int = 112
    channels: int | None = 3

    def __post_init__(self):
        """Check the values."""
        if self.size < 1:
            raise ValueError(f"size is the side of the crop in px, at least 1, got {self.size}.")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey), 3 (RGB) or None, got {self.channels}.")

    def __call__(self, record):
        """uint8[size, size, channels] of a record with "image" and "landmarks"."""
        image = decode(record["image"], channels=self.channels)
        return align(image, record["landmarks"], size=self.size)


def load_split(
    *,
    split: str,
    data_dir=None,
    manual_dir=None,
    size: int | None = None,
    channels: int | None = 3,
    strict: bool = True,
) -> Dataset:
    """One split of LFW, each face aligned from the original image by its landmarks.

    Args:
      split: "train" (peopleDevTrain), "test" (peopleDevTest) or "all".
      data_dir: where prepared data sets live.
      manual_dir: directory above lfw/lfw.tgz.
      size: side of the crop, px; None: 112.
      channels: 3, or 1 for grey.
      strict: leave out of "train" what ``SAME_PERSON_AS_IN_TEST`` lists (7 names and 3 single
        images), so that no one of the test split is trained on under another name. False keeps the
        list as published. "test" and "all" are never changed.
    """
    known_split("lfw", split, _SPLITS)
    decoder = AlignedDecoder(size=112 if size is None else size, channels=channels or 3)
    directory = prepare(LFW, data_dir=data_dir, manual_dir=manual_dir)
    if split == "all":
        return join([_aligned(directory, s, decoder) for s in _PEOPLE], name="lfw/all")
    dataset = _aligned(directory, split, decoder)
    if split != "train" or not strict:
        return dataset
    left_out = set(SAME_PERSON_AS_IN_TEST)
    return dataset.keep(
        [
            k
            for k, name in enumerate(dataset.ids)
            if name not in left_out and name.split("/")[0] not in left_out
        ]
    )


def _aligned(directory: Path, split: str, decoder: AlignedDecoder) -> Dataset:
    dataset = open_split(directory, name="lfw", split=split, decoder=decoder)
    return dataclasses.replace(dataset, aligned=True)


def pairs(name: str, *, manual_dir: str | os.PathLike[str] | None = None) -> PairList:
    """A pair list of LFW: "pairs" (View 2), "pairsDevTrain" or "pairsDevTest" (View 1).

    pairsDevTest names the removed image of Betsy_Coffin: 999 of its 1,000 pairs can be located.

    Raises:
      ValueError: unknown name.
      FileNotFoundError: the list isn't below ``manual_dir`` (default $ARCFACE_DATA_DIR).
    """
    if name not in PAIR_LISTS:
        raise unknown_name("pair list", name, PAIR_LISTS)
    where, file = originals_dir(manual_dir), f"lfw/{name}.txt"
    error = missing_files("lfw", {file: _ORIGIN}, where)
    if error is not None or where is None:
        raise error or FileNotFoundError(file)
    return read_pairs(where / file)


def _read(folder: Path, people_file: str) -> Iterator[Example]:
    wanted = _read_people(folder / people_file)
    landmarks = read_landmarks(folder / "lfw_landmark.txt")
    found = dict.fromkeys(wanted, 0)
    with tarfile.open(folder / "lfw.tgz", "r|gz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if len(parts) != 3 or parts[1] not in wanted or not member.isfile():
                continue
            name = f"{parts[1]}/{parts[2]}"
            if name not in landmarks:
                raise ValueError(
                    f"lfw_landmark.txt has no line for {name}; the file doesn't belong to this "
                    "archive."
                )
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            try:
                with Image.open(io.BytesIO(data)) as image:
                    scale = image.width / _LANDMARK_WIDTH
            except OSError as error:
                raise ValueError(f"lfw.tgz: {name} can't be read: {error}.") from None
            found[parts[1]] += 1
            yield Example(
                image=data,
                identity=parts[1],
                id=name,
                landmarks=landmarks[name] * scale,
            )
    _report_missing(people_file, wanted, found)


def _report_missing(people_file: str, wanted: dict[str, int], found: dict[str, int]) -> None:
    short = [name for name, count in wanted.items() if found[name] < count]
    if short:
        images = sum(wanted[name] - found[name] for name in short)
        few = ", ".join(short[:3]) + (", ..." if len(short) > 3 else "")
        logging.getLogger("arcface_jax.data").warning(
            "lfw: images that %s lists and the archive lacks, and that are left out: %d (of %s).",
            *(people_file, images, few),
        )


def _read_people(path: Path) -> dict[str, int]:
    """Person -> number of images, of peopleDev*.txt: a count, then name<TAB>images."""
    lines = path.read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:] if line.strip()]
    for number, row in enumerate(rows, 2):
        if len(row) != 2 or not row[1].isdecimal():
            raise ValueError(
                f"{path}, line {number}: expected 'name<TAB>images', got {chr(9).join(row)!r}."
            )
    if not lines or lines[0].strip() != str(len(rows)):
        raise ValueError(
            f"{path}: the first line must be the number of people, {len(rows)}; got "
            f"{lines[0] if lines else 'an empty file'!r}."
        )
    return {name: int(count) for name, count in rows}
