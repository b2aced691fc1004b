"""What every backbone can do beside its layers: rematerialise, leave out, compute in half."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arcface_jax.models import (
    BackboneConfig,
    IResNetConfig,
    MobileFaceNet128dConfig,
    MobileFaceNetConfig,
)

CONFIGS = {
    "iresnet": IResNetConfig(depths=(2, 1), widths=(4, 8), embedding_dim=8, image_size=12),
    "mobilefacenet": MobileFaceNetConfig(
        blocks=(1, 1, 1, 1), scale=1, embedding_dim=8, image_size=16
    ),
    "mobilefacenet_128d": MobileFaceNet128dConfig(embedding_dim=8, image_size=16),
}


def images_of(config, rng):
    side = config.image_size
    return jnp.asarray(rng.uniform(-1, 1, (8, side, side, 3)), jnp.float32)


def step(config, images):
    """Embeddings, gradients and statistics of one step in training mode."""
    graphdef, params, rest = nnx.split(config.build(rngs=nnx.Rngs(0)), nnx.Param, ...)

    def loss(params):
        net = nnx.merge(graphdef, params, rest, copy=True)
        embeddings = net(images)
        weights = jnp.sin(jnp.arange(embeddings.size)).reshape(embeddings.shape)
        return (embeddings * weights).sum(), (embeddings, nnx.state(net, nnx.BatchStat))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


@pytest.mark.parametrize("name", CONFIGS)
def test_rematerialisation_changes_nothing_but_memory(name, rng):
    config = CONFIGS[name]
    images = images_of(config, rng)
    expected = step(config, images)
    for remat in ("stage", "block"):
        got = step(dataclasses.replace(config, remat=remat), images)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            largest = max(1e-3, float(abs(b).max()))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * largest, err_msg=remat)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_leaves_the_state_and_the_embedding_float32(name, dtype, rng):
    config = dataclasses.replace(CONFIGS[name], dtype=dtype)
    net = config.build(rngs=nnx.Rngs(0))
    embeddings = net(images_of(config, rng))
    assert embeddings.dtype == jnp.float32 and bool(jnp.isfinite(embeddings).all())
    state = nnx.state(net, (nnx.Param, nnx.BatchStat))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def test_training_mode_embeddings_have_length_root_dim(rng):
    config = MobileFaceNetConfig(blocks=(1, 1, 1, 1), embedding_dim=64, image_size=32)
    images = jnp.asarray(rng.uniform(-1, 1, (16, 32, 32, 3)), jnp.float32)
    norms = jnp.linalg.norm(config.build(rngs=nnx.Rngs(0))(images), axis=1)
    assert float(jnp.sqrt(jnp.mean(norms**2))) == pytest.approx(8.0, abs=0.05)


def test_drop_path_rises_with_depth_and_leaves_whole_examples_out(rng):
    config = IResNetConfig(
        depths=(3, 2), widths=(4, 4), embedding_dim=8, image_size=12, drop_path=0.8
    )
    net = config.build(rngs=nnx.Rngs(params=0, dropout=1))
    blocks = [block for stage in net.stages for block in stage.blocks]
    rates = [0.0 if block.drop_path is None else block.drop_path.rate for block in blocks]
    np.testing.assert_allclose(rates, [0.0, 0.2, 0.4, 0.6, 0.8])
    x = jnp.asarray(rng.normal(size=(64, 3, 3, 4)), jnp.float32)
    block = blocks[-1]
    branch = block(x) - x
    left_out = np.asarray((branch == 0).all(axis=(1, 2, 3)))
    assert 0.6 < left_out.mean() < 0.95
    fixed = nnx.view(net, use_running_average=True, deterministic=True)
    whole = fixed.stages[1].blocks[1](x) - x
    assert bool((whole != 0).any(axis=(1, 2, 3)).all())


def test_a_trained_output_gamma_is_a_parameter():
    config = dataclasses.replace(CONFIGS["iresnet"], output_gamma=True)
    assert config.build(rngs=nnx.Rngs(0)).features.scale[...].tolist() == [1.0] * 8
    assert CONFIGS["iresnet"].build(rngs=nnx.Rngs(0)).features.scale is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(remat="blocks"), "Did you mean block"),
        (dict(norm_momentum=1.0), r"outside \[0, 1\)"),
        (dict(norm_epsilon=0.0), "must be positive"),
        (dict(norm_group=-1), "norm_group=-1 must be at least 0"),
    ],
)
def test_impossible_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BackboneConfig(**change)
