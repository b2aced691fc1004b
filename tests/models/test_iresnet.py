"""The improved residual network: exact layers, counts and norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arcface_jax import geometry
from arcface_jax.models import MODELS, IResNet, IResNetConfig, create


def count(model, kind):
    return sum(x.size for x in jax.tree.leaves(nnx.state(model, kind)))


@pytest.mark.parametrize(
    ("name", "trained", "statistics"),
    [
        # Statistics: buffers of the specification minus one batch counter per batch norm.
        ("iresnet18", 24_025_088, 14_751 - 31),
        ("iresnet34", 34_138_816, 25_911 - 55),
        ("iresnet50", 43_590_336, 38_223 - 79),
        ("iresnet100", 65_155_648, 69_786 - 154),
        ("iresnet200", 118_833_408, 136_365 - 301),
    ],
)
def test_parameter_counts_are_those_of_the_published_networks(name, trained, statistics):
    model = nnx.eval_shape(lambda: create(name, rngs=nnx.Rngs(0)))
    assert count(model, nnx.Param) == trained
    assert count(model, nnx.BatchStat) == statistics


def test_every_stage_projects_its_first_block_only():
    model = nnx.eval_shape(lambda: create("iresnet34", rngs=nnx.Rngs(0)))
    for stage in model.stages:
        assert [block.shortcut is not None for block in stage.blocks] == [True] + [False] * (
            len(stage.blocks) - 1
        )


@pytest.mark.parametrize("size", [28, 32, 48, 64])
def test_small_networks_take_images_of_28_to_64_px(size):
    model = create("resnet_small", image_size=size, channels=1, rngs=nnx.Rngs(0))
    assert model(jnp.zeros((2, size, size, 1))).shape == (2, 64)


def test_training_mode_embeddings_have_length_root_dim(rng):
    model = create("resnet_small", rngs=nnx.Rngs(0))
    images = jnp.asarray(rng.uniform(-1, 1, (32, 32, 32, 3)), jnp.float32)
    norms = jnp.linalg.norm(model(images), axis=1)
    assert float(jnp.sqrt(jnp.mean(norms**2))) == pytest.approx(8.0, abs=0.01)


def test_evaluation_mode_is_free_of_the_batch_and_near_training_mode(rng):
    config = IResNetConfig(depths=(1, 1), widths=(4, 8), embedding_dim=8, image_size=12)
    model = IResNet(config, rngs=nnx.Rngs(0))
    images = jnp.asarray(rng.uniform(-1, 1, (64, 12, 12, 3)), jnp.float32)
    step = nnx.jit(lambda model, images: model(images))
    for _ in range(60):
        trained = step(model, images)
    fixed = nnx.view(model, use_running_average=True, deterministic=True)
    np.testing.assert_allclose(fixed(images)[:2], fixed(images[:2]), rtol=1e-4, atol=1e-4)
    cosines = geometry.cosine_matrix(fixed(images), trained)
    assert float(jnp.diagonal(cosines).min()) > 0.99


def test_bfloat16_keeps_parameters_statistics_and_embeddings_in_float32(rng):
    model = create("resnet_small", dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    images = jnp.asarray(rng.uniform(-1, 1, (16, 32, 32, 3)), jnp.float32)
    embeddings = model(images)
    assert embeddings.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(nnx.state(model))} <= {
        jnp.dtype("float32"),
        jnp.dtype("uint32"),
    } | {x.dtype for x in jax.tree.leaves(nnx.state(model, nnx.RngState))}
    exact = create("resnet_small", rngs=nnx.Rngs(0))(images)
    cosines = jnp.sum(embeddings * exact, 1) / (
        jnp.linalg.norm(embeddings, axis=1) * jnp.linalg.norm(exact, axis=1)
    )
    assert float(cosines.min()) > 0.95


def test_dropout_needs_its_own_stream_and_changes_training_only(rng):
    model = create("resnet_small", dropout=0.4, rngs=nnx.Rngs(params=0, dropout=1))
    images = jnp.asarray(rng.uniform(-1, 1, (4, 32, 32, 3)), jnp.float32)
    assert not np.allclose(model(images), model(images))
    fixed = nnx.view(model, use_running_average=True, deterministic=True)
    np.testing.assert_array_equal(fixed(images), fixed(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(depths=(1, 1)), "name the same stages"),
        (dict(widths=(16, 32, 0, 128)), "must be at least 1"),
        (dict(channels=2), "images have 1"),
        (dict(dropout=1.0), r"outside \[0, 1\)"),
        (dict(image_size=8), "halved 4 times"),
        (dict(width=3), "Did you mean widths"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        create("resnet_small", **change, rngs=nnx.Rngs(0))


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean iresnet"):
        create("iresnet5", rngs=nnx.Rngs(0))
    assert "resnet_small" in MODELS


def test_images_of_another_size_are_refused():
    model = create("resnet_small", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"expected images \[B, 32, 32, 3\], got \(1, 28, 28, 3\)"):
        model(jnp.zeros((1, 28, 28, 3)))


def test_final_size_rounds_up_as_the_convolutions_do():
    assert IResNetConfig(depths=(1, 1, 1, 1), widths=(8,) * 4, image_size=28).final_size == 2
    assert IResNetConfig(depths=(1, 1, 1, 1), widths=(8,) * 4, image_size=112).final_size == 7
