"""Optimiser steps on the sampled rows alone: what was not drawn does not move."""

from typing import Any

import jax
import optax

from arcface_jax.heads import Sample


def take_rows(tree: Any, by_class: Any, *, sample: Sample | None) -> Any:
    """``tree`` with the arrays that have a row per class cut to the sampled rows.

    Args:
      tree: of arrays.
      by_class: of the same structure, True where an array has a row per class.
      sample: from `arcface_jax.heads.Sampled.draw`; None takes every row.

    >>> take_rows({"centers": jax.numpy.ones((2, 1))}, {"centers": True}, sample=None)
    {'centers': Array([[1.],
           [1.]], dtype=float32)}
    """
    if sample is None:
        return tree
    return jax.tree.map(lambda x, cut: sample.take(x) if cut else x, tree, by_class)


def update_rows(
    optimizer: optax.GradientTransformation,
    gradients: Any,
    state: Any,
    trained: Any,
    *,
    by_class: Any,
    sample: Sample | None,
) -> tuple[Any, Any]:
    """(trained arrays, optimiser state) after a step in which only sampled rows take part.

    Momentum, moments and decay of the other rows stay as they are; counters of steps are shared.

    Args:
      optimizer: any optax transformation that keeps its state in the shape of what it trains.
      gradients: of the rows, in the structure of ``trained``.
      state: from ``optimizer.init(trained)``.
      trained: whole arrays.
      by_class: of the same structure, True where an array has a row per class.
      sample: from `arcface_jax.heads.Sampled.draw`; None for a step of all rows.

    Source: An et al., Partial FC (ICCVW 2021).

    >>> import jax.numpy as jnp
    >>> from arcface_jax.heads import Sampled
    >>> sampled = Sampled(rate=0.0)
    >>> sample = sampled.draw(jnp.array([1]), num_classes=3, key=jax.random.key(0))
    >>> centers, sgd = jnp.ones((3, 1)), optax.sgd(0.5)
    >>> update_rows(
    ...     sgd, jnp.ones((1, 1)), sgd.init(centers), centers, by_class=True, sample=sample
    ... )[0].tolist()
    [[1.0], [0.5], [1.0]]
    """
    in_state = optax.tree_map_params(
        optimizer, lambda _, cut: cut, state, by_class, transform_non_params=lambda _: False
    )
    rows = take_rows(trained, by_class, sample=sample)
    updates, state_of_rows = optimizer.update(
        gradients, take_rows(state, in_state, sample=sample), rows
    )

    moved: Any = optax.apply_updates(rows, updates)
    if sample is None:
        return moved, state_of_rows

    def put(array: Any, rows: Any, cut: bool) -> Any:
        return sample.put(array, rows) if cut else rows

    return (
        jax.tree.map(put, trained, moved, by_class),
        jax.tree.map(put, state, state_of_rows, in_state),
    )
