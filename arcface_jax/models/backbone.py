"""What all backbones share: their inputs, output, precision, batch norm and memory."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.known_names import unknown_name

REMAT = ("none", "stage", "block")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Fields that every backbone has; hashable, so that it can be fixed in a compiled program.

    Args:
      embedding_dim: D.
      image_size: side of the square input in pixels; the embedding layer depends on it.
      channels: of the input, 1 or 3.
      dtype: what the body computes in. Parameters, batch statistics, the embedding layer and what
        follows stay float32: float16 has 1.8 degrees as its smallest angle, bfloat16 5.1.
      norm_epsilon: added to the variance in batch normalisation.
      norm_momentum: share of the running statistics that a step keeps; PyTorch's 0.1 is 0.9.
      norm_group: images that batch normalisation takes together; 0: the whole batch, over all
        devices. arcface_torch takes those of one GPU (128).
      remat: "stage" or "block" keeps only the inputs of these and computes the rest again for the
        gradient: less memory, about a third more work. Values do not change.

    Raises:
      ValueError: a number out of range.

    >>> BackboneConfig(embedding_dim=0)
    Traceback (most recent call last):
    ValueError: embedding_dim=0 must be at least 1.
    """

    embedding_dim: int = 512
    image_size: int = 112
    channels: int = 3
    dtype: DTypeLike = jnp.float32
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    norm_group: int = 0
    remat: str = "none"

    def __post_init__(self):
        for name, least in (("embedding_dim", 1), ("image_size", 1), ("norm_group", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels}; images have 1 (grey) or 3 (RGB).")
        if not self.norm_epsilon > 0.0:
            raise ValueError(f"norm_epsilon={self.norm_epsilon} must be positive.")
        self.check_rates("norm_momentum")
        if self.remat not in REMAT:
            raise unknown_name("remat", self.remat, REMAT)

    def build(self, *, rngs: nnx.Rngs) -> Any:
        """The network, freshly drawn from streams ``params`` and ``dropout``."""
        raise NotImplementedError(f"{type(self).__name__} has no network.")

    @property
    def wide_dtype(self) -> Any:
        """What the embedding layer computes in: float32, or float64 for float64."""
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def norm(self) -> dict[str, Any]:
        """Arguments of every `BatchNorm`."""
        return dict(
            epsilon=self.norm_epsilon, momentum=self.norm_momentum, group=self.norm_group or None
        )

    def check_rates(self, *names: str) -> None:
        """Refuses rates outside [0, 1)."""
        for name in names:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)} lies outside [0, 1).")

    def check_images(self, images: Array) -> None:
        """Refuses images of another shape than [B, image_size, image_size, channels]."""
        side = self.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, self.channels):
            raise ValueError(
                f"expected images [B, {side}, {side}, {self.channels}], got {images.shape}; "
                "resize them or set image_size and channels of the model."
            )
