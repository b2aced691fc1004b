"""Centre loss: each embedding near its class's centre, and the centres' moving update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.known_names import unknown_name
from arcface_jax.losses.labels import check_labels, mark_rows
from arcface_jax.losses.pairs import row_cosines, rows_that_count


def _square(x: Array, own: Array) -> Array:
    return jnp.sum(jnp.square(x - own), axis=1)


DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "squared_euclidean": lambda x, own: 0.5 * _square(x, own),
    "limited": lambda x, own: jnp.clip(_square(x, own), 1e-12, 1e12),
    "cosine": lambda x, own: 1.0 - row_cosines(x, own),
}


def rows_and_centers(
    embeddings: ArrayLike, centers: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Array, Array, Array]:
    """Checked (embeddings, centers, labels, which rows count); rows that don't count are zero.

    Raises:
      ValueError: shapes do not fit, or a label lies outside [0, C).

    >>> rows_and_centers(jnp.ones((2, 1)), jnp.ones((4, 1)), jnp.array([3, -1]), None)[3]
    Array([ True, False], dtype=bool)
    """
    embeddings, centers = geometry.as_float(embeddings), geometry.as_float(centers)
    if embeddings.ndim != 2 or centers.ndim != 2 or embeddings.shape[1] != centers.shape[1]:
        raise ValueError(
            f"expected embeddings [B, D] and centers [C, D], got {embeddings.shape} and "
            f"{centers.shape}; rows of centers are classes."
        )
    labels = check_labels(labels, rows=embeddings.shape[0], num_classes=centers.shape[0])
    counts = rows_that_count(labels, where)
    # Zero in front of the loss: a NaN in a padding row would pass a mask behind it in the gradient.
    return jnp.where(counts[:, None], embeddings, 0.0), centers, labels, counts


def center(
    embeddings: ArrayLike,
    centers: ArrayLike,
    labels: ArrayLike,
    *,
    distance: str = "squared_euclidean",
    trainable: bool = False,
    where: ArrayLike | None = None,
) -> Array:
    r"""Distance of each embedding to the centre of its class, one value per row.

    .. math:: \ell_i = \tfrac12 \lVert x_i - o_{y_i} \rVert^2

    Added to a classification loss with a weight, 0.003 in the paper.

    Args:
      embeddings: float[B, D], not normalised; the Euclidean distances are those of these rows.
      centers: float[C, D], moved by `update_centers`, zeros at first.
      labels: int[B]; -1 is ignored (loss 0).
      distance: "squared_euclidean", half the square as above; "limited", the whole square
        limited to [1e-12, 1e12]; "cosine", 1 - cos of the angle between row and centre.
      trainable: True lets the gradient reach the centres, which the optimiser then moves instead
        of `update_centers`; they start from a normal distribution.
      where: bool[B], rows that count; the others' loss is 0.

    Returns:
      float32[B] (float64 stays float64).

    Raises:
      ValueError: shapes do not fit, a label lies outside [0, C), an unknown distance. Inside
        compiled code such a label gives NaN in its row.

    Source: Wen et al., A discriminative feature learning approach (ECCV 2016), eq. 2;
    wujiyang/Face_Pytorch for "limited" with trainable centres; leondgarse/Keras_insightface for
    "cosine".

    >>> x, centers = jnp.array([[1.0, 2.0], [0.0, 3.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])
    >>> center(x, centers, jnp.array([0, 1]))
    Array([2. , 4.5], dtype=float32)
    """
    if distance not in DISTANCES:
        raise unknown_name("distance", distance, DISTANCES)
    x, centers, labels, counts = rows_and_centers(embeddings, centers, labels, where)
    if not trainable:
        centers = jax.lax.stop_gradient(centers)
    losses = DISTANCES[distance](x, centers[jnp.maximum(labels, 0)])
    return mark_rows(losses, labels, num_classes=centers.shape[0], where=counts)


def update_centers(
    embeddings: ArrayLike,
    centers: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.5,
    where: ArrayLike | None = None,
) -> Array:
    r"""The centres moved towards their rows of the batch, after the gradient step.

    .. math:: o_j \leftarrow o_j - \alpha \frac{\sum_{i: y_i = j} (o_j - x_i)}{1 + n_j}

    with n_j the rows of class j. A class without a row keeps its centre.

    Args:
      embeddings: float[B, D], the whole global batch, as given to `center`.
      centers: float[C, D].
      labels: int[B]; -1 is ignored.
      alpha: rate, in [0, 1].
      where: bool[B], rows that count.

    Returns:
      float32[C, D] (float64 stays float64), constant in any gradient.

    Raises:
      ValueError: shapes do not fit, or a label lies outside [0, C). Inside compiled code the row
        of such a label moves no centre.

    Source: Wen et al., A discriminative feature learning approach (ECCV 2016), eq. 4.

    >>> update_centers(jnp.array([[4.0], [8.0]]), jnp.array([[1.0], [0.0]]), jnp.array([1, 1]))
    Array([[1.],
           [2.]], dtype=float32)
    """
    x, centers, labels, counts = rows_and_centers(embeddings, centers, labels, where)
    num_classes = centers.shape[0]
    # Beyond the last class the sums drop a row; -1 would wrap round to it.
    own = jnp.where(counts & (labels >= 0), labels, num_classes)
    offsets = centers.at[own].get(mode="fill", fill_value=0.0) - x
    sums = jnp.zeros_like(centers).at[own].add(offsets, mode="drop")
    sizes = jnp.zeros(num_classes, centers.dtype).at[own].add(1.0, mode="drop")
    return jax.lax.stop_gradient(centers - alpha * sums / (1.0 + sizes)[:, None])
