"""Class labels: checked on the host, compared rather than indexed on the device."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike


def check_labels(labels: ArrayLike, *, rows: int, num_classes: int) -> Array:
    """``labels`` as an int32 array, refused with the first offender where values are known.

    Args:
      labels: int[B], class indices; -1 marks a row that is ignored.
      rows: B that the embeddings have.
      num_classes: C.

    Raises:
      ValueError: the shape does not fit, not integers, or a value outside [0, C) other than -1.
        Inside compiled code values are not known: such a row's loss is NaN, see `mark_rows`.

    >>> check_labels([0, -1], rows=2, num_classes=1)
    Array([ 0, -1], dtype=int32)
    """
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are class indices, got dtype {labels.dtype}; cast with "
            "labels.astype(jnp.int32)."
        )
    if labels.shape != (rows,):
        raise ValueError(
            f"expected one label per embedding, [{rows}], got {labels.shape}; for one-hot labels "
            "pass labels.argmax(-1)."
        )
    if not isinstance(labels, Tracer):
        values = np.asarray(labels)
        wrong = np.flatnonzero((values < -1) | (values >= num_classes))
        if wrong.size:
            raise ValueError(
                f"label {values[wrong[0]]} at position {wrong[0]} lies outside [0, {num_classes}) "
                f"({wrong.size} of {rows} labels do); -1 marks rows to ignore."
            )
    return jnp.asarray(labels, jnp.int32)


def split_target(values: Array, labels: Array) -> tuple[Array, Array]:
    """(the entry of each row's label, True at that entry); 0 and all False without a label.

    >>> split_target(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, -1]))
    (Array([2., 0.], dtype=float32), Array([[False,  True],
           [False, False]], dtype=bool))
    """
    # Compared, not indexed: an index of -1 would wrap round to the last class.
    is_label = labels[:, None] == jnp.arange(values.shape[1], dtype=labels.dtype)[None, :]
    return jnp.sum(jnp.where(is_label, values, 0.0), axis=1), is_label


def rows_that_count(labels: Array, where: ArrayLike | None) -> Array:
    """True in rows that have a label (not -1) and are not masked.

    Raises:
      ValueError: ``where`` is not bool[B].

    >>> rows_that_count(jnp.array([3, -1, 3]), jnp.array([True, True, False]))
    Array([ True, False, False], dtype=bool)
    """
    if where is None:
        return labels != -1
    where = jnp.asarray(where)
    if where.shape != labels.shape or where.dtype != jnp.bool_:
        raise ValueError(f"where is bool{list(labels.shape)}, got {where.dtype}{where.shape}.")
    return (labels != -1) & where


def mark_rows(losses: Array, labels: Array, *, num_classes: int, where: ArrayLike | None) -> Array:
    """``losses`` with 0 in rows that do not count and NaN where the label names no class.

    >>> mark_rows(jnp.ones(3), jnp.array([0, -1, 7]), num_classes=2, where=None)
    Array([ 1.,  0., nan], dtype=float32)
    """
    wrong = (labels < -1) | (labels >= num_classes)
    losses = jnp.where(wrong, jnp.nan, losses)
    return jnp.where(rows_that_count(labels, where), losses, 0.0)
