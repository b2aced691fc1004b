"""Backbones by name."""

import dataclasses
from typing import Any

from flax import nnx

from arcface_jax.known_names import refuse_unknown, unknown_name
from arcface_jax.models.backbone import BackboneConfig
from arcface_jax.models.iresnet import IResNetConfig
from arcface_jax.models.mobilefacenet import MobileFaceNetConfig
from arcface_jax.models.mobilefacenet_128d import MobileFaceNet128dConfig
from arcface_jax.models.vit import ViTConfig

_WIDTHS = (64, 128, 256, 512)

MODELS: dict[str, BackboneConfig] = {
    "resnet_small": IResNetConfig(
        depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), embedding_dim=64, image_size=32
    ),
    "iresnet18": IResNetConfig(depths=(2, 2, 2, 2), widths=_WIDTHS),
    "iresnet34": IResNetConfig(depths=(3, 4, 6, 3), widths=_WIDTHS),
    "iresnet50": IResNetConfig(depths=(3, 4, 14, 3), widths=_WIDTHS),
    "iresnet100": IResNetConfig(depths=(3, 13, 30, 3), widths=_WIDTHS),
    "iresnet200": IResNetConfig(depths=(6, 26, 60, 6), widths=_WIDTHS),
    "mobilefacenet": MobileFaceNetConfig(),
    "mobilefacenet_large": MobileFaceNetConfig(blocks=(2, 8, 12, 4), scale=4),
    "mobilefacenet_128d": MobileFaceNet128dConfig(),
    "vit_t": ViTConfig(width=256, depth=12, heads=8, drop_path=0.1, mask_ratio=0.1),
    "vit_s": ViTConfig(width=512, depth=12, heads=8, drop_path=0.1, mask_ratio=0.1),
    "vit_b": ViTConfig(width=512, depth=24, heads=8, drop_path=0.1, mask_ratio=0.1, remat="block"),
    "vit_l": ViTConfig(width=768, depth=24, heads=8, drop_path=0.05, mask_ratio=0.1, remat="block"),
}


def configure(name: str, **overrides: Any) -> BackboneConfig:
    """The config of that name with other values for some of its fields.

    Raises:
      ValueError: an unknown name or field, or a value out of range.

    >>> configure("iresnet50", embedding_dim=256).embedding_dim
    256
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    refuse_unknown(f"field of {name}", overrides, MODELS[name].__dataclass_fields__)
    return dataclasses.replace(MODELS[name], **overrides)


def create(name: str, *, rngs: nnx.Rngs, **overrides: Any) -> Any:
    """A freshly initialised backbone, images float[B, H, W, c] to embeddings float32[B, D].

    Args:
      name: one of ``MODELS``.
      rngs: stream ``params``, and ``dropout`` where something is left out at random.
      **overrides: fields of the model's config, such as ``embedding_dim`` or ``dtype``.

    Raises:
      ValueError: an unknown name or field, or a value out of range.

    >>> create("resnet_small", embedding_dim=32, rngs=nnx.Rngs(0)).config.embedding_dim
    32
    """
    return configure(name, **overrides).build(rngs=rngs)
