r"""Angle statistics of embeddings and class centres, in degrees and float64.

An angle is taken from two vectors as :math:`2\,\mathrm{atan2}(\lVert a - b \rVert,
\lVert a + b \rVert)`, exact near 0 and 180 degrees where the arccosine loses half the digits. A
vector of length zero is at 90 degrees to everything.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arcface_jax.evaluation.embeddings import by_identity, identity_labels, unit_rows

# Entries of float64 cosines, or rows of embeddings, held at a time.
COSINES = 4_000_000
ROWS = 65_536

CENTERS = ("unit", "raw")


class AngleStatistics(NamedTuple):
    """Mean angles in degrees, as in Table 3 of the ArcFace paper."""

    w_ec: float | None
    """Between a class weight W_j and the centre c_j of its embeddings; None without centers."""
    w_inter: float | None
    """Between W_j and the nearest other W_k, over all classes; None without centers."""
    intra: float
    """Between a sample and the centre of its class, over samples."""
    inter: float
    """Between c_j and the nearest other c_k, over classes that have images."""


def angle_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n], angle between row n of ``a`` and row n of ``b``, unit or zero rows."""
    apart = np.sqrt(np.square(a - b).sum(axis=1))
    together = np.sqrt(np.square(a + b).sum(axis=1))
    return np.degrees(2.0 * np.arctan2(apart, together))


def _nearest_other(
    rows: NDArray[np.float64], centers: NDArray[np.float64], own: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64[N], angle from each row to the nearest centre that isn't its ``own``, in degrees."""
    theta = np.empty(len(rows))
    # Square blocks: products of thin ones are slow.
    height = max(1, min(len(rows), int(COSINES**0.5)))
    width = max(1, COSINES // height)
    for top in range(0, len(rows), height):
        part, mine = rows[top : top + height], own[top : top + height]
        best, best_cosine = np.zeros(len(part), np.int64), np.full(len(part), -np.inf)
        for left in range(0, len(centers), width):
            cosine = part @ centers[left : left + width].T
            inside = np.flatnonzero((mine >= left) & (mine < left + cosine.shape[1]))
            cosine[inside, mine[inside] - left] = -np.inf
            column = cosine.argmax(axis=1)
            value = cosine[np.arange(len(part)), column]
            closer = value > best_cosine
            best = np.where(closer, column + left, best)
            best_cosine = np.where(closer, value, best_cosine)
        theta[top : top + height] = angle_deg(part, centers[best])
    return theta


def checked_labels(
    labels: ArrayLike, count: int, centers: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Labels in [0, C) where centers are given."""
    checked = identity_labels(labels, count)
    if centers is not None and checked.max() >= len(centers):
        first = int(np.argmax(checked >= len(centers)))
        raise ValueError(
            f"labels[{first}] is {checked[first]}, but there are {len(centers)} centers; "
            "labels of another set (held-out identities have no centers: leave centers out)?"
        )
    return checked


def _checked_centers(centers: ArrayLike, dimension: int) -> NDArray[np.float64]:
    """float64[C, D], unit rows."""
    given = np.asarray(centers)
    if given.ndim != 2 or given.shape[1] != dimension:
        raise ValueError(
            f"expected centers [C, {dimension}] like the embeddings, got {given.shape}; "
            "pass one row for each class (kernel.T of a dense layer)."
        )
    return unit_rows(given.astype(np.float64))


def _class_runs(start: NDArray[np.int64], end: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cuts sorted rows into runs of whole classes, of about ROWS rows."""
    a = 0
    while a < end.size:
        b = int(end[min(a + ROWS, end.size) - 1])
        yield a, b
        a = b


def angle_statistics(
    embeddings: ArrayLike,
    labels: ArrayLike,
    centers: ArrayLike | None = None,
    *,
    min_images: int = 1,
    center: str = "unit",
) -> AngleStatistics:
    r"""W-EC, W-Inter, Intra and Inter of Table 3 of the ArcFace paper, in degrees.

    With :math:`e_i` the unit embeddings, :math:`W_j` the class weights and
    :math:`c_j = \mathrm{unit}(\sum_{y_i = j} e_i)`:

    .. math::
        \text{W-EC} = \operatorname{mean}_j \angle(W_j, c_j), \quad
        \text{W-Inter} = \operatorname{mean}_j \min_{k \ne j} \angle(W_j, W_k), \\
        \text{Intra} = \operatorname{mean}_i \angle(e_i, c_{y_i}), \quad
        \text{Inter} = \operatorname{mean}_j \min_{k \ne j} \angle(c_j, c_k)

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N], class of each row: in [0, C) with centers, else any number from 0.
      centers: float[C, D], rows of W, of any length; None where a loss has none.
      min_images: classes with fewer images take no part in W-EC, Intra and Inter. An only image
        is its own centre, at angle 0; the paper doesn't say whether it counts.
      center: "unit" averages unit embeddings, "raw" the embeddings as they are; the paper
        doesn't say which.

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), a label outside [0, C) (named),
        fewer than two classes with ``min_images`` images.

    Source: Deng et al., ArcFace (CVPR 2019), section 3.2 and Table 3.

    >>> e = [[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]
    >>> angle_statistics(e, [0, 0, 1, 1], [[0.0, 1.0], [1.0, 0.0]])
    AngleStatistics(w_ec=90.0, w_inter=90.0, intra=0.0, inter=90.0)
    """
    if center not in CENTERS:
        raise ValueError(f"unknown center {center!r}; known: {', '.join(CENTERS)}.")
    given = np.asarray(embeddings)
    unit = unit_rows(given)
    weights = None if centers is None else _checked_centers(centers, unit.shape[1])
    checked = checked_labels(labels, len(unit), weights)
    order, start, end = by_identity(checked)

    names, means, intra_sum, samples = [], [], 0.0, 0
    for a, b in _class_runs(start, end):
        rows = order[a:b]
        kept = end[a:b] - start[a:b] >= min_images
        rows = rows[kept]
        if not rows.size:
            continue
        unit_part = unit_rows(given[rows].astype(np.float64))
        summed = unit_part if center == "unit" else given[rows].astype(np.float64)
        first = np.flatnonzero(np.diff(checked[rows], prepend=-1))
        mean = unit_rows(np.add.reduceat(summed, first, axis=0))
        sizes = np.diff(first, append=rows.size)
        intra_sum += float(angle_deg(unit_part, np.repeat(mean, sizes, axis=0)).sum())
        samples += rows.size
        names.append(checked[rows[first]])
        means.append(mean)
    classes = np.concatenate(names) if names else np.empty(0, np.int64)
    if classes.size < 2:
        raise ValueError(
            f"{classes.size} classes have {min_images} images or more; "
            "angles between classes need two: lower min_images or add classes."
        )
    own = np.concatenate(means)
    each = np.arange(classes.size)
    w_ec = w_inter = None
    if weights is not None:
        w_ec = float(angle_deg(weights[classes], own).mean())
        w_inter = float(_nearest_other(weights, weights, np.arange(len(weights))).mean())
    return AngleStatistics(
        w_ec=w_ec,
        w_inter=w_inter,
        intra=intra_sum / samples,
        inter=float(_nearest_other(own, own, each).mean()),
    )


def target_angles(
    embeddings: ArrayLike, labels: ArrayLike, centers: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angle of each sample to its own class centre and to the nearest other one, in degrees.

    Args:
      embeddings: float[N, D], of any length.
      labels: int[N] in [0, C).
      centers: float[C, D], C >= 2, of any length.

    Returns:
      (theta_y_deg float64[N], nearest_wrong_deg float64[N]).

    Raises:
      ValueError: shapes, NaN or infinity (the row is named), a label outside [0, C) (named),
        fewer than two centers.

    >>> target_angles([[2.0, 0.0]], [0], [[1.0, 0.0], [0.0, 1.0]])
    (array([0.]), array([90.]))
    """
    unit = unit_rows(np.asarray(embeddings).astype(np.float64))
    weights = _checked_centers(centers, unit.shape[1])
    checked = checked_labels(labels, len(unit), weights)
    if len(weights) < 2:
        raise ValueError("one center has no other next to it; pass two or more.")
    theta = np.empty(len(unit))
    for start in range(0, len(unit), ROWS):
        part = slice(start, start + ROWS)
        theta[part] = angle_deg(unit[part], weights[checked[part]])
    return theta, _nearest_other(unit, weights, checked)


def angle_histogram(theta_deg: ArrayLike, edges: ArrayLike | None = None) -> NDArray[np.int64]:
    """Number of angles in each bin, by default 180 bins of one degree.

    Args:
      theta_deg: float[N], angles in degrees.
      edges: float[K + 1], rising; each bin holds its lower end, the last one both.

    Returns:
      int64[K] counts.

    Raises:
      ValueError: an angle that is NaN or in no bin (the first is named).

    >>> angle_histogram([10.0, 89.5, 90.0], edges=[0, 90, 180])
    array([2, 1])
    """
    theta = np.asarray(theta_deg, np.float64).ravel()
    edges = np.arange(181.0) if edges is None else np.asarray(edges, np.float64)
    outside = np.flatnonzero(~((theta >= edges[0]) & (theta <= edges[-1])))
    if outside.size:
        raise ValueError(
            f"theta_deg[{outside[0]}] is {theta[outside[0]]:g}, outside the bins from "
            f"{edges[0]:g} to {edges[-1]:g} degrees; choose wider edges or find its image."
        )
    return np.histogram(theta, edges)[0].astype(np.int64)
