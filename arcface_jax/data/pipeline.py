"""Batches for the trainer, from Grain, and for the evaluation.

Shuffling, repetition and batching run over image numbers alone; a whole batch is then read and
augmented at once. That is faster than one image at a time for images in memory, and what
comes out depends on (seed, step) only, however many threads or processes work.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from arcface_jax.data.augmentation import image_keys
from arcface_jax.data.dataset import Dataset


class Batches(grain.DatasetIterator):
    """An endless iterator over training batches, whose state is the number of the next step.

    Saved with a checkpoint (it is a Grain iterator, so Orbax can), it goes on with exactly the
    batch that would have come, also with another number of workers.
    """

    def __init__(self, make: Callable[[int], Any], *, start: int):
        """Begin with step ``start``; ``make(step)`` gives Grain's data set from there on."""
        super().__init__()
        self._make, self._next_step = make, start
        self._running: Any = None

    def __next__(self) -> dict[str, np.ndarray]:
        """{"image": uint8[B, H, W, c], "label": int32[B]} of the next step."""
        self._assert_not_closed()
        if self._running is None:
            self._running = iter(self._make(self._next_step))
        batch = next(self._running)
        self._next_step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """{"next_step": number of the batch that comes next}."""
        return {"next_step": self._next_step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue with the batch of ``state["next_step"]``."""
        self._stop()
        self._next_step = int(state["next_step"])

    def close(self) -> None:
        """End the threads or processes; the iterator can't be used after."""
        self._stop()
        super().close()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


def batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    augmentation: Callable[..., Any] | None = None,
    workers: int = 0,
    start: int = 0,
) -> Batches:
    """Endless training batches, every image once an epoch, in a new order each epoch.

    Epochs follow each other without a gap: a batch may hold the end of one and the start of the
    next, so no image is ever left out.

    Args:
      dataset: what to train on; ``dataset.in_memory()`` first where it fits.
      batch_size: B.
      seed: fixes the order and every augmentation.
      augmentation: called with images [B, H, W, c] and ``keys=`` uint64[B]; see
        :class:`~arcface_jax.data.augmentation.Augmentation`.
      workers: 0 prepares batches in background threads; n > 0 in n processes (worth it where
        decoding is the bottleneck; the data set is copied to each).
      start: number of the first step wanted, to resume without state.

    Returns:
      An iterator of {"image": uint8[B, H, W, c], "label": int32[B]} with ``get_state``,
      ``set_state`` and ``close``.

    >>> data = Dataset(name="toy", source=np.zeros((3, 2, 2, 1), np.uint8), labels=[0, 1, 2],
    ...                identities=("a", "b", "c"), ids=("a1", "b1", "c1"))
    >>> it = batches(data, batch_size=3, seed=0)
    >>> sorted(next(it)["label"].tolist()), it.get_state()
    ([0, 1, 2], {'next_step': 1})
    >>> it.close()
    """
    for what, value, least in (
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
        ("start", start, 0),
    ):
        if value < least:
            raise ValueError(f"{what} must be at least {least}, got {value}.")
    load = _LoadBatch(dataset=dataset, seed=seed, augmentation=augmentation)
    steps = (
        grain.MapDataset.range(len(dataset))
        .seed(seed % 2**32)
        .shuffle()
        .repeat()
        .batch(batch_size, drop_remainder=True)
        .map_with_index(load)
    )
    # Two threads keep one batch ahead of the device; decoding can use every core.
    threads = 2 if isinstance(dataset.source, np.ndarray) else (os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)

    def make(first: int):
        here = (steps[first:] if first else steps).to_iter_dataset(options)
        if not workers:
            return here
        # Grain reads absl flags in its workers; outside absl.app nobody has parsed them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        return here.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))

    return Batches(make, start=start)


def evaluation_batches(dataset: Dataset, *, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Every image once, in order; the last batch is filled up with copies whose mask is False.

    Yields:
      {"image": uint8[B, H, W, c], "label": int32[B] (-1 where filled), "mask": bool[B]}.

    >>> data = Dataset(name="toy", source=np.zeros((3, 2, 2, 1), np.uint8), labels=[0, 1, 2],
    ...                identities=("a", "b", "c"), ids=("a1", "b1", "c1"))
    >>> [batch["mask"].tolist() for batch in evaluation_batches(data, batch_size=2)]
    [[True, True], [True, False]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    for step in range(math.ceil(len(dataset) / batch_size)):
        wanted = np.arange(step * batch_size, (step + 1) * batch_size)
        mask = wanted < len(dataset)
        indices = np.minimum(wanted, len(dataset) - 1)
        yield {
            "image": dataset.images(indices),
            "label": np.where(mask, dataset.labels[indices], -1).astype(np.int32),
            "mask": mask,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LoadBatch:
    """(step, image numbers) -> batch; a class, so that it can be sent to worker processes."""

    dataset: Dataset
    seed: int
    augmentation: Callable[..., Any] | None

    def __call__(self, step: int, indices):
        indices = np.asarray(indices, np.int64)
        images = self.dataset.images(indices)
        if self.augmentation is not None:
            position = step * len(indices) + np.arange(len(indices))
            keys = image_keys(indices, position // len(self.dataset), seed=self.seed)
            images = self.augmentation(images, keys=keys)
        return {"image": images, "label": self.dataset.labels[indices]}
