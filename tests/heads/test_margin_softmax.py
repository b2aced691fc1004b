"""The margin softmax loss on the dense head."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from margin_table import CLOSED_FORMS, ROWS

import arcface_jax as af
from arcface_jax import geometry, testing

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text())
BATCH = GOLDEN["batch_level"]
DEGENERATE = GOLDEN["degenerate_batch"]


def reference(name, x, w, labels):
    """Per-row loss in NumPy float64, from the formula."""
    row = CLOSED_FORMS[name]
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (x / norms) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    rows = np.arange(len(x))
    logits = cosines.copy()
    logits[rows, labels] = row.reference(cosines[rows, labels])
    logits *= norms if row.scale is None else row.scale
    top = logits.max(1, keepdims=True)
    return np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[rows, labels]


# ------------------------------------------------------------------ the golden file


def golden_margin(case, gradient):
    return af.Margin(case["m1"], case["m2"], case["m3"], tail=case["tail"], gradient=gradient)


def relative_to_largest(got, expected):
    expected = np.asarray(expected)
    return np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("gradient", ["exact", "straight_through"])
@pytest.mark.parametrize("case", BATCH["cases"][1:], ids=lambda c: c["id"])
def test_batch_equals_the_golden_values_and_gradients(case, gradient):
    def mean(x, w):
        return af.margin_softmax_loss(
            x,
            w,
            jnp.array(BATCH["labels"]),
            margin=golden_margin(case, gradient),
            scale=case["s"],
        ).mean()

    value, grads = jax.value_and_grad(mean, argnums=(0, 1))(
        jnp.array(BATCH["embeddings"]), jnp.array(BATCH["weights"])
    )
    assert abs(float(value) - case["loss"]) <= 5e-6 * max(case["loss"], 0.05 * case["s"])
    expected = case[gradient]
    assert relative_to_largest(grads[0], expected["grad_embeddings"]) <= 2e-5
    assert relative_to_largest(grads[1], expected["grad_weights"]) <= 2e-5


def test_softmax_with_bias_equals_the_golden_values_and_gradients():
    case = BATCH["cases"][0]

    def mean(x, w, b):
        return af.margin_softmax_loss(
            x, w, jnp.array(BATCH["labels"]), margin=af.softmax(), bias=b
        ).mean()

    arrays = [jnp.array(BATCH[name]) for name in ("embeddings", "weights", "bias")]
    value, grads = jax.value_and_grad(mean, argnums=(0, 1, 2))(*arrays)
    assert float(value) == pytest.approx(case["loss"], rel=5e-6)
    for got, name in zip(grads, ("grad_embeddings", "grad_weights", "grad_bias"), strict=True):
        assert relative_to_largest(got, case[name]) <= 2e-5


@pytest.mark.parametrize("case", DEGENERATE["cases"], ids=lambda c: c["id"])
def test_degenerate_vectors_give_the_golden_gradients(case):
    def total(x, w):
        return af.margin_softmax_loss(
            x,
            w,
            jnp.array(DEGENERATE["labels"]),
            margin=golden_margin(case, "exact"),
            scale=DEGENERATE["s"],
        ).mean()

    x, w = jnp.array(DEGENERATE["embeddings"]), jnp.array(DEGENERATE["weights"])
    value, grads = jax.value_and_grad(total, argnums=(0, 1))(x, w)
    assert float(value) == pytest.approx(case["loss"], rel=5e-6)
    for got, name in zip(grads, ("grad_embeddings", "grad_weights"), strict=True):
        assert jnp.isfinite(got).all()
        assert relative_to_largest(got, case["exact"][name]) <= 2e-5
    assert (grads[0][2] == 0.0).all()
    assert (grads[1][4] == 0.0).all()


# ------------------------------------------------------------------ values from the formulas


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_value_equals_numpy_from_the_formula(name):
    row = CLOSED_FORMS[name]
    margin = row.margin
    with jax.enable_x64(True):
        batch = testing.make_batch(margin, dtype=jnp.float64)
        if batch.centers.ndim == 3:
            batch = dataclasses.replace(batch, centers=batch.centers[:, 0])
        got, _ = testing.evaluate(margin, batch, scale=row.scale)
        expected = reference(name, batch.embeddings, batch.centers, np.asarray(batch.labels))
        np.testing.assert_allclose(got, expected, rtol=1e-11)


def test_the_nearest_of_several_centres_counts_and_alone_gets_the_gradient(rng):
    x, w = rng.normal(size=(4, 5)), rng.normal(size=(6, 3, 5))
    labels = np.array([0, 3, 3, 5])
    cosines = np.einsum(
        "bd,ckd->bck",
        x / np.linalg.norm(x, axis=1, keepdims=True),
        w / np.linalg.norm(w, axis=2, keepdims=True),
    )
    nearest = cosines.argmax(2)
    with jax.enable_x64(True):
        got, by_w = jax.value_and_grad(
            lambda w: af.margin_softmax_loss(
                jnp.asarray(x), w, labels, margin=af.norm_softmax(), scale=4.0
            ).sum()
        )(jnp.asarray(w))
    logits = 4.0 * cosines.max(2)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(4), labels]
    np.testing.assert_allclose(got, expected.sum(), rtol=1e-12)
    used = {(c, int(k)) for row in nearest for c, k in enumerate(row)}
    for c in range(6):
        for k in range(3):
            assert bool(np.abs(by_w[c, k]).max() > 0.0) == ((c, k) in used)


def test_label_smoothing_is_cross_entropy_against_smoothed_labels(rng):
    with jax.enable_x64(True):
        batch = testing.make_batch(af.cosface(0.2), dtype=jnp.float64)
        got, _ = testing.evaluate(af.cosface(0.2), batch, label_smoothing=0.1)
        logits = np.asarray(
            af.margin_logits(
                geometry.cosine_matrix(batch.embeddings, batch.centers),
                batch.labels,
                margin=af.cosface(0.2),
                scale=batch.scale,
            )
        )
    soft = 0.9 * np.eye(testing.CLASSES)[np.asarray(batch.labels)] + 0.1 / testing.CLASSES
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(got, -(soft * log_p).sum(1), rtol=1e-12)


def test_a_row_of_nan_shows_unless_it_is_masked():
    margin = af.arcface()
    batch = testing.make_batch(margin)
    broken = batch.embeddings.at[2].set(jnp.nan)
    assert jnp.isnan(testing.evaluate(margin, batch, embeddings=broken)[0][2])
    where = jnp.arange(testing.ROWS) != 2
    got = testing.gradients(margin, batch, embeddings=broken, where=where)
    expected = testing.gradients(margin, batch, where=where)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("head", ["dense", "fused"])
def test_a_center_of_nan_shows_in_every_row(head):
    margin = af.arcface()
    batch = testing.make_batch(margin)
    broken = batch.centers.at[2].set(jnp.nan)
    losses, by_x, _ = testing.gradients(margin, batch, centers=broken, head=head)
    assert bool(jnp.isnan(losses).all())
    assert bool(jnp.isnan(by_x).any(axis=1).all())


@pytest.mark.parametrize("devices", [2, 4, 8])
@pytest.mark.parametrize(
    "name", ["adaface", "adacos", "curricularface_late", "elasticface_cos_rank", "vpl_open"]
)
def test_statistics_of_a_sharded_batch_are_those_of_the_whole(name, devices):
    margin = ROWS[name].margin
    batch = testing.make_batch(margin, rows=8)
    where = jnp.arange(8) != 5
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))

    @jax.jit
    def compiled(embeddings, labels, where):
        return testing.evaluate(margin, batch, embeddings=embeddings, labels=labels, where=where)

    whole = compiled(batch.embeddings, batch.labels, where)
    sharded = compiled(*jax.device_put((batch.embeddings, batch.labels, where), rows))
    for got, expected in zip(jax.tree.leaves(sharded), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)


def test_weights_multiply_losses_and_gradients():
    margin = af.arcface()
    batch = testing.make_batch(margin)
    weights = jnp.linspace(0.0, 2.0, testing.ROWS)
    plain, weighted = (testing.gradients(margin, batch, weights=w) for w in (None, weights))
    np.testing.assert_allclose(weighted[0], weights * plain[0], rtol=1e-6)
    np.testing.assert_allclose(weighted[1], weights[:, None] * plain[1], rtol=1e-5, atol=1e-6)


def test_loss_at_random_initialisation_is_what_theory_says():
    classes, dim, scale, m = 20_000, 512, 64.0, 0.5
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (64, dim))
    w = jax.random.normal(keys[1], (classes, dim))
    labels = jax.random.randint(keys[2], (64,), 0, classes)
    got = af.margin_softmax_loss(x, w, labels, margin=af.arcface(m), scale=scale).mean()
    expected = scale * np.sin(m) + np.log(classes) + scale**2 / (2 * dim)
    assert float(got) == pytest.approx(expected, rel=0.02)


# ------------------------------------------------------------------ labels and refusals


def test_label_out_of_range_is_nan_in_compiled_code_and_touches_no_other_row(rng):
    x, w = (jnp.asarray(rng.normal(size=(n, 5)), jnp.float32) for n in (3, 9))
    labels = jnp.array([1, 9, -2])
    got = jax.jit(lambda x, w, y: af.margin_softmax_loss(x, w, y, margin=af.arcface()))(
        x, w, labels
    )
    expected = af.margin_softmax_loss(x[:1], w, labels[:1], margin=af.arcface())
    np.testing.assert_allclose(got[:1], expected, rtol=1e-5)
    assert jnp.isnan(got[1:]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(labels=np.array([0, 9, 1])), r"label 9 at position 1 lies outside \[0, 4\)"),
        (dict(labels=np.array([0, -2, 1])), "label -2 at position 1"),
        (dict(labels=np.zeros((3, 4), int)), "argmax"),
        (dict(labels=np.zeros(3)), "cast with"),
        (dict(centers=jnp.ones((2, 4))), "transpose"),
        (dict(where=jnp.ones(3)), r"where is bool\[3\]"),
        (dict(bias=jnp.zeros(4)), "Margin has no number per class"),
        (dict(head="dens"), "unknown head 'dens'; known: dense"),
        (dict(margin=af.sphereface_psi()), "pass state=margin.init_state"),
        (dict(margin=af.elasticface()), "pass key=jax.random.key"),
        (dict(margin=af.uniface()), "pass params=margin.init_params"),
        (dict(margin=af.uniface(per_class=True)), "needs bias=margin.init_bias"),
        (
            dict(margin=af.uniface(per_class=True), bias=jnp.zeros(4), scale=jnp.ones(2)),
            "takes one scale",
        ),
        (dict(scale=-1.0), r"scale=-1.0 lies outside \(0, inf\)"),
        (dict(margin=af.softmax(), scale=2.0), "Softmax has no scale to set"),
        (dict(weights=jnp.ones(2)), r"weights is float\[3\]"),
        (dict(label_smoothing=1.5), r"label_smoothing=1.5 lies outside \[0, 1\)"),
        (dict(margin=af.p2sgrad(), label_smoothing=0.1), "has no probabilities to smooth"),
        (dict(margin=af.l_softmax(), centers=jnp.ones((4, 2, 2))), "takes one centre per class"),
    ],
)
def test_wrong_input_is_refused_with_the_way_out(change, message):
    arguments = dict(
        embeddings=jnp.ones((3, 2)), centers=jnp.ones((4, 2)), labels=np.array([0, 1, 2])
    )
    arguments |= dict(margin=af.arcface()) | change
    data = [arguments.pop(key) for key in ("embeddings", "centers", "labels")]
    with pytest.raises(ValueError, match=message):
        af.margin_softmax_loss(*data, **arguments)


def test_free_norm_takes_no_scale():
    margin = af.sphereface_psi()
    with pytest.raises(ValueError, match='feature_norm="hard"'):
        af.margin_softmax_loss(
            jnp.ones((1, 2)),
            jnp.ones((2, 2)),
            np.array([0]),
            margin=margin,
            scale=3.0,
            state=margin.init_state(),
        )


def test_a_margin_with_state_returns_the_next_one():
    margin = af.sphereface_psi()
    losses, state = af.margin_softmax_loss(
        jnp.ones((1, 2)), jnp.eye(2), np.array([0]), margin=margin, state=margin.init_state()
    )
    assert losses.shape == (1,)
    assert int(state["step"]) == 1
