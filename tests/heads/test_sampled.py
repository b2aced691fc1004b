"""Partial FC: which classes a step meets, and that their loss is the dense one's over them."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from margin_table import ROWS

import arcface_jax as af
from arcface_jax import testing
from arcface_jax.heads import Dense, Fused, Sampled, Sharded
from arcface_jax.heads.sampled import choose_classes, rows_of
from arcface_jax.parallel import make_mesh

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text())[
    "sharding_and_sampling"
]

# Their sums over classes would not be those of a sample.
WHOLE = {"adacos", "p2sgrad", "sphereface2", "vpl"}
KEY = jax.random.key(7)
EIGHT = 8


def draw(head, labels, *, num_classes):
    """The sample of `KEY`, compiled: devices take turns where it is not."""
    return jax.jit(lambda labels: head.draw(labels, num_classes=num_classes, key=KEY))(labels)


def value_and_gradients(margin, batch, head, **changed):
    """(losses, next state, gradients to embeddings and centres), compiled."""

    @jax.jit
    def compiled(embeddings, centers):
        def total(embeddings, centers):
            losses, state = testing.evaluate(
                margin, batch, head=head, embeddings=embeddings, centers=centers, **changed
            )
            return losses.sum(), (losses, state)

        return jax.grad(total, argnums=(0, 1), has_aux=True)(embeddings, centers)

    centers = changed.pop("centers", batch.centers)
    grads, (losses, state) = compiled(batch.embeddings, centers)
    return losses, state, grads


def assert_close(got, expected, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        largest = max(float(np.abs(b).max()), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)


def assert_is_dense_on_its_sample(margin, head, rows=EIGHT, classes=testing.CLASSES, **changed):
    """Value and gradients are those of the dense head that is given the sampled rows alone."""
    batch = dataclasses.replace(testing.make_batch(margin, rows=rows, classes=classes), key=KEY)
    sample = draw(head, batch.labels, num_classes=classes)
    real = np.asarray(sample.classes)[np.asarray(sample.classes) < classes]
    alone = dataclasses.replace(
        batch,
        centers=batch.centers[real],
        labels=rows_of(jnp.asarray(real), batch.labels),
        bias=None if batch.bias is None else batch.bias[real],
    )
    losses, state, (by_x, by_rows) = value_and_gradients(margin, alone, "dense", **changed)
    by_w = jnp.zeros_like(batch.centers).at[real].set(by_rows)
    got = value_and_gradients(margin, batch, head, **changed)
    assert_close(got, (losses, state, (by_x, by_w)))
    return real


# ------------------------------------------------------------------ which classes


@pytest.mark.parametrize("example", GOLDEN["sampling_examples"])
def test_the_set_is_that_of_the_worked_examples(example):
    labels = jnp.asarray(example["local_labels"], jnp.int32)
    uniforms = jnp.asarray(example["uniforms"], jnp.float32)
    present = jnp.zeros(11, bool).at[jnp.where(labels >= 0, labels, 10)].set(True)[:10]
    real = example["num_real_classes"]
    classes = choose_classes(uniforms, present, size=example["size"], real=real)
    np.testing.assert_array_equal(classes, example["sampled"])
    np.testing.assert_array_equal(classes < real, example["sampled_is_real"])
    rows = rows_of(classes, labels)
    np.testing.assert_array_equal(rows, example["remapped_labels"])
    np.testing.assert_array_equal((rows < 0) & (labels >= 0), example["dropped_samples"])


@pytest.mark.parametrize(
    ("rate", "rows", "classes", "size"),
    [
        (0.1, 8, 1000, 100),
        (0.0, 8, 1000, 8),
        (0.1, 128, 1000, 128),
        (1.0, 8, 10, 10),
        (0.5, 8, 5, 5),
    ],
)
def test_a_sample_is_no_smaller_than_its_batch(rate, rows, classes, size):
    head = Sampled(rate=rate)
    assert head.size(rows=rows, num_classes=classes) == size
    labels = jnp.arange(rows) % classes
    sample = draw(head, labels, num_classes=classes)
    assert sample.classes.shape == (size,) and sample.met == size
    assert (jnp.diff(sample.classes) > 0).all() and bool(sample.kept.all())
    np.testing.assert_array_equal(sample.classes[sample.labels], labels)


def test_the_others_are_drawn_evenly_and_anew_in_each_step():
    head, labels = Sampled(rate=0.25), jnp.array([3, 3, 10, -1])
    keys = jax.random.split(KEY, 2000)
    drawn = jax.vmap(lambda key: head.draw(labels, num_classes=40, key=key).classes)(keys)
    share = np.bincount(np.asarray(drawn).ravel(), minlength=40) / 2000
    assert share[3] == share[10] == 1.0
    # 8 of 38 in 2000 draws: five standard deviations are 0.046.
    np.testing.assert_allclose(np.delete(share, [3, 10]), 8 / 38, atol=0.046)
    again = head.draw(labels, num_classes=40, key=keys[5]).classes
    np.testing.assert_array_equal(again, drawn[5])


def test_devices_draw_apart_from_one_another():
    head = Sampled(rate=0.25, head=Sharded(mesh=make_mesh(4)))
    sample = draw(head, jnp.full(4, -1), num_classes=400)
    parts = np.asarray(sample.classes).reshape(4, 25) - 100 * np.arange(4)[:, None]
    assert parts.min() >= 0 and parts.max() < 100
    assert len({tuple(part) for part in parts.tolist()}) == 4


# ------------------------------------------------------------------ the loss


@pytest.mark.parametrize("inner", [Dense(), Fused(block=4)], ids=["dense", "fused"])
@pytest.mark.parametrize(
    "name",
    ["arcface", "adaface", "curricularface", "softmax", "uniface_per_class", "subcenter_arcface"],
)
def test_a_sample_is_the_dense_head_on_it(name, inner):
    head = Sampled(rate=0.4, head=inner)
    where = jnp.arange(EIGHT) != 3
    real = assert_is_dense_on_its_sample(ROWS[name].margin, head, classes=23, where=where)
    assert len(real) == 9


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize(("data", "classes"), [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4)])
def test_on_every_mesh_it_is_the_dense_head_on_the_sample(data, classes, kind):
    mesh = make_mesh(classes, data, axis_type=kind)
    head = Sampled(rate=0.3, head=Sharded(mesh=mesh, local=Fused(block=3)))
    # 21 classes on 8 devices: three each, of which the last device has none.
    assert_is_dense_on_its_sample(af.curricularface(), head, classes=21)


def test_label_smoothing_is_spread_over_the_sample():
    head = Sampled(rate=0.4, head=Sharded(mesh=make_mesh(4)))
    assert_is_dense_on_its_sample(af.arcface(), head, classes=21, label_smoothing=0.2)


def test_padded_centres_are_told_by_the_number_of_classes():
    mesh, margin = make_mesh(4), af.arcface()
    batch = dataclasses.replace(testing.make_batch(margin, rows=EIGHT, classes=21), key=KEY)
    expected = value_and_gradients(margin, batch, Sampled(head=Sharded(mesh=mesh)))
    padded = Sampled(head=Sharded(mesh=mesh, num_classes=21))
    centers = jnp.pad(batch.centers, ((0, 3), (0, 0)), constant_values=1.0)
    losses, _, (by_x, by_w) = value_and_gradients(margin, batch, padded, centers=centers)
    assert_close((losses, by_x, by_w[:21]), (expected[0], *expected[2]))
    np.testing.assert_array_equal(by_w[21:], 0.0)


@pytest.mark.parametrize("parts", [None, 4])
def test_log_q_makes_the_sum_over_classes_right_on_average(parts):
    inner = Dense() if parts is None else Sharded(mesh=make_mesh(parts), local=Dense())
    margin = af.uniface(0.2)
    batch = testing.make_batch(margin, rows=4, classes=60)
    options = dict(margin=margin, scale=4.0, params=batch.params)
    data = (batch.embeddings, batch.centers, batch.labels)
    # This loss is a sum of one term per class, so that its mean over draws has no bias.
    expected = af.margin_softmax_loss(*data, **options)

    def losses(head):
        one = jax.jit(lambda key: af.margin_softmax_loss(*data, head=head, key=key, **options))
        return np.stack([one(key) for key in jax.random.split(KEY, 400)])

    corrected = losses(Sampled(rate=0.2, head=inner, log_q=True))
    error = corrected.std(0) / 400**0.5
    assert (np.abs(corrected.mean(0) - expected) < 4.5 * error).all()
    bare = losses(Sampled(rate=0.2, head=inner))
    assert (expected - bare.mean(0) > 20 * error).all()


def test_a_sample_that_is_drawn_beforehand_gives_gradients_of_its_own_rows():
    margin, head = af.arcface(), Sampled(rate=0.4)
    batch = dataclasses.replace(testing.make_batch(margin, classes=23), key=KEY)
    sample = draw(head, batch.labels, num_classes=23)
    expected = value_and_gradients(margin, batch, head)
    rows = sample.take(batch.centers)
    got = value_and_gradients(margin, batch, head.on(sample), centers=rows)
    assert got[2][1].shape == rows.shape
    assert_close(
        (got[0], got[2][0], sample.put(jnp.zeros_like(batch.centers), got[2][1])),
        (expected[0], *expected[2]),
    )


# ------------------------------------------------------------------ more classes than places


def test_too_many_classes_are_refused_before_anything_runs():
    head = Sampled(rate=0.1, max_sampled=4)
    margin = af.arcface()
    with pytest.raises(ValueError, match=r'can have 6 classes .* keeps 4; .* overflow="drop"'):
        testing.evaluate(margin, testing.make_batch(margin), head=head)


@pytest.mark.parametrize("parts", [None, 2])
def test_dropped_examples_lose_nothing_and_count_for_nothing(parts):
    inner = Fused() if parts is None else Sharded(mesh=make_mesh(parts))
    head = Sampled(rate=0.0, head=inner, max_sampled=2, overflow="drop")
    # Its loss has a part per row that knows nothing of classes, and its statistics are of rows.
    for margin in (af.magface(strength=35.0), af.adaface()):
        batch = dataclasses.replace(testing.make_batch(margin, rows=EIGHT), key=KEY)
        sample = draw(head, batch.labels, num_classes=testing.CLASSES)
        kept = sample.kept
        assert 0 < int(kept.sum()) < EIGHT
        losses, state, (by_x, _) = value_and_gradients(margin, batch, head)
        assert (losses[kept] > 0).all() and (losses[~kept] == 0).all() and (by_x[~kept] == 0).all()
        same = jnp.where(kept, batch.labels, -1)
        masked = dataclasses.replace(batch, labels=same)
        expected = value_and_gradients(
            margin, masked, head.on(sample), centers=sample.take(batch.centers)
        )
        assert_close((losses, state, by_x), (expected[0], expected[1], expected[2][0]))


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_margin_that_needs_every_class_is_refused_with_the_reason(name):
    margin = ROWS[name].margin
    with pytest.raises(ValueError, match="cannot be used on a sample of the classes: it"):
        testing.evaluate(margin, testing.make_batch(margin), head=Sampled())


def test_a_label_that_names_no_class_is_nan_in_its_row_alone():
    margin = af.arcface()
    batch = testing.make_batch(margin)
    labels = batch.labels.at[2].set(99)
    losses = jax.jit(lambda y: testing.evaluate(margin, batch, labels=y, head=Sampled())[0])(labels)
    assert np.flatnonzero(np.isnan(losses)).tolist() == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rate=1.5), r"rate=1.5 lies outside \[0, 1\]"),
        (dict(update="spares"), "Did you mean sparse"),
        (dict(overflow="dorp"), "Did you mean drop"),
        (dict(max_sampled=0), "at least 1 class"),
        (dict(head=Sampled()), "takes it whole"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sampled(**options)


def test_a_missing_key_is_asked_for():
    margin = af.arcface()
    with pytest.raises(ValueError, match=r"pass key=jax.random.key\(step\)"):
        testing.evaluate(margin, testing.make_batch(margin), head=Sampled(), key=None)
