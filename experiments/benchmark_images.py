"""The images and pairs of a benchmark, as a network's contract wants them."""

import dataclasses
from pathlib import Path
from typing import Any

from arcface_jax.data import DATASETS, Dataset, PairList, check_disjoint, lfw, load, read_pairs
from arcface_jax.known_names import nearest
from arcface_jax.models import Preprocessing
from experiments.settings import DataSettings

# LFW's benchmarks: the split that has the images, and the list of pairs.
_LFW = {"lfw": ("all", "pairs"), "lfw_dev": ("test", "pairsDevTest")}
BENCHMARKS = (*_LFW, *(name for name in DATASETS if name != "lfw"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is embedded, and which pairs are compared.

    Attributes:
      name: as on the command line.
      dataset: the images; where pairs are listed, those alone that the list names.
      pairs: (first, second, same, folds) as positions in ``dataset``; None: all pairs.
      pair_list: name of the list, or empty.
      notes: what a reader must know.
    """

    name: str
    dataset: Dataset
    pairs: tuple[Any, ...] | None = None
    pair_list: str = ""
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Names and sizes, for the record."""
        described = {
            "name": self.name,
            "images": len(self.dataset),
            "identities": self.dataset.num_classes,
        }
        if self.pairs is not None:
            genuine = int(self.pairs[2].sum())
            described |= {
                "pair_list": self.pair_list,
                "genuine_pairs": genuine,
                "impostor_pairs": len(self.pairs[2]) - genuine,
            }
        return described


def load_benchmark(
    name: str,
    contract: Preprocessing,
    *,
    pairs: str = "",
    aligned: bool = False,
    trained_on: DataSettings | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> Benchmark:
    """A benchmark by its name, or a directory with one directory of images for each identity.

    Args:
      name: one of ``BENCHMARKS``, or a directory.
      contract: of the network; faces of LFW are aligned to its size, other images are brought to
        it, and those of a directory must have it where the contract wants aligned faces.
      pairs: a list of LFW by name, or a file of that format; empty: the benchmark's own, or none.
      aligned: whether the benchmark's faces lie on the five-point template without saying so.
      trained_on: the network's training data, where known. Of the same data set the benchmark has
        the same options, and must not share an identity.
      data_dir: where prepared data sets live.
      manual_dir: where original archives and pair lists lie.

    Raises:
      ValueError: an unknown name, images that break the contract, identities that were trained on,
        a list that is none or names no image that is there.
      FileNotFoundError: archives or a list are missing.
    """
    # First: it takes no time, and images may take minutes.
    found = _find_pairs(name, pairs, manual_dir)
    dataset = _load_images(
        name, contract, trained_on=trained_on, data_dir=data_dir, manual_dir=manual_dir
    )
    if contract.alignment == "five_points" and not (aligned or dataset.aligned):
        raise ValueError(
            f"the network takes faces on the five-point template, and {name} does not say that its "
            "images are; add --aligned if they are."
        )
    notes = []
    if contract.alignment == "none" and dataset.aligned:
        notes.append(
            "the network was trained on images that are not aligned, and these faces are: they lie "
            "on the five-point template"
        )
    located = None
    if found is not None:
        listed = set(found.images())
        named = [index for index, image in enumerate(dataset.ids) if image in listed]
        if named:
            dataset = dataset.keep(named)
        located = found.locate(dataset.ids)
        left_out = len(found) - len(located[0])
        if left_out:
            notes.append(
                f"{left_out} of {len(found)} pairs of {found.name} are left out: an image is not "
                f"there ({', '.join(found.missing(dataset.ids)[:3])})"
            )
    _check_unseen(name, dataset, trained_on, data_dir=data_dir, manual_dir=manual_dir)
    return Benchmark(
        name=name,
        dataset=dataset,
        pairs=located,
        pair_list=found.name if found else "",
        notes=tuple(notes),
    )


def _data_name(name: str) -> str:
    """The registered data set, or the directory, that a benchmark takes its images from."""
    return "lfw" if name in _LFW else name


def _load_images(
    name: str, contract: Preprocessing, *, trained_on: DataSettings | None, **places: Any
) -> Dataset:
    shape: dict[str, Any] = {"size": contract.size, "channels": contract.channels}
    if name in BENCHMARKS:
        split = _LFW[name][0] if name in _LFW else "test"
        same = trained_on is not None and trained_on.name == name
        options = dict(trained_on.options) if trained_on is not None and same else {}
        return load(_data_name(name), split=split, **shape, **places, **options)
    if not Path(name).expanduser().is_dir():
        raise ValueError(
            f"unknown benchmark {name!r}, and no such directory; known: {', '.join(BENCHMARKS)}."
            f"{nearest(name, BENCHMARKS)}"
        )
    if contract.alignment == "none":
        return load(name, **shape)
    # Aligned crops have the contract's size; cutting others to it would not align them.
    dataset = load(name, channels=contract.channels)
    height, width, _ = dataset.image_shape
    if (height, width) != (contract.size, contract.size):
        raise ValueError(
            f"the network takes faces on the five-point template at {contract.size} px, and "
            f"{dataset.ids[0]} is {width} x {height} px; align the images first."
        )
    return dataclasses.replace(dataset, aligned=True)


def _find_pairs(name: str, pairs: str, manual_dir: str | None) -> PairList | None:
    if not pairs and name in _LFW:
        pairs = _LFW[name][1]
    if pairs in lfw.PAIR_LISTS and name in _LFW:
        return lfw.pairs(pairs, manual_dir=manual_dir)
    if pairs and name in _LFW and not Path(pairs).is_file():
        raise ValueError(
            f"--pairs={pairs} is neither a list of LFW ({', '.join(lfw.PAIR_LISTS)}) nor a file."
            f"{nearest(pairs, lfw.PAIR_LISTS)}"
        )
    return read_pairs(Path(pairs)) if pairs else None


def _check_unseen(
    name: str, dataset: Dataset, trained_on: DataSettings | None, **places: Any
) -> None:
    """Refuses identities of the training data; of other data sets a name means another person."""
    if trained_on is None:
        return
    if name in BENCHMARKS:
        if trained_on.name == _data_name(name):
            options = places | dict(trained_on.options)
            check_disjoint(load(trained_on.name, split=trained_on.train, **options), dataset)
        return
    inside = Path(name).expanduser().resolve()
    if Path(trained_on.name).expanduser().resolve() in (inside, *inside.parents):
        check_disjoint(load(trained_on.name, split=trained_on.train), dataset)
