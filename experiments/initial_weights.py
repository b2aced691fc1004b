"""Weights of another training that a run begins with."""

import functools

from arcface_jax.embedder import Embedder


@functools.lru_cache(maxsize=1)
def initial_weights(path: str) -> Embedder:
    """The network of a weight file with its contract; the same object for the same path.

    Raises:
      FileNotFoundError: no such file.
      ValueError: weights of no known kind or network.
    """
    from arcface_jax.convert import load

    return load(path)
