"""The pair lists of Labeled Faces in the Wild: pairs.txt, pairsDevTrain.txt, pairsDevTest.txt."""

import dataclasses
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FOLDS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairList:
    """P pairs of images and whether each shows one person.

    Attributes:
      name: file the list came from, e.g. "pairs.txt".
      first, second: image ids, "Name/Name_0001.jpg".
      same: bool[P], True for a genuine pair.
      folds: int[P], the fold 0..9 of each pair.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    same: np.ndarray
    folds: np.ndarray

    def __len__(self) -> int:
        """Number of pairs P."""
        return len(self.first)

    def images(self) -> tuple[str, ...]:
        """Every image the list names, once, sorted."""
        return tuple(sorted({*self.first, *self.second}))

    def missing(self, ids: Collection[str]) -> tuple[str, ...]:
        """The images that the list names and ``ids`` does not hold, sorted."""
        present = set(ids)
        return tuple(name for name in self.images() if name not in present)

    def locate(self, ids: Sequence[str]) -> tuple[Any, Any, Any, Any]:
        """(first, second, same, folds), arrays [P']: the pairs as positions in ``ids``.

        A pair with an image that is not there is left out, and a warning in the log of
        ``arcface_jax.data`` names it; :meth:`missing` has the images.

        Raises:
          ValueError: no pair is left.
        """
        position = {name: k for k, name in enumerate(ids)}
        pairs = zip(self.first, self.second, strict=True)
        kept = np.array([a in position and b in position for a, b in pairs], bool)
        if not kept.any():
            raise ValueError(
                f"none of the {len(self)} pairs of {self.name} has both images in the data set; "
                f"the list names images like {self.first[0]!r}, the data set has {ids[0]!r}."
            )
        if not kept.all():
            missing = self.missing(ids)
            few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            logging.getLogger("arcface_jax.data").warning(
                "%s: pairs left out, as an image is not there: %d of %d (%s).",
                *(self.name, int((~kept).sum()), len(self), few),
            )
        rows = np.flatnonzero(kept)
        return (
            np.array([position[self.first[k]] for k in rows], np.int64),
            np.array([position[self.second[k]] for k in rows], np.int64),
            self.same[rows],
            self.folds[rows],
        )


def read_pairs(path: str | os.PathLike[str]) -> PairList:
    """The pairs of an LFW list, with their folds.

    ``pairs.txt`` opens with "10<TAB>300": for each fold 300 genuine, then 300 impostor pairs.
    ``pairsDev*.txt`` open with one count: that many genuine, then as many impostor pairs; such a
    list has no folds, so fold k takes the k-th tenth of either kind.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a line that isn't a pair, or too few or too many lines; file and line are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no pair list {path}; pairs.txt and pairsDev*.txt come with LFW "
            "(vis-www.cs.umass.edu/lfw)."
        )
    lines = path.read_text().splitlines()
    header = lines[0].split() if lines else []
    if not (1 <= len(header) <= 2 and all(number.isdecimal() for number in header)):
        raise ValueError(
            f"{path}, line 1: expected 'folds<TAB>pairs of each kind' or one count, got "
            f"{lines[0] if lines else 'an empty file'!r}."
        )
    blocks, per_kind = (1, int(header[0])) if len(header) == 1 else map(int, header)
    rows = lines[1:]
    while rows and not rows[-1].strip():
        rows.pop()
    if len(rows) != 2 * blocks * per_kind or not rows:
        raise ValueError(
            f"{path}: the first line announces {2 * blocks * per_kind} pairs, but {len(rows)} "
            "lines follow; the file is cut off or its first line is wrong."
        )
    within = np.arange(len(rows)) % (2 * per_kind)
    same = within < per_kind
    if blocks == 1:
        folds = (within % per_kind) * _FOLDS // per_kind
    else:
        folds = np.arange(len(rows)) // (2 * per_kind)
    pairs = [
        _pair(row, genuine=bool(same[k]), where=f"{path}, line {k + 2}")
        for k, row in enumerate(rows)
    ]
    return PairList(
        name=path.name,
        first=tuple(a for a, _ in pairs),
        second=tuple(b for _, b in pairs),
        same=same,
        folds=folds,
    )


def image_id(name: str, number: int | str) -> str:
    """Id of a person's image.

    >>> image_id("Abel_Pacheco", 4)
    'Abel_Pacheco/Abel_Pacheco_0004.jpg'
    """
    return f"{name}/{name}_{int(number):04d}.jpg"


def _pair(row: str, *, genuine: bool, where: str) -> tuple[str, str]:
    fields = row.split()
    wanted = 3 if genuine else 4
    if len(fields) != wanted or not (fields[1].isdecimal() and fields[-1].isdecimal()):
        kind = "'name n1 n2' (same person)" if genuine else "'name1 n1 name2 n2' (two people)"
        raise ValueError(f"{where}: expected {kind}, got {row!r}.")
    return image_id(fields[0], fields[1]), image_id(fields[0 if genuine else 2], fields[-1])
