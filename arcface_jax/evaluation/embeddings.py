"""Embeddings and identity labels as every protocol wants them: checked, unit length, grouped."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Rows converted to float64 at a time.
ROWS = 65_536

# As in arcface_jax.geometry: a row no longer than this has no direction.
SHORTEST = 1e-12


def unit_rows(embeddings: ArrayLike, *, first: int = 0) -> NDArray[Any]:
    """Rows of unit length, normalised in float64; a row no longer than 1e-12 becomes zero.

    Args:
      embeddings: float[N, D] of any length; NumPy, JAX (bfloat16 too) or nested lists.
      first: number that the error gives to row 0, for callers who pass a part at a time.

    Returns:
      float32[N, D], or float64[N, D] for float64 embeddings.

    Raises:
      ValueError: not a matrix, or NaN or infinity in it (the first such row is named).

    >>> unit_rows([[3.0, 0.0], [0.0, 0.0]])
    array([[1., 0.],
           [0., 0.]])
    """
    given = np.asarray(embeddings)
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(
            f"expected embeddings [N, D], got shape {given.shape}; "
            "pass one row for each image (x.reshape(len(x), -1))."
        )
    unit = np.empty(given.shape, np.float64 if given.dtype == np.float64 else np.float32)
    for start in range(0, len(given), ROWS):
        rows = given[start : start + ROWS].astype(np.float64)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(largest))
        if bad.size:
            raise ValueError(
                f"embeddings[{first + start + bad[0]}] holds NaN or infinity; a ROC would hide it: "
                "find the image of this row, or lower the learning rate if training diverged."
            )
        # Squares of entries beyond 1e154 overflow; those of rows / largest do not.
        rows /= np.where(largest > 0.0, largest, 1.0)
        norm = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        counts = norm * largest > SHORTEST
        unit[start : start + ROWS] = np.where(counts, rows / np.where(counts, norm, 1.0), 0.0)
    return unit


def identity_labels(labels: ArrayLike, count: int) -> NDArray[np.int64]:
    """``labels`` as int64[count], each at least 0; they need not be dense.

    Raises:
      ValueError: not one integer per image, or a negative one (the first is named).

    >>> identity_labels([7, 7, 0], 3)
    array([7, 7, 0])
    """
    given = np.asarray(labels)
    if given.shape != (count,):
        raise ValueError(f"expected {count} labels, one for each embedding, got {given.shape}.")
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"labels number the identities, got dtype {given.dtype}; "
            "for names pass np.unique(names, return_inverse=True)[1]."
        )
    if given.size and given.min() < 0:
        first = int(np.argmax(given < 0))
        raise ValueError(
            f"labels[{first}] is {given[first]}; identities count from 0: "
            "drop padded and unlabelled rows first."
        )
    return given.astype(np.int64)


class ByIdentity(NamedTuple):
    """Images sorted by identity: row k is image ``order[k]``, its identity start[k]:end[k]."""

    order: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def by_identity(labels: NDArray[np.int64]) -> ByIdentity:
    """Sorts images by identity, in their own order within one.

    >>> by_identity(np.array([1, 0, 1]))
    ByIdentity(order=array([1, 0, 2]), start=array([0, 1, 1]), end=array([1, 3, 3]))
    """
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    return ByIdentity(
        order,
        np.searchsorted(ordered, ordered, side="left"),
        np.searchsorted(ordered, ordered, side="right"),
    )


def at_most_per_identity(labels: ArrayLike, count: int, *, seed: int) -> NDArray[np.int64]:
    """Indices, rising, of at most ``count`` images of each identity, drawn at random.

    >>> at_most_per_identity([4, 4, 4, 9], 2, seed=0).size
    3
    """
    if count < 2:
        raise ValueError(f"at most {count} images an identity leave no genuine pair; choose >= 2.")
    labels = np.asarray(labels)
    shuffled = np.random.default_rng(seed).permutation(labels.size)
    order, start, _ = by_identity(labels[shuffled])
    return np.sort(shuffled[order[np.arange(labels.size) - start < count]])
