"""How PyTorch pickles tensors: as views (offset, size, strides) of storages that lie elsewhere."""

import math
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Any

import ml_dtypes
import numpy as np

from arcface_jax.convert.restricted_pickle import NO_CODE, Hidden, Name, read_pickle, set_item

DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "CharStorage": np.dtype(np.int8),
    "ShortStorage": np.dtype(np.int16),
    "IntStorage": np.dtype(np.int32),
    "LongStorage": np.dtype(np.int64),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
STORAGE_NAMES = {dtype.name: name for name, dtype in DTYPES.items()}
# Tensors may share elements (tied weights, expand), so their sum may exceed the file; a few bytes
# of file that ask for terabytes may not.
_SHARED_BYTES = 2**28
_SHARED_FACTOR = 4


class Storage(Hidden):
    """Raw data that is still in the file, and the arrays waiting for it.

    Args:
      key: its name in the file.
      dtype: of its elements.
      count: how many.
    """

    def __init__(self, key: str, dtype: np.dtype, count: int):
        self.key, self.dtype, self.count = key, dtype, count
        self.views: list[tuple[np.ndarray, int, list[int]]] = []

    @property
    def nbytes(self) -> int:
        """Length of its data."""
        return self.count * self.dtype.itemsize

    def fill_views(self, data: bytes, byteorder: str) -> None:
        """Copies the data, of ``nbytes`` bytes and this order, into the arrays."""
        size = self.dtype.itemsize
        if byteorder != sys.byteorder and data:
            data = np.frombuffer(data, f"u{size}").byteswap().tobytes()
        for array, offset, strides in self.views:
            steps = [step * size for step in strides]
            array[...] = np.ndarray(array.shape, self.dtype, data, offset * size, steps)
        self.views.clear()


class Tensors:
    """The tensors and storages that a file's pickle tells of.

    Args:
      file_bytes: length of the file, a bound on what its pickle may claim.
    """

    def __init__(self, file_bytes: int):
        self.storages: dict[str, Storage] = {}
        self._file_bytes = file_bytes
        self._allowed = _SHARED_FACTOR * file_bytes + _SHARED_BYTES

    def unpickle(self, stream: IO[bytes]) -> Any:
        """The object; whoever then reads the data gives them to each storage's ``fill_views``.

        Raises:
          ValueError: something that is neither plain data nor a tensor, or a tensor outside of its
            storage.
        """
        return read_pickle(stream, name=self._name, persistent=self._storage)

    def _name(self, name: str) -> Name:
        calls = {
            "collections.OrderedDict": _ordered_dict,
            "torch.Size": _size,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
        }
        if name in calls:
            return Name(name, calls[name])
        if name.removeprefix("torch.") in DTYPES:
            return Name(name.removeprefix("torch."))
        raise refused(name)

    def _storage(self, identity: Any) -> Storage:
        # An array of no axes is a sequence by its type, but has no length to match.
        match identity if isinstance(identity, tuple) else ():
            case ("storage", Name(name=name), str(key), _, int(count), *view) if name in DTYPES:
                # Files of PyTorch 0.1 have storages inside of storages.
                if any(part is not None for part in view):
                    raise ValueError("a storage is a part of another; re-save with PyTorch >= 1.")
            case _:
                raise ValueError(f"a persistent id does not name a storage; {NO_CODE}")
        dtype = DTYPES[name]
        known = self.storages.setdefault(key, Storage(key, dtype, count))
        if (known.dtype, known.count) != (dtype, count):
            raise ValueError(
                f"storage {key!r} has {known.count} elements of {known.dtype}, and elsewhere "
                f"{count} of {dtype}."
            )
        if not 0 <= known.nbytes <= self._file_bytes:
            raise ValueError(
                f"storage {key!r} claims {count} elements of {dtype}, but the file has "
                f"{self._file_bytes} bytes."
            )
        return known

    def _tensor(self, arguments: tuple) -> np.ndarray:
        match arguments:
            case (Storage() as storage, offset, tuple(size), tuple(strides), _, _, *metadata):
                pass
            case _:
                raise ValueError("a tensor is not made of storage, offset, size and strides.")
        numbers = (offset, *size, *strides)
        if len(size) != len(strides) or not all(
            type(number) is int and 0 <= number < 2**63 for number in numbers
        ):
            raise ValueError("offset, size and strides of a tensor are no whole numbers >= 0.")
        if any(not isinstance(flags, dict) or flags for flags in metadata):
            raise ValueError("a tensor is a negated or conjugated view; re-save its clone().")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, strides, strict=True))
        if count and last >= storage.count:
            raise ValueError(
                f"a tensor of shape {list(size)}, strides {list(strides)} and offset {offset} "
                f"reaches element {last} of storage {storage.key!r}, which has {storage.count}."
            )
        self._allowed -= count * storage.dtype.itemsize
        if self._allowed < 0:
            raise ValueError(
                f"its tensors repeat the elements of {self._file_bytes} bytes more than "
                f"{_SHARED_FACTOR} times; re-save contiguous tensors."
            )
        array = np.empty(size, storage.dtype)
        if count:
            # The stride of an axis of length 1 is never used, and may be any number.
            used = [step if n > 1 else 0 for n, step in zip(size, strides, strict=True)]
            storage.views.append((array, offset, used))
        return array


def _ordered_dict(arguments: tuple) -> OrderedDict:
    made = OrderedDict()
    match arguments:
        case ():
            pass
        # Python 2 gave the items here.
        case (list(items),) if all(isinstance(i, list | tuple) and len(i) == 2 for i in items):
            for key, value in items:
                set_item(made, key, value)
        case _:
            raise ValueError("an OrderedDict is made of something else than its items.")
    return made


def _size(arguments: tuple) -> tuple:
    match arguments:
        case (tuple(size),) if all(type(n) is int for n in size):
            return size
    raise ValueError("a torch.Size is not made of whole numbers.")


def _parameter(arguments: tuple) -> np.ndarray:
    match arguments:
        case (np.ndarray() as data, _, _) | (np.ndarray() as data, _, _, _):
            return data
    raise ValueError("a Parameter is not made of a tensor.")


def refused(name: str) -> ValueError:
    """The error for a global that is not known, to be raised.

    >>> print(refused("torch._utils._rebuild_sparse_tensor"))
    it holds sparse tensors (torch._utils._rebuild_sparse_tensor); re-save them to_dense().
    """
    shown = name if len(name) < 200 else f"{name[:200]}..."
    if "_rebuild_qtensor" in name or name.startswith(("torch.QInt", "torch.QUInt")):
        return ValueError(f"it holds quantised tensors ({shown}); re-save them dequantize()d.")
    if "_rebuild_sparse" in name:
        return ValueError(f"it holds sparse tensors ({shown}); re-save them to_dense().")
    if name == "torch._utils._rebuild_tensor_v3" or name.endswith("Storage"):
        known = ", ".join(sorted(STORAGE_NAMES))
        return ValueError(f"it holds a tensor of another dtype ({shown}) than {known}.")
    return ValueError(f"it names {shown}, which it wants called or looked up; {NO_CODE}")


def writable(name: Any, array: Any) -> np.ndarray:
    """The array in C order and the machine's byte order.

    Raises:
      ValueError: a name that is no str, or a dtype that PyTorch's storages do not have.

    >>> writable("w", np.ones((2, 3), ">f4").T).strides
    (8, 4)
    """
    array = np.asarray(array)
    if not isinstance(name, str):
        raise ValueError(f"names of a state dict are str, got {name!r}.")
    if array.dtype.name not in STORAGE_NAMES:
        raise ValueError(
            f"{name} is {array.dtype}; cast it to one of {', '.join(sorted(STORAGE_NAMES))}."
        )
    return np.asarray(array, DTYPES[STORAGE_NAMES[array.dtype.name]], order="C")


def state_dict_pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    r"""What torch.save pickles for an OrderedDict of CPU tensors, storage k for the k-th.

    Args:
      arrays: each `writable`.

    >>> state_dict_pickle({})
    b'\x80\x02ccollections\nOrderedDict\n)R(u.'
    """
    ordered_dict = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", ordered_dict, b"("]
    for key, (name, array) in enumerate(arrays.items()):
        contiguous = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
        storage_name = STORAGE_NAMES[array.dtype.name]
        parts += [
            _text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            b"(" + _text("storage") + f"ctorch\n{storage_name}\n".encode(),
            _text(str(key)) + _text("cpu") + _integer(array.size) + b"tQ",
            _integer(0),
            b"(" + b"".join(map(_integer, array.shape)) + b"t",
            b"(" + b"".join(map(_integer, contiguous)) + b"t",
            b"\x89" + ordered_dict + b"tR",
        ]
    return b"".join([*parts, b"u."])


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    if value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)
