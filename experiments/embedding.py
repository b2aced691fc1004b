"""Embedding many images: batches, a progress line, errors that name the image, files.

Imports no JAX: the entry points read its flag before JAX may start.
"""

import concurrent.futures
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from experiments.finite import refuse_unfinite

if TYPE_CHECKING:
    from arcface_jax.data import Dataset
    from arcface_jax.embedder import Embedder

# Of a network that comes from a file.
DAMAGED = "the weights are damaged"

BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 64, "Images at a time; changes time and memory only.", lower_bound=1
)


def embed_batches(
    embedder: "Embedder",
    batches: Iterator[np.ndarray],
    *,
    total: int,
    batch_size: int,
    what: str,
) -> np.ndarray:
    """float32[N, D], not normalised, of the images of all batches.

    Args:
      embedder: the network.
      batches: uint8[n, size, size, c] each, n at most ``batch_size``; the next is made in a thread
        while one is embedded.
      total: number of images, for the progress line on stderr, and an upper bound of N.
      batch_size: the number that the network is compiled for.
      what: begins the progress line.
    """
    from arcface_jax.data.progress import shown

    size = min(batch_size, total)
    parts = [np.empty((0, embedder.model.config.embedding_dim), np.float32)]
    for images in shown(_one_ahead(batches), what=what, total=total, step=size):
        # A shorter batch would be compiled for anew.
        filled = np.pad(images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0)))
        parts.append(embedder(filled, batch_size=size)[: len(images)])
    return np.concatenate(parts)


def embed_dataset(embedder: "Embedder", dataset: "Dataset", *, batch_size: int) -> np.ndarray:
    """float32[N, D], not normalised, of every image in order.

    Raises:
      ValueError: an image that cannot be read or breaks the contract, or an embedding that is not
        finite; the image is named.
    """
    count = len(dataset)
    batches = (
        dataset.images(range(start, min(start + batch_size, count)))
        for start in range(0, count, batch_size)
    )
    embeddings = embed_batches(
        embedder, batches, total=count, batch_size=batch_size, what=f"embedding {dataset.name}"
    )
    refuse_unfinite(embeddings, dataset.ids, cause=DAMAGED)
    return embeddings


def write_embeddings(
    path: Path, embeddings: np.ndarray, ids: Sequence[str], embedder: "Embedder", **more: Any
) -> None:
    """Writes .npz: ``embeddings`` float32[N, D], ``ids``, the contract as JSON, and ``more``."""
    from experiments.files import write_arrays

    contract = json.dumps(embedder.preprocessing.to_json())
    arrays = {"embeddings": embeddings, "ids": np.array(ids), "preprocessing": np.array(contract)}
    write_arrays(path, arrays | more)


def _one_ahead[T](items: Iterator[T]) -> Iterator[T]:
    """The same items; the next is made in a thread while the last one is used."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
