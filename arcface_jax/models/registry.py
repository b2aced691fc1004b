"""Backbones by name."""

from typing import Any

from flax import nnx

from arcface_jax.known_names import unknown_name
from arcface_jax.models.iresnet import IResNet, IResNetConfig

MODELS: dict[str, dict[str, Any]] = {
    "resnet_small": dict(
        depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), embedding_dim=64, image_size=32
    ),
    "iresnet18": dict(depths=(2, 2, 2, 2), widths=(64, 128, 256, 512)),
    "iresnet34": dict(depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    "iresnet50": dict(depths=(3, 4, 14, 3), widths=(64, 128, 256, 512)),
    "iresnet100": dict(depths=(3, 13, 30, 3), widths=(64, 128, 256, 512)),
    "iresnet200": dict(depths=(6, 26, 60, 6), widths=(64, 128, 256, 512)),
}


def create(name: str, *, rngs: nnx.Rngs, **overrides: Any) -> IResNet:
    """A freshly initialised backbone.

    Args:
      name: one of ``MODELS``.
      rngs: stream ``params``, and ``dropout`` where there is dropout.
      **overrides: fields of the model's config, such as ``embedding_dim`` or ``dtype``.

    Raises:
      ValueError: an unknown name or field, or a value out of range.

    >>> create("resnet_small", embedding_dim=32, rngs=nnx.Rngs(0)).config.embedding_dim
    32
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    known = IResNetConfig.__dataclass_fields__
    for field in overrides:
        if field not in known:
            raise unknown_name(f"field of {name}", field, known)
    return IResNet(IResNetConfig(**{**MODELS[name], **overrides}), rngs=rngs)
