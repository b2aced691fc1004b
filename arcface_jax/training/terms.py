"""Terms added to a classification loss, by name and weight."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from arcface_jax import losses

# (embeddings, centres, labels, the term's state) -> its value for the batch.
TermValue = Callable[[Array, Array, Array, Any], Array]


def _mean(values: Array, counts: Array) -> Array:
    return jnp.sum(values) / jnp.maximum(jnp.sum(counts), 1)


def _triplet(embeddings: Array, centers: Array, labels: Array, state: Any) -> Array:
    del centers, state
    return _mean(*losses.triplet(embeddings, labels))


def _circle_pair(embeddings: Array, centers: Array, labels: Array, state: Any) -> Array:
    del centers, state
    return _mean(*losses.circle_pair(embeddings, labels))


def _center(embeddings: Array, centers: Array, labels: Array, state: Any) -> Array:
    del centers
    return _mean(losses.center(embeddings, state, labels), labels >= 0)


def _range(embeddings: Array, centers: Array, labels: Array, state: Any) -> Array:
    del centers, state
    return losses.range_loss(embeddings, labels)


def _intra(embeddings: Array, centers: Array, labels: Array, state: Any) -> Array:
    del state
    return _mean(losses.intra(embeddings, centers, labels), labels >= 0)


def _inter(embeddings: Array, centers: Array, labels: Array, state: Any) -> Array:
    del embeddings, state
    return losses.inter(centers, labels)


TERMS: dict[str, TermValue] = {
    "center": _center,
    "circle_pair": _circle_pair,
    "inter": _inter,
    "intra": _intra,
    "range": _range,
    "triplet": _triplet,
}

# These are between embeddings and one centre per class.
NEEDS_ONE_CENTER = ("inter", "intra")


def init_term_state(names: Any, *, num_classes: int, embedding_dim: int) -> dict[str, Array]:
    """What the named terms carry from step to step: centre loss's own centres, at 0.

    >>> init_term_state(["center", "triplet"], num_classes=2, embedding_dim=3)["center"].shape
    (2, 3)
    """
    return {"center": jnp.zeros((num_classes, embedding_dim))} if "center" in names else {}


def next_term_state(state: dict[str, Array], embeddings: Array, labels: Array) -> dict[str, Array]:
    """The terms' state after this batch.

    >>> state = {"center": jnp.zeros((1, 2))}
    >>> next_term_state(state, jnp.ones((1, 2)), jnp.array([0]))["center"]
    Array([[0.25, 0.25]], dtype=float32)
    """
    return {
        name: losses.update_centers(embeddings, centers, labels) for name, centers in state.items()
    }
