"""Closed-set identification: is the nearest other image one of the same identity?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.all_pairs import BLOCK
from arcface_jax.evaluation.embeddings import by_identity, identity_labels, unit_rows


class RankOne(NamedTuple):
    """Rank-1 identification rate, leaving one image out at a time."""

    rate: float
    """Share of the probes whose most similar image is of their identity."""
    probes: int
    """Number of probes: the images that have a mate."""
    images: NDArray[np.int64]
    """int[probes], the image that each probe is."""
    hit: NDArray[np.bool_]
    """bool[probes], whether it was identified."""


def rank_one(embeddings: ArrayLike, labels: ArrayLike, *, block: int = BLOCK) -> RankOne:
    """Rank-1 rate with each image that has a mate as probe and all other images as gallery.

    The best mate must score strictly higher than every other identity: its rank is 1, plus the
    strangers above it, plus half of those equal to it. Images without a mate are no probes but
    stay in the gallery.

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N], identity of each image, at least 0.
      block: scores held at a time.

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), no identity with two images.

    >>> result = rank_one([[1.0, 0.0], [1.0, 0.25], [0.0, 1.0]], [0, 0, 1])
    >>> result.rate, result.probes
    (1.0, 2)
    """
    unit = unit_rows(embeddings)
    groups = by_identity(identity_labels(labels, len(unit)))
    unit = unit[groups.order]
    has_mate = groups.end - groups.start > 1
    if not has_mate.any():
        raise ValueError(
            "no image has a mate: every identity has one image; "
            "evaluate on identities with at least two."
        )
    hit = np.zeros(len(unit), bool)
    rows = max(1, block // len(unit))
    for a in range(0, len(unit), rows):
        b = min(len(unit), a + rows)
        row, first, last = np.arange(a, b)[:, None], groups.start[a], groups.end[b - 1]
        scores = unit[a:b] @ unit.T
        # Mates of these rows lie between the first and the last of their identities.
        near, column = scores[:, first:last], np.arange(first, last)[None, :]
        mine = (column >= groups.start[a:b, None]) & (column < groups.end[a:b, None])
        mate = np.where(mine & (column != row), near, -np.inf).max(axis=1)
        stranger = np.where(mine, -np.inf, near).max(axis=1)
        for rest in (scores[:, :first], scores[:, last:]):
            stranger = np.maximum(stranger, rest.max(axis=1, initial=-np.inf))
        hit[a:b] = mate > stranger
    images = groups.order[has_mate]
    ascending = np.argsort(images)
    hit = hit[has_mate][ascending]
    return RankOne(float(hit.mean()), hit.size, images[ascending], hit)
