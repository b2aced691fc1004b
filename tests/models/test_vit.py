"""Vision transformers: exact sizes, and what only training leaves out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arcface_jax.models.counting import count
from arcface_jax.models.vit import Block, ViT, ViTConfig, keep_random, put_back

SMALL = ViTConfig(width=32, depth=2, heads=4, embedding_dim=16, image_size=30)  # 9 tokens
SIZES = {
    "t": ViTConfig(width=256, depth=12, heads=8),
    "s": ViTConfig(width=512, depth=12, heads=8),
    "b": ViTConfig(width=512, depth=24, heads=8),
    "l": ViTConfig(width=768, depth=24, heads=8),
}


def make(**changes):
    return ViT(dataclasses.replace(SMALL, **changes), rngs=nnx.Rngs(params=0, dropout=1))


def evaluating(model):
    return nnx.view(model, use_running_average=True, deterministic=True)


@nnx.jit
def gradients(model, images):
    """Of a loss that batch norm does not make constant."""
    return nnx.grad(lambda model: (model(images) ** 3).sum())(model)


def without_branches(model):
    """The same, with blocks that add nothing."""
    for block in model.blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
    return model


@pytest.fixture
def images(rng):
    return jnp.asarray(rng.uniform(-1, 1, (8, 30, 30, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("name", "parameters", "statistics", "macs"),
    [
        # Statistics: buffers of the specification minus one batch counter for each of two norms.
        ("t", 19_137_792, 1_538 - 2, 1_377_480_704 + 127_401_984),
        ("s", 76_023_296, 2_050 - 2, 5_491_744_768 + 254_803_968),
        ("b", 113_833_472, 2_050 - 2, 10_927_562_752 + 509_607_936),
        ("l", 255_684_352, 2_562 - 2, 24_573_382_656 + 764_411_904),
    ],
)
def test_counts_are_those_of_the_published_networks(name, parameters, statistics, macs):
    counts = count(SIZES[name])
    assert counts.parameters == parameters
    assert counts.statistics == statistics
    assert counts.macs == macs


def test_rows_and_columns_that_fill_no_patch_are_unused(images):
    model = evaluating(make())
    changed = images.at[:, 27:].set(5.0).at[:, :, 27:].set(-5.0)
    np.testing.assert_array_equal(model(images), model(changed))
    assert not np.allclose(model(images), model(images.at[:, 26, 26].set(5.0)))


def test_tokens_come_row_by_row():
    model = without_branches(make())
    model.patch_embed.proj.kernel[...] = jnp.ones_like(model.patch_embed.proj.kernel[...])
    only = jnp.zeros((1, 30, 30, 3)).at[:, 9:18, :9].set(1.0)
    sums = model.patch_embed(only)[0, :, 0] - model.patch_embed.proj.bias[...][0]
    np.testing.assert_allclose(sums, 243.0 * jax.nn.one_hot(3, 9), atol=1e-4)


@pytest.mark.parametrize("changes", [{}, dict(drop_path=0.1, mask_ratio=0.3)])
def test_training_mode_embeddings_have_length_root_dim(changes, rng):
    images = jnp.asarray(rng.uniform(-1, 1, (32, 30, 30, 3)), jnp.float32)
    norms = jnp.linalg.norm(make(embedding_dim=64, **changes)(images), axis=1)
    assert float(jnp.sqrt(jnp.mean(norms**2))) == pytest.approx(8.0, abs=0.02)


def test_patch_embedding_starts_as_pytorch_s_convolutions_do():
    layer = make().patch_embed.proj
    bound = 243**-0.5
    for values in (layer.kernel[...], layer.bias[...]):
        assert float(jnp.abs(values).max()) == pytest.approx(bound, rel=0.05)
        assert float(jnp.abs(values).mean()) == pytest.approx(bound / 2, rel=0.2)


def test_other_kernels_start_as_an_uncut_normal_of_a_fiftieth():
    model = make()
    block = model.blocks[0]
    layers = block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2, model.feature[0]
    for values in (*(layer.kernel[...] for layer in layers), model.pos_embed[...]):
        assert float(values.std()) == pytest.approx(0.02, rel=0.1)
        assert float(jnp.abs(values).max()) > 2.5 * 0.02
    for layer in layers[1:4]:
        assert not layer.bias[...].any()


def test_evaluation_leaves_nothing_out_and_is_free_of_the_batch(images):
    model = make(drop_path=0.5, mask_ratio=0.5)
    fixed = evaluating(model)
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.BatchStat))
    np.testing.assert_array_equal(fixed(images), fixed(images))
    np.testing.assert_allclose(fixed(images)[:2], fixed(images[:2]), rtol=1e-5, atol=1e-5)
    whole = make()
    trained = (nnx.Param, nnx.BatchStat)
    nnx.update(whole, nnx.state(model, trained))
    np.testing.assert_array_equal(fixed(images), evaluating(whole)(images))
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves(nnx.state(model, nnx.BatchStat)), strict=True
    ):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("changes", [dict(drop_path=0.5), dict(mask_ratio=0.5)])
def test_training_leaves_out_something_else_each_time(changes, images):
    model = make(**changes)
    assert not np.allclose(model(images), model(images))


def test_nothing_left_out_needs_no_stream_of_its_own(images):
    model = ViT(SMALL, rngs=nnx.Rngs(params=0))
    assert not jax.tree.leaves(nnx.state(model, nnx.RngState))
    model(images)


def test_drop_path_rises_linearly():
    rates = [block.drop_path.rate for block in make(depth=5, drop_path=0.2).blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert [block.drop_path.rate for block in make(depth=1, drop_path=0.2).blocks] == [0.0]


def test_drop_path_leaves_out_whole_examples_and_keeps_the_expectation(rng):
    block = Block(SMALL, drop_path=0.25, rngs=nnx.Rngs(params=0, dropout=1))
    block.mlp.fc2.kernel[...] = jnp.zeros_like(block.mlp.fc2.kernel[...])
    x = jnp.broadcast_to(jnp.asarray(rng.normal(size=(1, 9, 32)), jnp.float32), (2000, 9, 32))
    branch = (nnx.view(block, deterministic=True)(x) - x)[0]
    got = block(x) - x
    times = jnp.einsum("bnd,nd->b", got, branch) / jnp.sum(branch**2)
    np.testing.assert_allclose(got, times[:, None, None] * branch[None], atol=1e-5)
    np.testing.assert_allclose(times, jnp.where(times > 0.5, 4 / 3, 0.0), atol=1e-4)
    assert float(times.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("size", "ratio", "kept"),
    [(112, 0.1, 129), (112, 0.05, 136), (30, 0.5, 4), (30, 0.8, 1), (90, 0.9, 10), (112, 0.0, 144)],
)
def test_the_share_of_kept_tokens_is_rounded_down(size, ratio, kept):
    assert dataclasses.replace(SMALL, image_size=size, mask_ratio=ratio).kept_tokens == kept


def test_kept_tokens_return_to_their_places_and_the_filler_takes_the_others(rng):
    tokens = jnp.asarray(rng.normal(size=(6, 9, 4)), jnp.float32)
    kept, places = keep_random(jax.random.key(0), tokens, 5)
    assert all(len(set(row)) == 5 for row in places.tolist())
    assert len({tuple(sorted(row)) for row in places.tolist()}) > 1
    full = put_back(kept, places, jnp.full(4, 7.0), 9)
    inside = jnp.any(places[:, :, None] == jnp.arange(9)[None, None], axis=1)[:, :, None]
    np.testing.assert_array_equal(full, jnp.where(inside, tokens, 7.0))


def test_every_token_is_kept_equally_often():
    _, places = keep_random(jax.random.key(0), jnp.zeros((4000, 8, 1)), 2)
    shares = jnp.bincount(places.ravel(), length=8) / 4000
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_the_mask_token_stands_where_a_token_was_left_out(images):
    model = without_branches(make(mask_ratio=0.4))
    model.mask_token[...] = jnp.full_like(model.mask_token[...], 7.0)
    got = model.token_features(images)
    masked = jnp.all(got == 7.0, axis=-1)
    assert (masked.sum(1) == 4).all()
    whole = evaluating(model).token_features(images)
    np.testing.assert_allclose(got, jnp.where(masked[:, :, None], 7.0, whole), atol=1e-6)


def test_left_out_tokens_are_unseen_by_the_others(images):
    model = make(mask_ratio=0.4)
    model.mask_token[...] = jnp.full_like(model.mask_token[...], 7.0)
    got = model.token_features(images)
    embedded = model.patch_embed(images) + model.pos_embed[...]
    for example in range(2):
        kept = np.flatnonzero((got[example] != 7.0).any(-1))
        x = embedded[example : example + 1, kept]
        for block in model.blocks:
            x = block(x)
        np.testing.assert_allclose(got[example, kept], model.norm(x)[0], atol=1e-5)


def test_the_mask_token_learns_from_masked_training_only(images):
    def gradient(model):
        return np.asarray(gradients(model, images)["mask_token"][...])

    assert np.abs(gradient(make(mask_ratio=0.4))).max() > 0
    assert not gradient(make()).any()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_parameters_statistics_and_embeddings_in_float32(dtype, images):
    model = make(dtype=dtype)
    assert model.blocks[0](jnp.ones((1, 9, 32))).dtype == jnp.float32
    assert model.blocks[0].attn(jnp.ones((1, 9, 32))).dtype == dtype
    grads = gradients(model, images)
    embeddings = model(images)
    assert embeddings.dtype == jnp.float32
    for leaf in jax.tree.leaves((grads, nnx.state(model, (nnx.Param, nnx.BatchStat)))):
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()
    np.testing.assert_allclose(embeddings, make()(images), atol=0.1)


@pytest.mark.slow
def test_rematerialization_changes_neither_values_nor_gradients_nor_state(images):
    def step(remat):
        model = make(remat=remat, drop_path=0.3, mask_ratio=0.3)
        return gradients(model, images), nnx.state(model, nnx.BatchStat), model(images)

    for plain, again in zip(
        jax.tree.leaves(step("none")), jax.tree.leaves(step("block")), strict=True
    ):
        # A constant before batch norm has no gradient but rounding: hence an absolute part.
        np.testing.assert_allclose(again, plain, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("remat", ["none", "block", "stage"])
def test_rematerialization_keeps_nothing_of_a_block_but_its_input(remat, images):
    graphdef, params, rest = nnx.split(make(remat=remat), nnx.Param, ...)

    def loss(params):
        return nnx.merge(graphdef, params, rest, copy=True)(images).sum()

    pull = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params)
    # Of the two products inside attention and MLP, [B, heads, tokens, tokens], [B, tokens, 4 D].
    inside = [x for x in jax.tree.leaves(pull) if x.shape in ((8, 4, 9, 9), (8, 9, 128))]
    assert bool(inside) == (remat == "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(depth=0), "depth=0 must be at least 1"),
        (dict(heads=5), "width=32 does not divide into heads=5; take a multiple"),
        (dict(patch=31), "patch=31 is larger than image_size=30"),
        (dict(drop_path=1.0), r"drop_path=1.0 lies outside \[0, 1\)"),
        (dict(mask_ratio=-0.1), r"mask_ratio=-0.1 lies outside \[0, 1\)"),
        (dict(mask_ratio=0.95), "leaves none of 9 tokens; take at most 0.889"),
        (dict(remat="blocks"), "Did you mean block"),
        (dict(channels=2), "images have 1"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"expected images \[B, 30, 30, 3\], got \(1, 28, 28, 3\)"):
        make()(jnp.zeros((1, 28, 28, 3)))
