"""Intra-loss and inter-loss."""

import functools
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af

FILE = json.loads((pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text())
BATCH = FILE["batch_level"]
GOLDEN = {
    case["params"].get("kind", "intra"): case["expected"]
    for case in FILE["other_losses"]
    if case["name"] in ("intra_loss", "inter_loss")
}
LABELS = np.array([3, 0, 3, 1, 0, 3])

every_kind = pytest.mark.parametrize("kind", ["angle", "cosine"])
# More rows than classes and fewer take different ways.
every_size = pytest.mark.parametrize("classes", [4, 11])
dtypes = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-5)])


@jax.jit
def compiled_intra(x, centers, labels, **options):
    def total(x, centers):
        values = af.losses.intra(x, centers, labels, **options)
        return values.sum(), values

    (by_x, by_centers), values = jax.grad(total, argnums=(0, 1), has_aux=True)(x, centers)
    return values, by_x, by_centers


@functools.partial(jax.jit, static_argnames="kind")
def compiled_inter(centers, labels, **options):
    return jax.value_and_grad(lambda w: af.losses.inter(w, labels, **options))(centers)


def intra(x, centers, labels=LABELS, **options):
    """NumPy arrays: values, and the gradients of their sum to the rows and to the centres."""
    options.setdefault("where", np.ones(len(labels), bool))
    return tuple(map(np.asarray, compiled_intra(x, centers, labels, **options)))


def inter(centers, labels=LABELS, *, kind="angle", **options):
    """NumPy arrays: value and gradient."""
    options.setdefault("where", np.ones(len(labels), bool))
    return tuple(map(np.asarray, compiled_inter(centers, labels, kind=kind, **options)))


def batch(rng, classes=11, dtype="float32"):
    return rng.normal(size=(6, 8)).astype(dtype), rng.normal(size=(classes, 8)).astype(dtype)


def angle_between(a, b):
    return np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def reference_intra(x, centers):
    return [angle_between(row, centers[y]) / np.pi for row, y in zip(x, LABELS, strict=True)]


def reference_inter(centers, kind):
    total = 0.0
    for y in LABELS:
        for j in range(len(centers)):
            if j != y:
                theta = angle_between(centers[y], centers[j])
                total += -theta / np.pi if kind == "angle" else np.cos(theta)
    return total / len(LABELS) / (len(centers) - 1)


@dtypes
def test_intra_equals_the_golden_values_and_gradients(dtype, tolerance):
    x, centers = (np.array(BATCH[name], dtype) for name in ("embeddings", "weights"))
    with jax.enable_x64(dtype == "float64"):
        values, *gradients = intra(x, centers, np.array(BATCH["labels"]))
    assert values.mean() == pytest.approx(GOLDEN["intra"]["loss"], rel=tolerance)
    for got, name in zip(gradients, ("grad_embeddings", "grad_weights"), strict=True):
        expected = np.array(GOLDEN["intra"][name])
        np.testing.assert_allclose(got / 6, expected, atol=tolerance * np.abs(expected).max())


@dtypes
@every_kind
def test_inter_equals_the_golden_values_and_gradients(kind, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        value, gradient = inter(
            np.array(BATCH["weights"], dtype), np.array(BATCH["labels"]), kind=kind
        )
    assert value == pytest.approx(GOLDEN[kind]["loss"], rel=tolerance)
    expected = np.array(GOLDEN[kind]["grad_weights"])
    np.testing.assert_allclose(gradient, expected, atol=tolerance * np.abs(expected).max())


def test_intra_is_the_formula_and_its_gradients_the_difference_quotients(rng):
    arrays = batch(rng, dtype="float64")
    with jax.enable_x64(True):
        values, *gradients = intra(*arrays)
    np.testing.assert_allclose(values, reference_intra(*arrays), rtol=1e-12)
    directions, step = batch(rng, dtype="float64"), 1e-6
    there, back = (
        sum(reference_intra(*(a + h * d for a, d in zip(arrays, directions, strict=True))))
        for h in (step, -step)
    )
    got = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert got == pytest.approx((there - back) / (2 * step), rel=1e-6)


@every_kind
@every_size
def test_inter_is_the_formula_and_its_gradient_the_difference_quotient(kind, classes, rng):
    _, centers = batch(rng, classes, "float64")
    with jax.enable_x64(True):
        value, gradient = inter(centers, kind=kind)
    assert value == pytest.approx(reference_inter(centers, kind), rel=1e-12)
    direction, step = rng.normal(size=centers.shape), 1e-6
    there, back = (reference_inter(centers + h * direction, kind) for h in (step, -step))
    assert (gradient * direction).sum() == pytest.approx((there - back) / (2 * step), rel=1e-6)


every_mask = pytest.mark.parametrize(
    "mask",
    [lambda kept: dict(where=kept), lambda kept: dict(labels=np.where(kept, LABELS, -1))],
    ids=["where", "label"],
)
KEPT = np.array([True, False, True, True, False, True])


@every_mask
def test_intra_of_masked_rows_equals_sliced(mask, rng):
    x, centers = batch(rng)
    x[1] = np.nan  # padding may hold anything
    values, by_x, by_centers = intra(x, centers, **mask(KEPT))
    expected = intra(x[KEPT], centers, LABELS[KEPT])
    np.testing.assert_allclose(values[KEPT], expected[0], rtol=1e-6)
    np.testing.assert_allclose(by_x[KEPT], expected[1], atol=1e-6)
    np.testing.assert_allclose(by_centers, expected[2], atol=1e-6)
    assert not values[~KEPT].any()
    assert not by_x[~KEPT].any()


@every_mask
@every_size
def test_inter_of_masked_rows_equals_sliced(mask, classes, rng):
    _, centers = batch(rng, classes)
    value, gradient = inter(centers, **mask(KEPT))
    expected = inter(centers, LABELS[KEPT])
    assert value == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(gradient, expected[1], atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_fully_masked_batch_is_zero_with_gradient_zero(rows, rng):
    x, centers = batch(rng)
    labels = np.full(rows, -1)
    assert not any(a.any() for a in intra(x[:rows], centers, labels))
    assert not any(a.any() for a in inter(centers, labels))


@pytest.mark.parametrize("rows", [1, 3])
def test_one_class_has_no_other_to_keep_away_from(rows):
    value, gradient = inter(np.ones((1, 3), "float32"), np.zeros(rows, int))
    assert value == 0.0
    assert (gradient == 0.0).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_intra_is_finite_at_any_length_and_alignment(dtype, rng):
    row = rng.normal(size=(1, 8))
    centers = np.concatenate([row, np.zeros((10, 8))]).astype(dtype)
    x = np.concatenate([row, -row, 1e4 * row, 0.0 * row, row, 0.0 * row]).astype(dtype)
    values, by_x, by_centers = intra(x, centers, np.array([0, 0, 0, 0, 1, 1]))
    assert values.dtype == np.float32
    atol = 2e-4 if dtype == jnp.float32 else 3e-3  # the type rounds 1e4 * row
    np.testing.assert_allclose(values, [0.0, 1.0, 0.0, 0.5, 0.5, 0.5], atol=atol)
    assert all(np.isfinite(g.astype(np.float32)).all() for g in (by_x, by_centers))
    assert not by_x[3:].any()
    assert not by_centers[1].any()


@pytest.mark.parametrize(
    ("kind", "classes", "dtype"),
    [("angle", 4, jnp.bfloat16), ("angle", 11, jnp.float16)]
    + [(*row, jnp.float32) for row in itertools.product(["angle", "cosine"], [4, 11])],
)
def test_inter_is_finite_where_centers_coincide_oppose_or_vanish(kind, classes, dtype, rng):
    row = rng.normal(size=(1, 8))
    rows = [row, row, -row, 0.0 * row] + [1e4 * row] * (classes - 4)
    value, gradient = inter(np.concatenate(rows).astype(dtype), kind=kind)
    assert value.dtype == np.float32
    assert np.isfinite(value)
    assert np.isfinite(gradient.astype(np.float32)).all()
    assert (gradient[3] == 0.0).all()


def test_orthogonal_centers_are_half_of_pi_apart():
    centers = np.eye(4, 8, dtype="float32")
    assert inter(centers)[0] == pytest.approx(-0.5)
    assert inter(centers, kind="cosine")[0] == 0.0


@every_kind
@every_size
def test_inter_ignores_order_rotation_and_length(kind, classes, rng):
    _, centers = batch(rng, classes)
    relabel = rng.permutation(classes)
    q, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    expected, moved, ordered, relabelled = (
        inter(rows.astype("float32"), labels, kind=kind)[0]
        for rows, labels in (
            (centers, LABELS),
            (7.0 * centers @ q, LABELS),
            (centers, LABELS[rng.permutation(6)]),
            (centers[relabel], np.argsort(relabel)[LABELS]),
        )
    )
    np.testing.assert_allclose([moved, ordered, relabelled], expected, rtol=1e-4, atol=1e-6)


def test_intra_ignores_rotation_and_length_and_follows_the_order(rng):
    x, centers = batch(rng)
    order = rng.permutation(6)
    q, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    values = intra(x, centers)[0]
    moved = intra((7.0 * x @ q).astype("float32"), (3.0 * centers @ q).astype("float32"))[0]
    np.testing.assert_allclose(moved, values, rtol=1e-5)
    np.testing.assert_allclose(intra(x[order], centers, LABELS[order])[0], values[order], rtol=1e-6)


@every_size
def test_nothing_larger_than_rows_times_classes_is_formed(classes, rng):
    _, centers = batch(rng, classes)
    jaxpr = jax.make_jaxpr(jax.grad(af.losses.inter))(centers, LABELS)
    sizes = [v.aval.size for equation in jaxpr.eqns for v in equation.outvars]
    # The centres themselves are classes x 8.
    assert max(sizes) <= max(min(6, classes), 8) * classes


def test_eager_equals_compiled(rng):
    x, centers = batch(rng)
    np.testing.assert_allclose(af.losses.intra(x, centers, LABELS), intra(x, centers)[0], rtol=1e-6)
    assert float(af.losses.inter(centers, LABELS)) == pytest.approx(inter(centers)[0], rel=1e-6)


@every_size
@pytest.mark.parametrize("label", [-2, 11])
def test_label_out_of_range_in_compiled_code_is_nan(label, classes, rng):
    x, centers = batch(rng, classes)
    wrong = np.arange(6) == 1
    labels = np.where(wrong, label, LABELS)
    assert np.isnan(inter(centers, labels)[0])
    if classes == 11:
        np.testing.assert_array_equal(np.isnan(intra(x, centers, labels)[0]), wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(labels=np.array([0, 4, 1])), r"label 4 at position 1 lies outside \[0, 4\)"),
        (dict(labels=np.zeros((3, 4), int)), "argmax"),
        (dict(centers=np.ones(4)), r"centers \[C, D\]"),
        (dict(where=np.ones(3)), r"where is bool\[3\]"),
    ],
)
def test_wrong_input_is_refused_with_the_way_out(change, message):
    arguments = dict(centers=np.ones((4, 2)), labels=np.arange(3)) | change
    data = [arguments.pop(key) for key in ("centers", "labels")]
    with pytest.raises(ValueError, match=message):
        af.losses.inter(*data, **arguments)
    with pytest.raises(ValueError, match=message):
        af.losses.intra(np.ones((3, 2)), *data, **arguments)


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="unknown kind 'cosin'.*Did you mean cosine"):
        af.losses.inter(np.ones((1, 2)), np.array([0]), kind="cosin")
