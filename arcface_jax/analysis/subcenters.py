"""Which of a class's several centres stands for it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.embeddings import unit_rows


def dominant_centers(embeddings: ArrayLike, labels: ArrayLike, centers: ArrayLike) -> NDArray:
    """The centre of each class that most of its images are nearest to, float[C, D].

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N] in [0, C).
      centers: float[C, K, D]; float[C, D] is returned as it is.

    Returns:
      float[C, D]; the first centre wins a tie, and stands for a class without images.

    Source: Deng et al., Sub-center ArcFace (ECCV 2020), section 3.3.

    >>> centers = [[[1.0, 0.0], [0.0, 1.0]]]
    >>> dominant_centers([[0.1, 2.0], [0.0, 1.0], [1.0, 0.0]], [0, 0, 0], centers)
    array([[0., 1.]])
    """
    centers = np.asarray(centers)
    if centers.ndim == 2:
        return centers
    labels = np.asarray(labels)
    unit = unit_rows(np.asarray(embeddings).astype(np.float64))
    classes, k, dim = centers.shape
    rows = unit_rows(centers.reshape(-1, dim).astype(np.float64)).reshape(centers.shape)
    votes = np.zeros((classes, k), np.int64)
    for start in range(0, len(unit), 65_536):
        part = slice(start, start + 65_536)
        own = rows[labels[part]]
        nearest = np.einsum("nd,nkd->nk", unit[part], own).argmax(axis=1)
        np.add.at(votes, (labels[part], nearest), 1)
    return centers[np.arange(classes), votes.argmax(axis=1)]
