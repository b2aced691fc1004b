"""Every backbone beside an independent PyTorch version, from the same random state dict."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arcface_jax.convert import from_state_dict, to_state_dict
from arcface_jax.convert.state_dict_names import entries
from arcface_jax.models import (
    IResNetConfig,
    MobileFaceNet128dConfig,
    MobileFaceNetConfig,
    ViTConfig,
)
from arcface_jax.models.blank import blank

REFERENCE = pathlib.Path(__file__).with_name("torch_backbones.py")
BATCH, STEPS = 12, 4

CONFIGS = {
    "iresnet": IResNetConfig(depths=(2, 1, 3), widths=(8, 12, 16), embedding_dim=16, image_size=20),
    "mobilefacenet": MobileFaceNetConfig(
        blocks=(1, 1, 2, 1), scale=2, embedding_dim=16, image_size=32
    ),
    "mobilefacenet_large": MobileFaceNetConfig(
        blocks=(2, 1, 1, 1), scale=1, embedding_dim=16, image_size=32
    ),
    "mobilefacenet_128d": MobileFaceNet128dConfig(embedding_dim=16, image_size=32),
    # Three tokens a side and two pixels over; 112 leaves four of patches of 9.
    "vit": ViTConfig(width=32, depth=2, heads=8, embedding_dim=16, image_size=29),
}
STRUCTURE = (
    "depths",
    "widths",
    "blocks",
    "scale",
    "width",
    "depth",
    "heads",
    "patch",
    "embedding_dim",
    "image_size",
    "channels",
)


def described(config):
    """What the PyTorch network is made from, as JSON."""
    fields = {name: value for name, value in vars(config).items() if name in STRUCTURE}
    return json.dumps({"type": type(config).__name__.removesuffix("Config"), **fields})


def random_state_dict(config, rng, *, folded=True):
    """Values that leave no entry at its start; activations neither vanish nor overflow.

    Without ``folded`` every PReLU has slope 1: where rounding moves an input over a fold, the
    gradient jumps, in either framework.
    """
    frozen = isinstance(config, IResNetConfig)
    slopes = {entry.key for entry in entries(config) if entry.path and entry.path[-1] == "slope"}
    found = {}
    for key, like in to_state_dict(blank(config)).items():
        noise = rng.normal(size=like.shape)
        if key in slopes and not folded:
            found[key] = np.ones(like.shape)
        elif key.endswith("num_batches_tracked") or (frozen and key == "features.weight"):
            found[key] = like
        elif key.endswith("running_var"):
            found[key] = 0.5 + noise**2
        elif like.ndim > 1 and not key.endswith(("pos_embed", "mask_token")):
            found[key] = noise / np.prod(like.shape[1:]) ** 0.5
        elif key.endswith("weight"):
            # Gammas and slopes; a slope below zero would be a fold.
            found[key] = 1.0 + 0.3 * noise if "bn" in key or "norm" in key else abs(0.3 * noise)
        else:
            found[key] = 0.3 * noise
    return found


def ours(config, state_dict, images, weights):
    """The reference's outputs from our network."""
    model = from_state_dict(state_dict, model=config)
    *warm_up, images = images
    embed = nnx.jit(lambda model, images: model(images))
    for batch in warm_up:
        embed(model, batch)
    fixed = nnx.view(model, use_running_average=True, deterministic=True)
    outputs = {"evaluation": embed(fixed, images)}

    def loss(model, images):
        embeddings = model(images)
        return jnp.sum(embeddings * weights), embeddings

    gradients, outputs["training"] = nnx.jit(nnx.grad(loss, has_aux=True))(model, images)
    outputs |= {f"after/{key}": value for key, value in to_state_dict(model).items()}
    # Named by the same rules: a network whose parameters are the gradients.
    nnx.update(model, gradients)
    of_gradients = to_state_dict(model)
    trained = [key for key in of_gradients if not key.endswith(("tracked", "mean", "var"))]
    return outputs | {f"gradient/{key}": of_gradients[key] for key in trained}


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [(name, np.float64, 1e-6) for name in CONFIGS] + [(name, np.float32, 1e-3) for name in CONFIGS],
)
def test_values_statistics_and_gradients_equal_pytorch_float64(name, dtype, tolerance, peers, rng):
    config = CONFIGS[name]
    state_dict = random_state_dict(config, rng, folded=dtype == np.float64)
    side = config.image_size
    images = rng.uniform(-1, 1, (STEPS, BATCH, side, side, 3))
    weights = rng.normal(size=(BATCH, 16))
    theirs = peers(
        REFERENCE.read_text(),
        config=described(config),
        images=images,
        weights=weights,
        **{f"state/{key}": value for key, value in state_dict.items()},
    )
    with jax.enable_x64(dtype == np.float64):
        config = dataclasses.replace(config, dtype=dtype)
        state_dict = {
            key: value if value.dtype == np.int64 else value.astype(dtype)
            for key, value in state_dict.items()
        }
        got = ours(config, state_dict, jnp.asarray(images, dtype), jnp.asarray(weights, dtype))
    assert got["training"].dtype == got["evaluation"].dtype == dtype
    # Frozen, or without part in this.
    assert got.keys() - theirs.keys() <= {"gradient/mask_token", "gradient/features.weight"}
    assert not theirs.keys() - got.keys()
    gradients = [key for key in theirs if key.startswith("gradient/")]
    steepest = max(np.abs(theirs[key]).max() for key in gradients)
    # ReLU6 has folds whatever the slopes: there the gradients of float32 are not compared.
    jumps = dtype == np.float32 and isinstance(config, MobileFaceNet128dConfig)
    for key, expected in theirs.items():
        if key.endswith("tracked") or (jumps and key in gradients):
            continue
        largest = np.abs(expected).max()
        # Batch norm takes away what some biases add: their gradient is the rounding of zero.
        if key in gradients and largest < 1e-10 * steepest:
            largest = steepest
        np.testing.assert_allclose(
            got[key], expected, rtol=0, atol=tolerance * largest, err_msg=key
        )
