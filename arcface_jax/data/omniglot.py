"""Omniglot: handwritten characters of 50 alphabets, 20 drawers each (Lake et al., Science 2015)."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arcface_jax.data.builder import Example, ImageBuilder, open_split, prepare
from arcface_jax.data.dataset import Dataset
from arcface_jax.data.decode import ImageDecoder
from arcface_jax.data.split_names import known_split

_ORIGIN = "github.com/brendenlake/omniglot, directory python"
_SPLITS = {"train": "images_background", "test": "images_evaluation"}


class Omniglot(ImageBuilder, skip_registration=True):
    """Omniglot with its original 1-bit PNGs; the two splits share no alphabet.

    train: background set, 964 characters of 30 alphabets, 19,280 images.
    test: evaluation set, 659 characters of 20 alphabets, 13,180 images.
    An identity is "Alphabet/character01".
    """

    name = "omniglot"
    CHANNELS = 1
    ARCHIVES = {f"omniglot/{stem}.zip": _ORIGIN for stem in _SPLITS.values()}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Place {', '.join(ARCHIVES)}, from {_ORIGIN}."

    @classmethod
    def examples(cls, config: Any, manual_dir: Path | None):
        """For each split, a function that yields its Examples, sorted by name."""
        del config
        assert manual_dir is not None
        folder = manual_dir / "omniglot"
        return {
            split: lambda stem=stem: _read(folder / f"{stem}.zip")
            for split, stem in _SPLITS.items()
        }


def load_split(
    *,
    split: str,
    data_dir=None,
    manual_dir=None,
    size: int | None = None,
    channels: int | None = 1,
) -> Dataset:
    """One split of Omniglot, ink bright (255) on 0.

    Args:
      split: "train" (964 classes) or "test" (659 classes).
      data_dir: where prepared data sets live.
      manual_dir: directory above omniglot/images_background.zip.
      size: output side in px, by exact area averaging of the 105 px original; None: 105.
      channels: 1, or 3 for the same image three times.
    """
    known_split("omniglot", split, _SPLITS)
    decoder = ImageDecoder(size=size, channels=channels or 1, invert=True)
    directory = prepare(Omniglot, data_dir=data_dir, manual_dir=manual_dir)
    return open_split(directory, name="omniglot", split=split, decoder=decoder)


def _read(path: Path) -> Iterator[Example]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".png")):
            _, alphabet, character, file = member.split("/")
            identity = f"{alphabet}/{character}"
            yield Example(image=archive.read(member), identity=identity, id=f"{identity}/{file}")
