"""The one shape in which every data set reaches the trainer and the evaluation."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from arcface_jax.data.progress import shown


class ImageSource(Protocol):
    """N images that can be asked for one by one; they may be decoded when asked."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Image ``index``, uint8[H, W, c]."""
        ...


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some images of another source, in the order of ``indices``; nothing is copied or decoded."""

    source: ImageSource
    indices: np.ndarray

    def __len__(self) -> int:
        """Number of images in the subset."""
        return len(self.indices)

    def __getitem__(self, index: int, /):
        """Image ``index`` of the subset."""
        return self.source[int(self.indices[index])]

    def read(self, indices: Sequence[int]) -> list[Any]:
        """Several images of the subset."""
        return _read_many(self.source, self.indices[list(indices)].tolist())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with the identity of each: N images of C identities, checked when made.

    Attributes:
      name: what messages and reports call it, e.g. "omniglot/train".
      source: N images, uint8[H, W, c] (or an array [N, H, W, c], uint8 or finite floating).
      labels: int32[N], the class of each image, every class of 0..C-1 present.
      identities: C unique names; ``identities[k]`` is the identity of label k. Names are comparable
        between the splits of one data set, so that :func:`check_disjoint` can prove them apart.
      ids: N unique image names.
      nuisances: arrays [N] of what changed between two images of one identity, by name.
      aligned: whether faces lie on the five-point template (`arcface_jax.data.align`).

    Raises:
      ValueError: lengths that disagree, a label outside [0, C), a class without images, repeated
        names, a floating source with NaN or infinity. The first offender is named.

    >>> images = np.zeros((3, 2, 2, 1), np.uint8)
    >>> data = Dataset(name="toy", source=images, labels=np.array([0, 0, 1]),
    ...                identities=("ann", "bob"), ids=("a1", "a2", "b1"))
    >>> len(data), data.num_classes, data.image_shape
    (3, 2, (2, 2, 1))
    >>> data.select(["bob"]).ids
    ('b1',)
    """

    name: str
    source: Any
    labels: np.ndarray
    identities: tuple[str, ...]
    ids: tuple[str, ...]
    nuisances: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    aligned: bool = False

    def __post_init__(self):
        """Check and normalise the fields."""
        object.__setattr__(self, "identities", tuple(self.identities))
        object.__setattr__(self, "ids", tuple(self.ids))
        nuisances = {key: np.asarray(value) for key, value in self.nuisances.items()}
        # A plain dict would be shared and could be changed behind the frozen dataclass.
        object.__setattr__(self, "nuisances", MappingProxyType(nuisances))
        object.__setattr__(self, "labels", self._checked_labels())
        self._check_lengths()
        self._check_names("identities", self.identities)
        self._check_names("ids", self.ids)
        if isinstance(self.source, np.ndarray):
            self._check_array(self.source)

    def __reduce__(self):
        """For data workers, which need the data set in another process."""
        # A mappingproxy can't be pickled.
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _rebuild, (fields | {"nuisances": dict(self.nuisances)},)

    def __len__(self) -> int:
        """Number of images N."""
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of identities C."""
        return len(self.identities)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, c) of the first image; all have it where the data set was loaded with a size."""
        if isinstance(self.source, np.ndarray):
            return self.source.shape[1:]
        return self._read_or_name(0).shape

    def images(self, indices=None):
        """The images [n, H, W, c] at ``indices`` (all of them by default), decoded.

        Raises:
          ValueError: an image can't be decoded or has another shape than the first; it is named.
        """
        if isinstance(self.source, np.ndarray):
            return self.source if indices is None else self.source[indices]
        chosen = range(len(self)) if indices is None else np.asarray(indices).tolist()
        return self._stacked(self._read_many(chosen), chosen)

    def in_memory(self) -> "Dataset":
        """The same data set with every image decoded into one array, by several threads."""
        if isinstance(self.source, np.ndarray):
            return self
        block = 64
        starts = range(0, len(self), block)
        out = np.empty((len(self), *self.image_shape), np.uint8)

        def decode_block(start: int) -> None:
            chosen = range(start, min(start + block, len(self)))
            images = self._read_many(chosen)
            for i, image in zip(chosen, images, strict=True):
                self._check_shape(image, i, out.shape[1:])
                out[i] = image

        # Beyond a few threads Python's lock is the limit, not the decoder.
        with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            done = pool.map(decode_block, starts)
            for _ in shown(done, what=f"decoding {self.name}", total=len(self), step=block):
                pass
        return dataclasses.replace(self, source=out)

    def select(self, identities: Sequence[str], *, name: str | None = None) -> "Dataset":
        """Only the images of these identities; label k is the k-th of the names given.

        Raises:
          ValueError: a name that is not in the data set, or one given twice.
        """
        identities = tuple(identities)
        position = {identity: k for k, identity in enumerate(self.identities)}
        self._check_names("the identities to select", identities)
        unknown = [identity for identity in identities if identity not in position]
        if unknown:
            raise ValueError(
                f"{self.name} has no identity {unknown[0]!r} ({len(unknown)} of the "
                f"{len(identities)} names given are unknown); its names look like "
                f"{self.identities[0]!r}."
            )
        new_label = np.full(self.num_classes, -1, np.int32)
        new_label[[position[identity] for identity in identities]] = np.arange(len(identities))
        indices = np.flatnonzero(new_label[self.labels] >= 0)
        return self._subset(indices, new_label[self.labels[indices]], identities, name)

    def keep(self, indices, *, name: str | None = None) -> "Dataset":
        """Only the images at ``indices``; identities left without images go, labels are re-packed.

        >>> images = np.zeros((3, 2, 2, 1), np.uint8)
        >>> data = Dataset(name="toy", source=images, labels=np.array([0, 1, 2]),
        ...                identities=("ann", "bob", "cy"), ids=("a1", "b1", "c1"))
        >>> data.keep([0, 2]).identities, data.keep([0, 2]).labels
        (('ann', 'cy'), array([0, 1], dtype=int32))
        """
        indices = np.asarray(indices, np.int64)
        present, labels = np.unique(self.labels[indices], return_inverse=True)
        identities = tuple(self.identities[k] for k in present)
        return self._subset(indices, labels.astype(np.int32), identities, name)

    def _subset(self, indices, labels, identities, name) -> "Dataset":
        is_array = isinstance(self.source, np.ndarray)
        return Dataset(
            name=name or self.name,
            source=self.source[indices] if is_array else Subset(self.source, indices),
            labels=labels,
            identities=identities,
            ids=tuple(self.ids[i] for i in indices),
            nuisances={key: value[indices] for key, value in self.nuisances.items()},
            aligned=self.aligned,
        )

    def _read_many(self, indices: Sequence[int]) -> list[np.ndarray]:
        try:
            return _read_many(self.source, indices)
        except (ValueError, OSError):
            return [self._read_or_name(i) for i in indices]

    def _read_or_name(self, index: int):
        try:
            return self.source[index]
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{self.name}: image {self.ids[index]!r} can't be read: {error} "
                "Replace or remove that file and prepare the data set again."
            ) from None

    def _stacked(self, images, indices):
        if not images:
            return np.empty((0, *self.image_shape), np.uint8)
        for image, i in zip(images, indices, strict=True):
            self._check_shape(image, i, images[0].shape)
        return np.stack(images)

    def _check_shape(self, image, index: int, wanted) -> None:
        if image.shape != tuple(wanted):
            raise ValueError(
                f"{self.name}: image {self.ids[index]!r} is {image.shape} where others are "
                f"{tuple(wanted)}; load the data set with size= and channels= to make them equal."
            )

    def _checked_labels(self):
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"{self.name}: labels must be class indices int[N], got {labels.dtype}"
                f"{list(labels.shape)}; map names to 0..C-1 and give the names as identities."
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.identities)))
        if wrong.size:
            first = int(wrong[0])
            raise ValueError(
                f"{self.name}: label {labels[first]} at position {first} is outside "
                f"[0, {len(self.identities)}), the {len(self.identities)} identities given "
                f"({wrong.size} such labels)."
            )
        counts = np.bincount(labels, minlength=len(self.identities))
        empty = np.flatnonzero(counts == 0)
        if empty.size:
            raise ValueError(
                f"{self.name}: identity {self.identities[empty[0]]!r} has no images "
                f"({empty.size} such identities); leave them out of identities."
            )
        return labels.astype(np.int32)

    def _check_lengths(self) -> None:
        if not len(self.labels):
            raise ValueError(f"{self.name}: the data set is empty.")
        lengths = {"source": len(self.source), "ids": len(self.ids)}
        lengths |= {f"nuisances[{key!r}]": len(value) for key, value in self.nuisances.items()}
        for what, length in lengths.items():
            if length != len(self.labels):
                raise ValueError(
                    f"{self.name}: {len(self.labels)} labels but {length} in {what}; give one each."
                )

    def _check_names(self, what: str, names: tuple[str, ...]) -> None:
        if len(set(names)) == len(names):
            return
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"{self.name}: {twice!r} occurs twice in {what}; names must be unique.")

    def _check_array(self, source: np.ndarray) -> None:
        if source.ndim != 4:
            raise ValueError(
                f"{self.name}: an array source must be [N, H, W, c], got {list(source.shape)}; "
                "grey images need a last axis of 1: images[..., None]."
            )
        if np.issubdtype(source.dtype, np.floating):
            bad = np.flatnonzero(~np.isfinite(source).all(axis=(1, 2, 3)))
            if bad.size:
                raise ValueError(
                    f"{self.name}: image {self.ids[bad[0]]!r} holds NaN or infinity "
                    f"({bad.size} such images)."
                )
        elif source.dtype != np.uint8:
            raise ValueError(
                f"{self.name}: images must be uint8 in 0..255 or floating, got {source.dtype}."
            )


def _read_many(source: Any, indices: Sequence[int]) -> list[Any]:
    # Record files are read several at a time: one by one costs more.
    read = getattr(source, "read", None)
    return read(indices) if read is not None else [source[i] for i in indices]


def _rebuild(fields: dict[str, Any]) -> Dataset:
    return Dataset(**fields)


def hold_out(
    dataset: Dataset,
    *,
    fraction: float | None = None,
    groups: int | None = None,
    seed: int,
) -> tuple[Dataset, Dataset]:
    """(kept, held): the data set cut in two by identity, so that no identity is on both sides.

    Args:
      dataset: what to cut.
      fraction: share of the identities to hold out, in (0, 1); rounded, at least one on each side.
      groups: or a number of whole groups to hold out; the group of an identity is what stands
        before "/" in its name (an Omniglot alphabet).
      seed: which ones; the same seed holds out the same ones.

    >>> data = Dataset(name="toy", source=np.zeros((4, 1, 1, 1), np.uint8), labels=np.arange(4),
    ...                identities=("x/1", "x/2", "y/1", "y/2"), ids=("a", "b", "c", "d"))
    >>> kept, held = hold_out(data, groups=1, seed=0)
    >>> len(kept), len(held), {name[0] for name in held.identities} <= {"x", "y"}
    (2, 2, True)
    """
    if fraction is not None and groups is not None:
        raise ValueError("give fraction= (of the identities) or groups= (whole groups), not both.")
    rng = np.random.default_rng(seed)
    if fraction is not None:
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction must lie in (0, 1), got {fraction}.")
        if dataset.num_classes < 2:
            raise ValueError(f"{dataset.name} has one identity; nothing can be held out.")
        count = min(max(round(fraction * dataset.num_classes), 1), dataset.num_classes - 1)
        held = {dataset.identities[k] for k in rng.permutation(dataset.num_classes)[:count]}
    elif groups is not None:
        names = sorted({identity.split("/")[0] for identity in dataset.identities})
        if not 0 < groups < len(names):
            raise ValueError(
                f"{dataset.name} has {len(names)} groups (the part of an identity before '/'); "
                f"hold out 1 to {len(names) - 1}, got {groups}."
            )
        chosen = {names[k] for k in rng.permutation(len(names))[:groups]}
        held = {name for name in dataset.identities if name.split("/")[0] in chosen}
    else:
        raise ValueError("give fraction= (of the identities) or groups= (whole groups).")
    return (
        dataset.select([n for n in dataset.identities if n not in held], name=dataset.name),
        dataset.select([n for n in dataset.identities if n in held], name=f"{dataset.name}:held"),
    )


def check_disjoint(train: Dataset, test: Dataset) -> None:
    """Nothing, if no identity is in both; open-set results mean little otherwise.

    Raises:
      ValueError: shared identities, the first few named.

    >>> data = Dataset(name="toy", source=np.zeros((1, 1, 1, 1), np.uint8), labels=[0],
    ...                identities=("ann",), ids=("a",))
    >>> check_disjoint(data, data)
    Traceback (most recent call last):
    ValueError: toy and toy share 1 identity: 'ann'; evaluate on identities never trained on.
    """
    shared = sorted(set(train.identities) & set(test.identities))
    if shared:
        few = ", ".join(repr(name) for name in shared[:5]) + (", ..." if len(shared) > 5 else "")
        noun = "identity" if len(shared) == 1 else "identities"
        raise ValueError(
            f"{train.name} and {test.name} share {len(shared)} {noun}: {few}; "
            "evaluate on identities never trained on."
        )
