"""The images of an experiment: what is trained on, what is evaluated, proved disjoint."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

from arcface_jax.data import Dataset, check_disjoint, hold_out, load
from experiments.cleaned_list import keep_only, kept_ids
from experiments.settings import DataSettings

# Which identities validate is part of a result, not of its seed: every point shares them.
VALIDATION_SEED = 0


class Images(NamedTuple):
    """Training and evaluation images without a common identity."""

    train: Dataset
    test: Dataset

    def describe(self) -> dict[str, Any]:
        """Names and sizes, for the record."""
        return {
            part: {
                "name": dataset.name,
                "images": len(dataset),
                "identities": dataset.num_classes,
                "aligned": dataset.aligned,
            }
            for part, dataset in zip(self._fields, self, strict=True)
        }


@functools.lru_cache(maxsize=2)
def load_images(data: DataSettings, *, data_dir: str | None, manual_dir: str | None) -> Images:
    """Both sides in memory; the same object for the same settings.

    Raises:
      ValueError: an unknown data set, a broken image (named), sides that share an identity, or a
        ``data.keep`` that is no list of training images.
      FileNotFoundError: the original archives are missing.
    """

    def side(split: str) -> Dataset:
        return load(
            data.name,
            split=split,
            data_dir=data_dir,
            manual_dir=manual_dir,
            size=data.size,
            channels=data.channels,
            **dict(data.options),
        )

    train = side(data.train)
    kept = kept_ids(Path(data.keep), train) if data.keep else None
    if data.evaluate_on == "validation":
        cut: dict[str, Any] = (
            {"groups": data.validation_groups}
            if data.validation_groups
            else {"fraction": data.validation_fraction}
        )
        train, test = hold_out(train, **cut, seed=VALIDATION_SEED)
    else:
        test = side(data.test)
    # After the cut, so that the same identities validate with and without a list.
    train = train if kept is None else keep_only(train, kept)
    check_disjoint(train, test)
    return Images(train.in_memory(), test.in_memory())


def listed_pairs(name: str, test: Dataset, *, manual_dir: str | None) -> tuple[Any, ...] | None:
    """A pair list of LFW as index arrays into ``test``, or None where ``name`` is empty."""
    if not name:
        return None
    from arcface_jax.data import lfw

    return lfw.pairs(name, manual_dir=manual_dir).locate(test.ids)
