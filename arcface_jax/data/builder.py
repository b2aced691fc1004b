"""TFDS builders that write ArrayRecord without TensorFlow, and the reader of what they wrote.

Examples hold the encoded bytes of an image, its label (class index within the split), its identity
and its id, in the order in which they are read back. Beside the records of a split lies
``index-SPLIT.npz`` with everything but the images, so that opening a data set touches no record.
"""

import contextlib
import dataclasses
import fcntl
import gzip
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.core.utils import tqdm_utils

from arcface_jax.data.dataset import Dataset
from arcface_jax.data.progress import shown

DATA_DIR_VARIABLE = "ARCFACE_PREPARED_DIR"
MANUAL_DIR_VARIABLE = "ARCFACE_DATA_DIR"

_DAMAGED = (zipfile.BadZipFile, tarfile.ReadError, gzip.BadGzipFile, zlib.error, EOFError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One image on its way into a prepared data set.

    Attributes:
      image: the encoded file.
      identity: whose image it is; labels count identities in the order of first appearance.
      id: unique image name.
      landmarks: float[5, 2], x and y in px of the stored image, or None.
      nuisances: what distinguishes this image from others of its identity, one float each.
    """

    image: bytes
    identity: str
    id: str
    landmarks: Any = None
    nuisances: Mapping[str, float] = dataclasses.field(default_factory=dict)


class ImageBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the data sets share; one of them states its archives and yields Examples per split.

    Not registered with TFDS, whose own catalogue has an ``omniglot`` and an ``lfw`` too.
    """

    VERSION = tfds.core.Version("1.0.0")
    # TFDS looks there for checksums of downloads, and needs importlib_resources to find the place.
    code_path = None
    ARCHIVES: ClassVar[Mapping[str, str]] = {}
    """Files wanted below manual_dir, each with where it comes from."""
    ENCODING: ClassVar[str] = "png"
    CHANNELS: ClassVar[int] = 3
    LANDMARKS: ClassVar[bool] = False
    NUISANCES: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def examples(
        cls, config: Any, manual_dir: Path | None
    ) -> Mapping[str, Callable[[], Iterable[Example]]]:
        """For each split, a function that yields its Examples."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "image": tfds.features.Image(
                shape=(None, None, self.CHANNELS), encoding_format=self.ENCODING
            ),
            "label": np.int32,
            "identity": tfds.features.Text(),
            "id": tfds.features.Text(),
        }
        if self.LANDMARKS:
            features["landmarks"] = tfds.features.Tensor(
                # An example's own floats have 32 bits; alignment wants the landmarks exactly.
                shape=(5, 2),
                dtype=np.float64,
                encoding=tfds.features.Encoding.BYTES,
            )
        if self.NUISANCES:
            features["nuisances"] = dict.fromkeys(self.NUISANCES, np.float32)
        return _LocalInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            # The trainer shuffles; a fixed order makes "image i" mean something.
            disable_shuffling=True,
        )

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        # TFDS warns of a config that is not in its list; ours are made of the caller's options.
        if isinstance(builder_config, tfds.core.BuilderConfig):
            return builder_config
        return super()._create_builder_config(builder_config, version)

    def _split_generators(self, dl_manager: Any):
        manual_dir = Path(dl_manager.manual_dir) if self.ARCHIVES else None
        splits = self.examples(self.builder_config, manual_dir)
        return {split: self._generate_examples(split, make) for split, make in splits.items()}

    def _generate_examples(self, split: str, make: Callable[[], Iterable[Example]]):
        labels: dict[str, int] = {}
        rows: list[tuple[str, int]] = []
        nuisances: list[list[float]] = []
        examples = shown(self._undamaged(make()), what=f"preparing {self.name}/{split}")
        for number, example in enumerate(examples):
            label = labels.setdefault(example.identity, len(labels))
            record: dict[str, Any] = {
                "image": example.image,
                "label": label,
                "identity": example.identity,
                "id": example.id,
            }
            if self.LANDMARKS:
                record["landmarks"] = np.asarray(example.landmarks, np.float64)
            if self.NUISANCES:
                record["nuisances"] = {key: example.nuisances[key] for key in self.NUISANCES}
                nuisances.append([example.nuisances[key] for key in self.NUISANCES])
            rows.append((example.id, label))
            yield number, record
        np.savez(
            Path(self.data_dir) / _index_name(split),
            ids=np.array([name for name, _ in rows]),
            labels=np.array([label for _, label in rows], np.int32),
            identities=np.array(list(labels)),
            nuisance_names=np.array(self.NUISANCES, str),
            nuisances=np.array(nuisances, np.float32).reshape(len(rows), len(self.NUISANCES)),
        )

    def _undamaged(self, examples: Iterable[Example]) -> Iterator[Example]:
        try:
            yield from examples
        except _DAMAGED as error:
            raise ValueError(
                f"{self.name}: an original archive is damaged ({type(error).__name__}: {error}); "
                f"fetch again: {', '.join(self.ARCHIVES)}."
            ) from None

    # TFDS announces downloads in bold on stdout; there are none here.
    def _log_download_bytes(self) -> None:
        pass

    def _log_download_done(self) -> None:
        pass


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing: these data sets are in no bucket, and each look leaves a directory in /tmp."""


class Records:
    """The images of one prepared split, decoded by ``decoder(record)`` when asked.

    Can be pickled for data workers: the files are opened where they are read.
    """

    def __init__(self, directory: str, *, split: str, decoder: Callable[[Any], Any]):
        """Open the split in a prepared data set's directory."""
        self._directory, self._split, self._decoder = directory, split, decoder
        self._opened: Any = None
        self._length = len(self._source[0])

    @property
    def _source(self) -> Any:
        if self._opened is None:
            builder: Any = read_only_builder.ReadOnlyBuilder(builder_dir=self._directory)
            stored: Any = builder.info.features
            wanted = {key: stored[key] for key in ("image", "landmarks") if key in stored}
            features = tfds.features.FeaturesDict(wanted)
            records = builder.as_data_source(
                self._split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
            self._opened = records, features
        return self._opened

    def __len__(self) -> int:
        """Number of images in the split."""
        return self._length

    def __getitem__(self, index):
        """Image ``index``, uint8[H, W, c]."""
        records, features = self._source
        return self._decoded(features, records[int(index)])

    def read(self, indices: Sequence[int]) -> list[Any]:
        """Several images, read from the files at once."""
        records, features = self._source
        raw = records.__getitems__([int(i) for i in indices])
        return [self._decoded(features, record) for record in raw]

    def _decoded(self, features, record: bytes):
        # Only what the decoder needs is parsed: thirty nuisances would take longer than the image.
        skip = {"image": tfds.decode.SkipDecoding()}
        return self._decoder(features.deserialize_example_np(record, decoders=skip))

    def __getstate__(self):
        """Everything but the open files."""
        return self.__dict__ | {"_opened": None}


def prepare(
    builder_class: type[ImageBuilder],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    config: Any = None,
) -> Path:
    """The directory of the prepared data set, written now if it isn't there.

    A data set is written beside its place and renamed when complete, by one process at a time: a
    build that is cut off leaves nothing that looks finished, and a second process waits.

    Raises:
      FileNotFoundError: archives are missing; all of them, where they were looked for and where
        they come from are listed.
      PermissionError: data_dir can't be written.
    """
    root = Path(data_dir or os.environ.get(DATA_DIR_VARIABLE) or "~/.cache/arcface_jax")
    root = root.expanduser()
    directory = Path(root, builder_class.name, *([config.name] if config else []))
    directory = directory / str(builder_class.VERSION)
    if _is_complete(directory):
        return directory
    originals = _find_archives(builder_class, manual_dir)
    try:
        with _locked(root, builder_class.name):
            if not _is_complete(directory):
                _remove_leftovers(directory)
                _build(builder_class(data_dir=root, config=config), originals)
    except OSError as error:
        if not str(error.filename).startswith(str(root)):
            raise
        raise PermissionError(
            f"can't write prepared data sets to {root} ({error.strerror}: {error.filename}); give "
            f"a writable data_dir= or set {DATA_DIR_VARIABLE}."
        ) from None
    return directory


def open_split(directory: Path, *, name: str, split: str, decoder: Callable[[Any], Any]) -> Dataset:
    """The Dataset of one prepared split; images are decoded by ``decoder`` when asked."""
    with np.load(directory / _index_name(split)) as index:
        columns = dict(zip(index["nuisance_names"].tolist(), index["nuisances"].T, strict=True))
        return Dataset(
            name=f"{name}/{split}",
            source=Records(str(directory), split=split, decoder=decoder),
            labels=index["labels"],
            identities=tuple(index["identities"].tolist()),
            ids=tuple(index["ids"].tolist()),
            nuisances=columns,
        )


def join(parts: Sequence[Dataset], *, name: str) -> Dataset:
    """Several data sets as one; identities of the same name become one."""
    label: dict[str, int] = {}
    for part in parts:
        for identity in part.identities:
            label.setdefault(identity, len(label))
    return Dataset(
        name=name,
        source=Joined(tuple(part.source for part in parts)),
        labels=np.concatenate(
            [np.array([label[i] for i in part.identities])[part.labels] for part in parts]
        ),
        identities=tuple(label),
        ids=tuple(name for part in parts for name in part.ids),
        aligned=all(part.aligned for part in parts),
    )


@dataclasses.dataclass(frozen=True)
class Joined:
    """Sources one after the other."""

    sources: tuple[Any, ...]

    def __len__(self) -> int:
        """Number of images in all of them."""
        return sum(len(source) for source in self.sources)

    def __getitem__(self, index):
        """Image ``index``, uint8[H, W, c]."""
        for source in self.sources:
            if index < len(source):
                return source[index]
            index -= len(source)
        raise IndexError("no such image.")


def originals_dir(manual_dir: str | os.PathLike[str] | None) -> Path | None:
    """Where the original archives lie: the argument, else $ARCFACE_DATA_DIR, else None."""
    where = manual_dir or os.environ.get(MANUAL_DIR_VARIABLE)
    return Path(where).expanduser() if where else None


def missing_files(
    name: str, files: Mapping[str, str], looked_in: Path | None
) -> FileNotFoundError | None:
    """The error that lists which ``files`` are not below ``looked_in``; None if all are there."""
    missing = [f for f in files if looked_in is None or not (looked_in / f).is_file()]
    if not missing:
        return None
    lines = "\n".join(f"  {f}   (from {files[f]})" for f in missing)
    where = looked_in or f"nowhere: neither manual_dir= nor {MANUAL_DIR_VARIABLE} is set"
    return FileNotFoundError(
        f"{name} needs original files that were not found:\n{lines}\nLooked in: {where}\n"
        f"Put them there, or name another directory with manual_dir= or {MANUAL_DIR_VARIABLE}."
    )


def _find_archives(builder_class: type[ImageBuilder], manual_dir) -> Path | None:
    where = originals_dir(manual_dir)
    error = missing_files(builder_class.name, builder_class.ARCHIVES, where)
    if error is not None:
        raise error
    return where


def _is_complete(directory: Path) -> bool:
    return (directory / "dataset_info.json").is_file()


def _build(builder: ImageBuilder, manual_dir: Path | None) -> None:
    bar_was_on = tqdm_utils._active
    tfds.disable_progress_bar()
    try:
        # TFDS wants a place for downloads, though nothing is downloaded.
        with tempfile.TemporaryDirectory() as scratch:
            builder.download_and_prepare(
                download_dir=scratch,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual_dir, try_download_gcs=False
                ),
                file_format="array_record",
            )
    finally:
        tqdm_utils.display_progress_bar(bar_was_on)


@contextlib.contextmanager
def _locked(root: Path, name: str) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{name}.lock", "w") as lock:
        # The kernel drops the lock when its holder dies, so no stale lock can block.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(data_dir: Path) -> None:
    for leftover in data_dir.parent.glob(f"incomplete.*_{data_dir.name}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _index_name(split: str) -> str:
    return f"index-{split}.npz"
