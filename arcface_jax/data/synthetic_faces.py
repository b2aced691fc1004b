"""Faces from a seeded parametric renderer: any number of identities, and nobody's privacy at stake.

What changes between two images of one identity (pose, light, expression, occlusion, blur, ...) is
drawn for each image and stored with it: ``Dataset.nuisances``.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arcface_jax.data.builder import Example, ImageBuilder, open_split, prepare
from arcface_jax.data.dataset import Dataset
from arcface_jax.data.decode import ImageDecoder
from arcface_jax.data.faces import draw_nuisances
from arcface_jax.data.faces.images import FaceOptions, draw_identities
from arcface_jax.data.split_names import known_split

_FIRST_TEST_IDENTITY = 1_000_000
_SPLITS = ("train", "test")


@dataclasses.dataclass(eq=False)
class SyntheticFacesConfig(tfds.core.BuilderConfig):
    """Options that change the content; each combination is a prepared data set of its own."""

    identities: int = 300
    test_identities: int = 100
    images_per_identity: int = 16
    size: int = 48
    strength: float = 1.0
    seed: int = 0


class SyntheticFaces(ImageBuilder, skip_registration=True):
    """Rendered faces as PNG, with the nuisances of each image.

    train: identities 0 .. n-1. test: identities from 1,000,000 on, so the test faces stay the same
    whatever the number of training identities.
    """

    name = "synthetic_faces"
    BUILDER_CONFIGS = [SyntheticFacesConfig(name="default")]
    NUISANCES = tuple(draw_nuisances(np.random.default_rng(0)).as_dict())

    @classmethod
    def examples(cls, config: Any, manual_dir: Path | None):
        """For each split, a function that yields its Examples."""
        del manual_dir
        first = {"train": 0, "test": _FIRST_TEST_IDENTITY}
        count = {"train": config.identities, "test": config.test_identities}
        return {
            split: lambda s=split: _draw(range(first[s], first[s] + count[s]), config)
            for split in _SPLITS
        }


def load_split(
    *,
    split: str,
    data_dir=None,
    manual_dir=None,
    size: int | None = None,
    channels: int | None = 3,
    identities: int = 300,
    test_identities: int = 100,
    images_per_identity: int = 16,
    strength: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """One split of synthetic_faces.

    Args:
      split: "train" or "test"; no identity is in both.
      data_dir: where prepared data sets live.
      manual_dir: not needed; nothing is downloaded.
      size: side in px at which the faces are rendered; None: 48.
      channels: 3, or 1 for grey.
      identities: number of training identities, 1 to 1,000,000.
      test_identities: number of held-out identities.
      images_per_identity: images of each.
      strength: how far nuisances reach; 0 renders each identity the same every time.
      seed: another seed draws other people.
    """
    del manual_dir
    known_split("synthetic_faces", split, _SPLITS)
    size = 48 if size is None else size
    for what, value, least, most in (
        ("identities", identities, 1, _FIRST_TEST_IDENTITY),
        ("test_identities", test_identities, 1, _FIRST_TEST_IDENTITY),
        ("images_per_identity", images_per_identity, 1, 100_000),
        ("size", size, 16, 256),
        ("strength", strength, 0, 2),
    ):
        if not least <= value <= most:
            raise ValueError(f"{what} must lie in [{least}, {most}], got {value}.")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}.")
    config = SyntheticFacesConfig(
        name=f"{identities}+{test_identities}x{images_per_identity}_{size}px"
        f"_strength{strength:g}_seed{seed}",
        identities=identities,
        test_identities=test_identities,
        images_per_identity=images_per_identity,
        size=size,
        strength=strength,
        seed=seed,
    )
    directory = prepare(SyntheticFaces, data_dir=data_dir, config=config)
    decoder = ImageDecoder(channels=channels or 3)
    return open_split(directory, name="synthetic_faces", split=split, decoder=decoder)


def _draw(indices: range, config: SyntheticFacesConfig) -> Iterator[Example]:
    options = FaceOptions(
        images=config.images_per_identity,
        size=config.size,
        strength=config.strength,
        seed=config.seed,
    )
    drawn = draw_identities(indices, options=options)
    for index, images in zip(indices, drawn, strict=True):
        for number, (png, nuisances) in enumerate(images):
            yield Example(
                image=png,
                identity=f"face{index:07d}",
                id=f"face{index:07d}/{number:05d}.png",
                nuisances=nuisances,
            )
