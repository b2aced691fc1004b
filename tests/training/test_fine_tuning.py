"""Training that begins with weights from elsewhere, with a frozen backbone, and in float16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import arcface_jax as af
from arcface_jax.models import IResNetConfig, MobileFaceNet128dConfig, Preprocessing
from arcface_jax.training import Hyper, Program, ProgramConfig, ScheduleConfig

MODEL = IResNetConfig(depths=(1, 1), widths=(4, 8), embedding_dim=8, image_size=12)
HYPER = Hyper(margin=af.arcface(0.2), scale=16.0, learning_rate=0.05, weight_decay=5e-4)


def program(model=MODEL, **changes):
    schedule = ScheduleConfig(name="constant", steps=1000)
    return Program(ProgramConfig(model=model, num_classes=5, schedule=schedule, **changes))


def batch(rng, size=12):
    images = rng.integers(0, 256, (16, size, size, 3), np.uint8)
    return images, rng.integers(0, 5, 16).astype(np.int32)


def arrays(state):
    leaves = jax.tree_util.tree_leaves_with_path(state)
    is_key = jax.dtypes.prng_key
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in leaves
        if not jnp.issubdtype(leaf.dtype, is_key)
    }


def test_a_run_begins_with_the_given_weights_and_leaves_them_alone(rng):
    backbone = MODEL.build(rngs=nnx.Rngs(7))
    backbone(jnp.asarray(rng.uniform(-1, 1, (4, 12, 12, 3)), jnp.float32))
    given = arrays(nnx.state(backbone, (nnx.Param, nnx.BatchStat)))
    fresh = program()
    state = fresh.init(HYPER, seed=0, backbone=backbone)
    images, labels = batch(rng)
    fixed = nnx.view(backbone, use_running_average=True, deterministic=True)
    normal = fresh.config.contract.normalize(images)
    np.testing.assert_allclose(fresh.embed(state, images), fixed(normal), rtol=2e-4, atol=2e-4)
    fresh.train_step(state, images, labels, HYPER)
    after = arrays(nnx.state(backbone, (nnx.Param, nnx.BatchStat)))
    assert all((after[key] == value).all() for key, value in given.items())


@pytest.mark.parametrize("head", ["dense", af.heads.Sampled(rate=0.5)])
def test_a_frozen_backbone_stays_and_the_head_learns(head, rng):
    frozen = program(frozen=True, head=head)
    state = frozen.init(HYPER, seed=0, backbone=MODEL.build(rngs=nnx.Rngs(7)))
    before = arrays((state.params, state.rest))
    images, labels = batch(rng)
    losses = []
    for _ in range(30):
        state, metrics = frozen.train_step(state, images, labels, HYPER)
        losses.append(float(metrics["loss"]))
    after = arrays((state.params, state.rest))
    assert after.keys() == before.keys()
    assert all((after[key] == value).all() for key, value in before.items())
    assert losses[-1] < 0.9 * losses[0]
    # Neither momentum nor shapes of what does not move.
    assert len(arrays(state.optimizer)) == 1
    shapes = jax.tree.map(lambda x: x.shape, frozen.shapes(HYPER))
    assert jax.tree.map(lambda x: x.shape, state) == shapes


def test_float16_gradients_are_those_of_float32_where_they_would_vanish(rng):
    images, labels = batch(rng)
    found = []
    # So small a scale makes gradients that float16 cannot hold.
    hyper = dataclasses.replace(HYPER, scale=1e-5, weight_decay=0.0)
    for dtype in (jnp.float32, jnp.float16):
        one = program(dataclasses.replace(MODEL, dtype=dtype))
        state, metrics = one.train_step(one.init(hyper, seed=0), images, labels, hyper)
        found.append((arrays(state.optimizer), float(metrics["loss"])))
    (wide, loss), (half, half_loss) = found
    assert half_loss == pytest.approx(loss, rel=1e-2)
    first = next(key for key in wide if "conv1" in key and "kernel" in key)
    scale = np.abs(wide[first]).max()
    assert 0 < scale < 1e-5
    np.testing.assert_allclose(half[first], wide[first], atol=0.1 * scale)


def test_images_are_normalised_by_the_contract(rng):
    contract = Preprocessing(size=12, colors="BGR", mean=(10.0, 20.0, 30.0), std=(50.0,))
    ours, usual = program(preprocessing=contract), program()
    state = ours.init(HYPER, seed=0)
    images, _ = batch(rng)
    by_hand = (np.float32(images)[..., ::-1] - np.float32([10, 20, 30])) / 50
    got = ours.embed(state, images, batch_statistics=True)
    expected = usual.embed(state, jnp.asarray(by_hand), batch_statistics=True)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    with pytest.raises(ValueError, match="takes 12 px with 3 channels"):
        program(preprocessing=dataclasses.replace(contract, size=14))


@pytest.mark.parametrize("flip", ["add", "add_unit"])
def test_the_mirrored_image_is_fused_as_the_contract_says(flip, rng):
    plain, fused = program(), program(preprocessing=Preprocessing(size=12, flip=flip))
    state = plain.init(HYPER, seed=0)
    images, _ = batch(rng)
    parts = [np.asarray(plain.embed(state, x)) for x in (images, images[:, :, ::-1])]
    if flip == "add_unit":
        parts = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in parts]
    expected = parts[0] + parts[1]
    got = fused.embed(state, images)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_other_backbones_train_too(rng):
    mobile = program(MobileFaceNet128dConfig(embedding_dim=8, image_size=16))
    images, labels = batch(rng, size=16)
    state, first = mobile.init(HYPER, seed=0), None
    for _ in range(10):
        state, metrics = mobile.train_step(state, images, labels, HYPER)
        first = float(metrics["loss"]) if first is None else first
    assert float(metrics["loss"]) < first
