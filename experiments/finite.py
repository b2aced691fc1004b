"""Embeddings that are numbers."""

from collections.abc import Sequence

import numpy as np


def refuse_unfinite(embeddings: np.ndarray, ids: Sequence[str], *, cause: str) -> None:
    """Nothing, if all numbers are finite.

    Raises:
      ValueError: some are not; the first image is named, and ``cause``.

    >>> refuse_unfinite(np.array([[1.0], [np.inf]]), ["a.jpg", "b.jpg"], cause="too bright")
    Traceback (most recent call last):
    ValueError: the embedding of image 'b.jpg' is not finite (1 of 2 are not); too bright.
    """
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if bad.size:
        raise ValueError(
            f"the embedding of image {ids[bad[0]]!r} is not finite ({bad.size} of "
            f"{len(embeddings)} are not); {cause}."
        )
