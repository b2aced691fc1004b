"""Files of ``torch.save``, read and written without PyTorch.

Two containers hold the same things: a pickle in which a tensor is a view (offset, size, strides) of
a storage, and the storages as raw data. The newer container is a ZIP archive, the older one a row
of pickles with the data behind them.
"""

import io
import mmap
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from arcface_jax.convert.restricted_pickle import NO_CODE, read_pickle
from arcface_jax.convert.torch_pickle import Tensors, refused, state_dict_pickle, writable
from arcface_jax.whole_file import whole_file

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    UnicodeDecodeError,
    struct.error,
)
_ZIP_HEADER, _ZIP_EXTRA, _ZIP64_EXTRA, _ALIGNMENT = 30, 4, 20, 64  # bytes


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """The object that ``torch.save`` stored, its tensors as NumPy arrays; nothing is executed.

    Both containers are read: ZIP, and the older one (``_use_new_zipfile_serialization=False``).
    Tensors and Parameters of the dtypes float64, float32, float16, bfloat16, int64, int32, int16,
    int8, uint8 and bool may be in dict, OrderedDict, list and tuple with str, int, float, bool and
    None. Device, ``requires_grad`` and attributes such as ``state_dict._metadata`` are dropped.

    Args:
      path: of the file.

    Returns:
      The object; every array is a C-contiguous copy of its own, 0-d for a scalar.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file, one with code in it (what it names is told), TorchScript, a file
        that is cut off or damaged, or tensors that do not fit their storage or are of another kind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_torch_file(f"{folder}/model.pt", {"fc.bias": np.zeros(3, np.float32)})
    ...     read_torch_file(f"{folder}/model.pt")["fc.bias"]
    array([0., 0., 0.], dtype=float32)
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        try:
            if start == b"PK":
                return _read_zip(file, os.fstat(file.fileno()).st_size)
            if start[:1] == pickle.PROTO:
                # A map never reads more than there is; a file would allocate what is asked for.
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
                    return _read_legacy(cast(IO[bytes], stream), len(stream))
            raise ValueError(
                "not a PyTorch file: it begins neither as a ZIP archive nor as a pickle, but with "
                f"{start.hex() or 'nothing'}."
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def write_torch_file(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes arrays as a state dict that ``torch.load(path, weights_only=True)`` reads.

    Args:
      path: of the file; one that is there is replaced when the new one is whole.
      arrays: names and arrays of a dtype that `read_torch_file` knows, in any memory layout.

    Raises:
      ValueError: a name that is no str, or an array of another dtype.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_torch_file(f"{folder}/model.pt", {"step": np.array(7), "w": np.ones((2, 3))})
    ...     {name: w.shape for name, w in read_torch_file(f"{folder}/model.pt").items()}
    {'step': (), 'w': (2, 3)}
    """
    named = {name: writable(name, array) for name, array in arrays.items()}
    with whole_file(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in _entries(named):
            _write_entry(archive, name, data, begin=file.tell())


def _read_legacy(stream: IO[bytes], file_bytes: int) -> Any:
    def plain() -> Any:
        return read_pickle(stream, name=_raise_refused, persistent=_raise_refused)

    if plain() != _MAGIC:
        raise ValueError("not a PyTorch file: a pickle without PyTorch's magic number.")
    if plain() != _PROTOCOL:
        raise ValueError(f"another protocol of PyTorch than {_PROTOCOL}, the only one known.")
    plain()  # Byte order and sizes of the writer's integers: the data below have their own.
    tensors = Tensors(file_bytes)
    stored = tensors.unpickle(stream)
    keys = plain()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("the list of its storages is damaged.")
    if sorted(keys) != sorted(tensors.storages):
        raise ValueError(
            f"its list names {len(keys)} storages, its tensors {len(tensors.storages)}, and they "
            "are not the same."
        )
    for number, key in enumerate(keys):
        storage, begin = tensors.storages[key], stream.tell()
        if file_bytes - begin < 8 + storage.nbytes:
            raise ValueError(
                f"cut off: storage {number} of {len(keys)} takes {8 + storage.nbytes} bytes from "
                f"byte {begin}, but the file ends at {file_bytes}."
            )
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.count:
            raise ValueError(
                f"storage {key!r} has {count} elements by the count at byte {begin}, and "
                f"{storage.count} by its tensors."
            )
        storage.fill_views(stream.read(storage.nbytes), "little")
    return stored


def _raise_refused(name: Any) -> Any:
    raise refused(name if isinstance(name, str) else "a persistent id")


def _read_zip(file: IO[bytes], file_bytes: int) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive, file_bytes)
    # What zipfile raises on damaged archives; opening the file is behind us.
    except _ZIP_ERRORS as error:
        hint = " or saved with set_crc32_options(False)" if "CRC" in str(error) else ""
        raise ValueError(
            f"a ZIP archive that is damaged or cut off{hint}; its directory lies at the end, the "
            f"file has {file_bytes} bytes ({error})."
        ) from None


def _read_archive(archive: zipfile.ZipFile, file_bytes: int) -> Any:
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(
            f"not a PyTorch file: a ZIP archive with {len(roots)} entries data.pkl where there "
            "should be one."
        )
    root = roots[0]

    def entry(name: str) -> bytes:
        try:
            info = archive.getinfo(root + name)
        except KeyError:
            raise ValueError(f"its entry {root + name} is missing.") from None
        # PyTorch compresses nothing, and a small entry could claim to unpack to any size.
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"its entry {root + name} is compressed or encrypted; re-save it.")
        if not info.file_size == info.compress_size <= file_bytes:
            raise ValueError(
                f"its entry {root + name} claims {info.file_size} bytes, the file has {file_bytes}."
            )
        return archive.read(info)

    if root + "constants.pkl" in names or any(name.startswith(root + "code/") for name in names):
        raise ValueError(f"a TorchScript archive, which holds a program; {NO_CODE}")
    byteorder = entry("byteorder").decode() if root + "byteorder" in names else "little"
    if byteorder not in ("little", "big"):
        raise ValueError(f"its byte order is {byteorder!r:.20}, neither little nor big.")
    tensors = Tensors(file_bytes)
    stored = tensors.unpickle(io.BytesIO(entry("data.pkl")))
    for key, storage in tensors.storages.items():
        data = entry(f"data/{key}")
        if len(data) != storage.nbytes:
            raise ValueError(
                f"storage {key!r} has {len(data)} bytes, its tensors say {storage.count} elements "
                f"of {storage.dtype}."
            )
        storage.fill_views(data, byteorder)
    return stored


def _entries(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, bytes | memoryview]]:
    """Names and contents, in PyTorch's order."""
    yield "data.pkl", state_dict_pickle(arrays)
    yield "byteorder", sys.byteorder.encode()
    for key, array in enumerate(arrays.values()):
        yield f"data/{key}", array.reshape(-1).view(np.uint8).data
    yield "version", b"3\n"


def _write_entry(
    archive: zipfile.ZipFile, name: str, data: bytes | memoryview, *, begin: int
) -> None:
    """Adds an entry, at ``begin`` in the file; its data lie at a multiple of 64 bytes."""
    info = zipfile.ZipInfo(f"archive/{name}")
    large = len(data) > zipfile.ZIP64_LIMIT
    header = _ZIP_HEADER + len(info.filename) + _ZIP_EXTRA + (_ZIP64_EXTRA if large else 0)
    # The padding is an extra field of the entry, called FB as PyTorch does.
    padding = -(begin + header) % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=large) as entry:
        entry.write(data)
