"""Several centres per class: which one stands for the class, and which images are far from it.

Noisy images of a class gather at centres of their own, away from the dominant one, so they can be
told from clean ones after training: Deng et al., Sub-center ArcFace (ECCV 2020).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.analysis.angles import angle_deg, angle_histogram, checked_labels
from arcface_jax.evaluation.embeddings import unit_rows

# Entries of float64 embeddings held at a time.
ENTRIES = 4_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SubcenterStatistics:
    """Where N images lie among the K centres of their classes; angles in degrees, float64.

    Attributes:
      labels: int[N] in [0, C), as given.
      nearest: int[N] in [0, K), the centre of its class that each image is nearest to.
      nearest_deg: float[N], angle of each image to that centre.
      dominant_deg: float[N], angle of each image to the dominant centre of its class.
      counts: int[C, K], images nearest to each centre.
      dominant: int[C] in [0, K), the centre that most images of the class are nearest to; the
        first one wins a tie, and stands for a class without images.
      apart_deg: float[C, K, K], angles between the centres of a class.
      dominant_centers: float[C, D], the dominant centres as they were given.
    """

    labels: NDArray[np.int64]
    nearest: NDArray[np.int64]
    nearest_deg: NDArray[np.float64]
    dominant_deg: NDArray[np.float64]
    counts: NDArray[np.int64]
    dominant: NDArray[np.int64]
    apart_deg: NDArray[np.float64]
    dominant_centers: NDArray[Any]

    @property
    def on_dominant(self) -> NDArray[np.bool_]:
        """bool[N], images that are nearest to the dominant centre of their class."""
        return self.nearest == self.dominant[self.labels]

    @property
    def dominant_share(self) -> NDArray[np.float64]:
        """float[C], share of a class's images on its dominant centre; NaN without images."""
        images = self.counts.sum(axis=1)
        share = self.counts.max(axis=1) / np.maximum(images, 1)
        return np.where(images > 0, share, np.nan)

    def summary(self) -> dict[str, Any]:
        """The whole set in a few numbers, as JSON holds them.

        Means of classes are over those that have images; ``mean_apart_deg``, over all pairs of
        centres of a class, is None for K = 1. ``histograms`` counts ``dominant_deg`` by whole
        degrees, apart for images on a dominant centre and on another.
        """
        classes, k = self.counts.shape
        share, on_dominant = self.dominant_share, self.on_dominant
        pairs = self.apart_deg[:, *np.triu_indices(k, 1)]
        return {
            "images": self.labels.size,
            "classes": classes,
            "classes_without_images": int(np.isnan(share).sum()),
            "centers_per_class": k,
            "non_dominant_share": float(np.mean(~on_dominant)),
            "mean_dominant_share": float(np.nanmean(share)),
            "mean_dominant_deg": float(self.dominant_deg.mean()),
            "mean_nearest_deg": float(self.nearest_deg.mean()),
            "mean_apart_deg": float(pairs.mean()) if k > 1 else None,
            "histograms": {
                "edges_deg": list(range(181)),
                "on_dominant": angle_histogram(self.dominant_deg[on_dominant]).tolist(),
                "on_other": angle_histogram(self.dominant_deg[~on_dominant]).tolist(),
            },
        }


class Cleaned(NamedTuple):
    """What the drop rule leaves."""

    keep: NDArray[np.bool_]
    """bool[N], True for images that stay."""
    centers: NDArray[Any]
    """float[C, D], the dominant centre of every class, those without a kept image too."""


def subcenter_statistics(
    embeddings: ArrayLike, labels: ArrayLike, centers: ArrayLike
) -> SubcenterStatistics:
    """Which centre of its class each image is nearest to, and which one dominates each class.

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N] in [0, C).
      centers: float[C, K, D], of any length; float[C, D] counts as K = 1.

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), a label outside [0, C) (named).

    Source: Deng et al., Sub-center ArcFace (ECCV 2020), section 3.3.

    >>> found = subcenter_statistics(
    ...     [[0.0, 2.0], [0.0, 1.0], [1.0, 0.0]], [0, 0, 0], [[[1.0, 0.0], [0.0, 1.0]]])
    >>> found.nearest, found.dominant, found.dominant_deg
    (array([1, 1, 0]), array([1]), array([ 0.,  0., 90.]))
    >>> found.summary()["mean_dominant_share"] == 2 / 3
    True
    """
    given, embeddings = np.asarray(centers), np.asarray(embeddings)
    if given.ndim == 2:
        given = given[:, None]
    fit = embeddings.ndim == 2 and given.ndim == 3 and given.shape[2] == embeddings.shape[1]
    if not fit or 0 in embeddings.shape:
        raise ValueError(
            f"expected embeddings [N, D] and centers [C, K, D], got {embeddings.shape} and "
            f"{given.shape}; pass one row for each image and K rows for each class."
        )
    classes, k, dimension = given.shape
    rows = unit_rows(given.reshape(-1, dimension).astype(np.float64)).reshape(given.shape)
    checked = checked_labels(labels, len(embeddings), rows)

    block = max(1, ENTRIES // dimension)
    theta = np.empty((len(embeddings), k))
    for start in range(0, len(embeddings), block):
        part = slice(start, start + block)
        unit = unit_rows(embeddings[part].astype(np.float64), first=start)
        for j in range(k):
            theta[part, j] = angle_deg(unit, rows[checked[part], j])
    apart = np.zeros((classes, k, k))
    for start in range(0, classes, block):
        part = slice(start, start + block)
        for i, j in zip(*np.triu_indices(k, 1), strict=True):
            apart[part, i, j] = apart[part, j, i] = angle_deg(rows[part, i], rows[part, j])

    nearest = theta.argmin(axis=1)
    counts = np.bincount(checked * k + nearest, minlength=classes * k).reshape(classes, k)
    dominant = counts.argmax(axis=1)
    each = np.arange(len(theta))
    return SubcenterStatistics(
        labels=checked,
        nearest=nearest,
        nearest_deg=theta[each, nearest],
        dominant_deg=theta[each, dominant[checked]],
        counts=counts,
        dominant=dominant,
        apart_deg=apart,
        dominant_centers=given[np.arange(classes), dominant],
    )


def drop_rule(statistics: SubcenterStatistics, *, threshold_deg: float = 75.0) -> Cleaned:
    r"""Of each class its dominant centre, and the images that are near to it.

    An image stays if its angle to the dominant centre of its class is below the threshold,
    whichever centre it is nearest to:

    .. math:: \cos(\hat x_i, \hat W_{y_i, \mathrm{dominant}}) > \cos 75^\circ

    A class may lose all its images; `arcface_jax.data.Dataset.keep` packs the labels of the rest.
    The rule is meant to be applied once after training with K > 1, and ArcFace with one centre per
    class to be trained from scratch on what stays.

    Args:
      statistics: of the images, from `subcenter_statistics`.
      threshold_deg: in (0, 180]. Deng et al. tried 70 to 85; 75 was best, and 70 to 80 close.

    Raises:
      ValueError: a threshold out of range.

    Source: Deng et al., Sub-center ArcFace (ECCV 2020), section 3.3 and Table 3; insightface's
    ``drop.py`` has the same strict inequality.

    >>> centers = [[[1.0, 0.0], [0.0, 1.0]]]
    >>> images = [[0.0, 2.0], [0.0, 1.0], [1.0, 0.0]]
    >>> drop_rule(subcenter_statistics(images, [0, 0, 0], centers))
    Cleaned(keep=array([ True,  True, False]), centers=array([[0., 1.]]))
    """
    if not 0.0 < threshold_deg <= 180.0:
        raise ValueError(
            f"threshold_deg={threshold_deg:g} lies outside (0, 180]; 75 is usual, in degrees."
        )
    return Cleaned(statistics.dominant_deg < threshold_deg, statistics.dominant_centers)


def dominant_centers(embeddings: ArrayLike, labels: ArrayLike, centers: ArrayLike) -> NDArray[Any]:
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
    return subcenter_statistics(embeddings, labels, centers).dominant_centers
