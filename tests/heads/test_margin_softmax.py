"""The margin softmax loss on the dense head."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from margin_table import ROWS

import arcface_jax as af

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text())
BATCH = GOLDEN["batch_level"]
DEGENERATE = GOLDEN["degenerate_batch"]

every_margin = pytest.mark.parametrize("name", ROWS)


def state_of(margin):
    # Annealing over, as in the table's references.
    state = margin.init_state()
    return None if state is None else {"step": jnp.int32(10_000)}


def loss(name, embeddings, centers, labels, **kwargs):
    row = ROWS[name]
    got = compiled_loss(
        embeddings,
        centers,
        labels,
        margin=row.margin,
        scale=row.scale,
        state=state_of(row.margin),
        **kwargs,
    )
    return got if row.margin.init_state() is None else got[0]


compiled_loss = jax.jit(af.margin_softmax_loss, static_argnames="head")


def batch(rng, rows=6, classes=9, dim=5, dtype=jnp.float32):
    x, w = rng.normal(size=(rows, dim)), rng.normal(size=(classes, dim))
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype), jnp.asarray(rng.integers(0, classes, rows))


def reference(name, x, w, labels):
    """Per-row loss in NumPy float64, from the formula."""
    row = ROWS[name]
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


# ------------------------------------------------------------------ properties of all margins


@every_margin
def test_value_equals_numpy_from_the_formula(name, rng):
    with jax.enable_x64(True):
        x, w, labels = batch(rng, dtype=jnp.float64)
        np.testing.assert_allclose(
            loss(name, x, w, labels), reference(name, x, w, np.asarray(labels)), rtol=1e-11
        )


@every_margin
def test_gradients_match_finite_differences_of_numpy(name, rng):
    with jax.enable_x64(True):
        x, w, labels = batch(rng, dtype=jnp.float64)
        grads = jax.grad(lambda x, w: loss(name, x, w, labels).sum(), argnums=(0, 1))(x, w)
        step = 1e-6
        for k, (array, got) in enumerate(zip((x, w), grads, strict=True)):
            direction = rng.normal(size=array.shape)

            def at(h, k=k, direction=direction):
                arrays = [np.asarray(x), np.asarray(w)]
                arrays[k] = arrays[k] + h * direction
                return reference(name, *arrays, np.asarray(labels)).sum()

            expected = (at(step) - at(-step)) / (2 * step)
            assert float((got * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@every_margin
def test_masked_equals_sliced(name, rng):
    x, w, labels = batch(rng)
    kept = np.array([True, False, True, True, False, True])

    def masked(x, w):
        return loss(name, x, w, labels, where=jnp.asarray(kept)).sum()

    def ignored(x, w):
        return loss(name, x, w, jnp.where(kept, labels, -1)).sum()

    def sliced(x, w):
        return loss(name, x[kept], w, labels[kept]).sum()

    expected, grads = jax.value_and_grad(sliced, argnums=(0, 1))(x, w)
    for function in (masked, ignored):
        value, (by_x, by_w) = jax.value_and_grad(function, argnums=(0, 1))(x, w)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(by_x, grads[0], atol=1e-5)
        np.testing.assert_allclose(by_w, grads[1], atol=1e-5)


@every_margin
def test_all_rows_masked_give_zero_and_no_gradient(name, rng):
    x, w, labels = batch(rng)
    value, grads = jax.value_and_grad(
        lambda x, w: loss(name, x, w, labels, where=jnp.zeros(6, bool)).sum(), argnums=(0, 1)
    )(x, w)
    assert float(value) == 0.0
    assert all((g == 0.0).all() for g in grads)


@every_margin
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_loss_and_gradients_are_finite_at_any_length_and_alignment(name, dtype, rng):
    w = jnp.asarray(rng.normal(size=(4, 3)), dtype)
    directions = jnp.concatenate([w[:2], -w[2:]]).astype(jnp.float32)
    # Gradients grow as 1 / length: below 1e-2 they leave float16's range.
    x = jnp.concatenate([directions * size for size in (0.0, 1e-2, 1.0, 1e4)]).astype(dtype)
    value, grads = jax.value_and_grad(
        lambda x, w: loss(name, x, w, jnp.tile(jnp.arange(4), 4)).sum(), argnums=(0, 1)
    )(x, w)
    assert value.dtype == jnp.float32
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() for g in grads)


@every_margin
def test_one_class_gives_zero_and_no_gradient(name, rng):
    x, w, _ = batch(rng, classes=1)
    value, grads = jax.value_and_grad(
        lambda x, w: loss(name, x, w, jnp.zeros(6, jnp.int32)).sum(), argnums=(0, 1)
    )(x, w)
    assert float(value) == 0.0
    assert all((g == 0.0).all() for g in grads)


@every_margin
def test_a_batch_of_one_equals_its_row_in_a_larger_batch(name, rng):
    x, w, labels = batch(rng)
    alone = [float(loss(name, x[i : i + 1], w, labels[i : i + 1])[0]) for i in range(6)]
    np.testing.assert_allclose(loss(name, x, w, labels), alone, rtol=2e-5, atol=2e-6)


@every_margin
def test_rotation_and_scaling_leave_the_loss_unchanged(name, rng):
    x, w, labels = batch(rng)
    q, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    expected = loss(name, x, w, labels)
    q = jnp.asarray(q, jnp.float32)
    np.testing.assert_allclose(loss(name, x @ q, w @ q, labels), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loss(name, x, 7.0 * w, labels), expected, rtol=1e-5, atol=1e-5)
    if ROWS[name].scale is not None:
        np.testing.assert_allclose(loss(name, 7.0 * x, w, labels), expected, rtol=1e-5, atol=1e-5)


@every_margin
def test_gradients_are_tangent_to_the_sphere(name, rng):
    x, w, labels = batch(rng)
    by_x, by_w = jax.grad(lambda x, w: loss(name, x, w, labels).sum(), argnums=(0, 1))(x, w)
    np.testing.assert_allclose((w * by_w).sum(1), 0.0, atol=2e-5)
    if ROWS[name].scale is not None:
        np.testing.assert_allclose((x * by_x).sum(1), 0.0, atol=2e-5)


@every_margin
def test_permuting_rows_and_classes_permutes_the_loss(name, rng):
    x, w, labels = batch(rng)
    rows, classes = rng.permutation(6), rng.permutation(9)
    expected = loss(name, x, w, labels)
    np.testing.assert_allclose(
        loss(name, x[rows], w, labels[rows]), expected[rows], rtol=1e-5, atol=1e-6
    )
    relabelled = jnp.asarray(np.argsort(classes))[labels]
    np.testing.assert_allclose(loss(name, x, w[classes], relabelled), expected, rtol=1e-5)


@every_margin
def test_eager_equals_compiled(name, rng):
    x, w, labels = batch(rng)
    row = ROWS[name]
    got = af.margin_softmax_loss(
        x, w, labels, margin=row.margin, scale=row.scale, state=state_of(row.margin)
    )
    got = got if row.margin.init_state() is None else got[0]
    np.testing.assert_allclose(got, loss(name, x, w, labels), rtol=1e-5)


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
    x, w, _ = batch(rng, rows=3)
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
        (dict(bias=jnp.zeros(4)), "Margin has no bias"),
        (dict(head="dens"), "unknown head 'dens'; known: dense"),
        (dict(margin=af.sphereface_psi()), "pass state=margin.init_state"),
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
