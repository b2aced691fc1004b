"""A network with what its numbers depend on: the contract of its inputs, and impostor scores."""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from arcface_jax.evaluation import ImpostorScores
from arcface_jax.models.preprocessing import Preprocessing


class Embedder:
    """Images that keep the contract in, embeddings out; the network is in evaluation mode.

    Args:
      model: a backbone.
      preprocessing: the contract; size and channels must be the network's.
      impostors: cosines of different people, for reading similarities.

    Raises:
      ValueError: a contract of another size or number of channels.

    >>> from arcface_jax.models import create
    >>> model = create("resnet_small", rngs=nnx.Rngs(0))
    >>> embedder = Embedder(model, preprocessing=Preprocessing(size=32))
    >>> embedder(np.zeros((3, 32, 32, 3), np.uint8)).shape
    (3, 64)
    """

    def __init__(
        self,
        model: Any,
        *,
        preprocessing: Preprocessing,
        impostors: ImpostorScores | None = None,
    ):
        """Compiles nothing yet."""
        preprocessing.check_model(model.config)
        self.model = model
        self.preprocessing = preprocessing
        self.impostors = impostors
        fixed = nnx.view(model, use_running_average=True, deterministic=True)
        graphdef, self._state = nnx.split(fixed)
        self._embed = jax.jit(
            lambda state, images: preprocessing.embed(nnx.merge(graphdef, state), images)
        )

    def __call__(self, images: ArrayLike, *, batch_size: int = 64) -> np.ndarray:
        """float32[N, D], not normalised.

        Args:
          images: uint8[N, size, size, c] (grey or RGB, aligned where the contract says so), or
            normalised floats.
          batch_size: how many at a time.

        Raises:
          ValueError: images that break the contract.
        """
        images = np.asarray(images)
        self.preprocessing.check(images)
        parts = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            # The last batch is filled up: another size would compile again.
            short = min(batch_size, len(images)) - len(part)
            filled = np.pad(part, ((0, short), (0, 0), (0, 0), (0, 0)))
            parts.append(np.asarray(self._embed(self._state, filled))[: len(part)])
        dim = self.model.config.embedding_dim
        return np.concatenate(parts) if parts else np.empty((0, dim), np.float32)
