"""The preprocessing contract: what an image must be before a network's numbers mean anything."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.geometry import unit
from arcface_jax.known_names import refuse_unknown, unknown_name
from arcface_jax.models.backbone import BackboneConfig

COLORS = {"RGB": 3, "BGR": 3, "grey": 1}
ALIGNMENTS = ("five_points", "none")
FLIPS = ("none", "add", "add_unit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    r"""Size, colours, mean and scale, alignment, and use of the mirrored image.

    .. math:: x = (p - \mu) / \sigma, \quad p \in [0, 255]

    Args:
      size: side of the square image, px.
      colors: order of the channels, "RGB" or "BGR", or "grey".
      mean: :math:`\mu`, one number for all channels or one each, in the order of ``colors``.
      std: :math:`\sigma`, likewise.
      alignment: "five_points": faces placed on the common template by their landmarks, as
        `arcface_jax.data.align` does; "none": images are taken as they are.
      flip: what evaluation does with the mirrored image. "none": nothing; "add": its embedding is
        added; "add_unit": both are brought to unit length first.

    Raises:
      ValueError: an unknown name, or a number out of range.

    >>> contract = Preprocessing(size=1, mean=(128.0,), std=(128.0,))
    >>> contract.normalize(np.array([[[[0, 192, 64]]]], np.uint8))
    Array([[[[-1. ,  0.5, -0.5]]]], dtype=float32)
    """

    size: int
    colors: str = "RGB"
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    alignment: str = "none"
    flip: str = "none"

    def __post_init__(self):
        for name, value, known in (
            ("colors", self.colors, COLORS),
            ("alignment", self.alignment, ALIGNMENTS),
            ("flip", self.flip, FLIPS),
        ):
            if value not in known:
                raise unknown_name(f"preprocessing {name}", value, known)
        if self.size < 1:
            raise ValueError(f"preprocessing size={self.size} must be at least 1.")
        for name in ("mean", "std"):
            numbers = tuple(float(x) for x in getattr(self, name))
            object.__setattr__(self, name, numbers)
            if len(numbers) not in (1, self.channels) or not np.isfinite(numbers).all():
                raise ValueError(
                    f"preprocessing {name}={numbers} must be one finite number, or one for each of "
                    f"{self.channels} channels."
                )
        if min(self.std) <= 0.0:
            raise ValueError(f"preprocessing std={self.std} must be positive.")

    @property
    def channels(self) -> int:
        """Of the image: 1 or 3."""
        return COLORS[self.colors]

    def normalize(self, images: ArrayLike) -> Array:
        """uint8[B, H, W, c], grey or RGB, as the network wants them; floats pass as they are.

        Raises:
          ValueError: another size, number of channels or type.
        """
        images = jnp.asarray(images)
        self.check(images)
        if images.dtype != jnp.uint8:
            return images
        if self.colors == "BGR":
            images = images[..., ::-1]
        shape = (1, 1, 1, -1)
        mean, std = (jnp.asarray(x, jnp.float32).reshape(shape) for x in (self.mean, self.std))
        return (images.astype(jnp.float32) - mean) / std

    def embed(self, model: Any, images: ArrayLike) -> Array:
        """Embeddings float32[B, D] of uint8 images, fused with those of the mirrored ones.

        Raises:
          ValueError: another size, number of channels or type.
        """
        normal = self.normalize(images)
        embeddings = model(normal)
        if self.flip == "none":
            return embeddings
        mirrored = model(normal[:, :, ::-1])
        if self.flip == "add_unit":
            embeddings, mirrored = unit(embeddings), unit(mirrored)
        return embeddings + mirrored

    def check(self, images: Any) -> None:
        """Refuses what is not uint8 or floating [B, size, size, channels]."""
        wanted = (self.size, self.size, self.channels)
        if images.ndim != 4 or images.shape[1:] != wanted:
            raise ValueError(
                f"the network wants images [B, {self.size}, {self.size}, {self.channels}] "
                f"({self.colors}), got {list(images.shape)}; "
                + (
                    "align the originals to that size by their landmarks."
                    if self.alignment == "five_points"
                    else "load them with that size and number of channels."
                )
            )
        if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"images are uint8 in 0..255 or normalised floats, got {images.dtype}."
            )

    def check_model(self, config: BackboneConfig) -> None:
        """Refuses a network of another size or number of channels."""
        if (config.image_size, config.channels) != (self.size, self.channels):
            raise ValueError(
                f"the network takes {config.image_size} px with {config.channels} channels, and "
                f"its preprocessing gives {self.size} px with {self.channels}."
            )

    @classmethod
    def for_model(cls, config: BackboneConfig, **fields: Any) -> "Preprocessing":
        """The contract with the size and channels that the network takes.

        >>> Preprocessing.for_model(BackboneConfig(image_size=28, channels=1)).colors
        'grey'
        """
        colors = "RGB" if config.channels == 3 else "grey"
        return cls(**{"size": config.image_size, "colors": colors, **fields})

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file's metadata."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """From what `to_json` gave.

        Raises:
          ValueError: a field that is missing or not known.

        >>> Preprocessing.from_json(Preprocessing(size=48).to_json()).size
        48
        """
        known = cls.__dataclass_fields__
        refuse_unknown("field of the preprocessing", values, known)
        missing = [name for name in known if name not in values]
        if missing:
            raise ValueError(f"the preprocessing lacks {', '.join(missing)}.")
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
