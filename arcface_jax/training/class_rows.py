"""Arrays with a row per class in a checkpoint: exactly C rows, a block at a time."""

from collections.abc import Awaitable
from typing import Any

import jax
import numpy as np
import tensorstore as ts
from jax import Array

# Of an array at a time, in memory and in each file.
BLOCK_BYTES = 16 * 2**20


class ClassRows:
    """Saves and loads arrays of C rows and padding; Orbax calls it for its part of a checkpoint.

    Each array becomes a Zarr store of C rows. Every process writes the rows that its devices hold,
    a block at a time, so that no second copy of an array is made. Loading gives each device its
    rows, on whatever devices there are then, and zeros behind the last class.

    Args:
      arrays: by name; on loading, shapes with shardings take their place.
      num_classes: C.
    """

    def __init__(self, arrays: dict[str, Any], *, num_classes: int):
        """Nothing is read or written yet."""
        self.arrays = arrays
        self.num_classes = num_classes

    async def save(self, directory: Any) -> Awaitable[None]:
        """Writes the arrays; the awaited result ends when they are on disk."""

        async def write() -> None:
            path = await directory.await_creation()
            for number, array in enumerate(self.arrays.values()):
                _write(array, f"{path}/{number}", num_classes=self.num_classes)

        return write()

    async def load(self, directory: Any) -> Awaitable[None]:
        """Replaces the shapes by what is stored."""

        async def read() -> None:
            self.arrays = {
                name: _read(shape, f"{directory}/{number}", num_classes=self.num_classes)
                for number, (name, shape) in enumerate(self.arrays.items())
            }

        return read()


def stored_shape(path: Any) -> tuple[int, ...]:
    """The shape of one array in a checkpoint's directory."""
    return tuple(_open(str(path)).shape)


def _open(path: str, **create: Any) -> ts.TensorStore:
    spec = {"driver": "zarr3", "kvstore": path if "://" in path else f"file://{path}"}
    return ts.open(spec, open=True, **create).result()


def _rows_in_block(shape: tuple[int, ...], dtype: Any) -> int:
    return max(1, BLOCK_BYTES // (np.dtype(dtype).itemsize * int(np.prod(shape[1:]))))


def _write(array: Array, path: str, *, num_classes: int) -> None:
    block = min(_rows_in_block(array.shape, array.dtype), num_classes)
    store = _open(
        path,
        create=True,
        dtype=ts.dtype(np.dtype(array.dtype)),
        shape=(num_classes, *array.shape[1:]),
        chunk_layout=ts.ChunkLayout(chunk_shape=(block, *array.shape[1:])),
    )
    for shard in array.addressable_shards:
        if shard.replica_id != 0:
            continue
        first, end, _ = shard.index[0].indices(array.shape[0])
        end = min(end, num_classes)
        for start in range(first, end, block):
            size = min(block, end - start)
            part = jax.lax.dynamic_slice_in_dim(shard.data, np.int32(start - first), size)
            store[start : start + size].write(np.asarray(part)).result()


def _read(shape: jax.ShapeDtypeStruct, path: str, *, num_classes: int) -> Array:
    store = _open(path)
    if tuple(store.shape) != (num_classes, *shape.shape[1:]):
        raise ValueError(
            f"{path} holds an array {tuple(store.shape)} and {(num_classes, *shape.shape[1:])} is "
            "wanted; the number of classes or the embedding's size has changed."
        )

    def rows(index: Any) -> np.ndarray:
        first, end, _ = index[0].indices(shape.shape[0])
        found = np.zeros((end - first, *shape.shape[1:]), shape.dtype)
        real = max(min(end, num_classes) - first, 0)
        if real:
            found[:real] = store[first : first + real].read().result()
        return found

    return jax.make_array_from_callback(shape.shape, shape.sharding, rows)
