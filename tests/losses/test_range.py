"""Range loss."""

import functools
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af

GOLDEN = next(
    case
    for case in json.loads(
        (pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text()
    )["other_losses"]
    if case["name"] == "range_loss"
)
LABELS = np.array([4, 0, 4, 9, 0, 4, 4])


@functools.partial(jax.jit, static_argnames="k")
def compiled(x, labels, **options):
    return jax.value_and_grad(lambda x: af.losses.range_loss(x, labels, **options))(x)


def range_loss(x, labels=LABELS, *, k=2, margin=9.0, alpha=0.5, beta=0.5, **options):
    """NumPy arrays: value and gradient."""
    options.setdefault("where", np.ones(len(labels), bool))
    options |= dict(k=k, margin=margin, alpha=alpha, beta=beta)
    return tuple(map(np.asarray, compiled(x, labels, **options)))


def batch(rng, dtype="float32"):
    return rng.normal(size=(7, 4)).astype(dtype)


def reference(x, labels, k, margin, alpha, beta):
    classes, intra = sorted(set(labels)), 0.0
    for c in classes:
        pairs = itertools.combinations(x[labels == c], 2)
        widest = sorted((np.linalg.norm(a - b) for a, b in pairs), reverse=True)[:k]
        intra += len(widest) / sum(1.0 / d for d in widest) if widest else 0.0
    means = [x[labels == c].mean(0) for c in classes]
    gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(means, 2)]
    return alpha * intra + beta * (max(margin - min(gaps), 0.0) if gaps else 0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 5e-6)])
def test_equals_the_golden_values_and_gradients(dtype, tolerance):
    expected, params = GOLDEN["expected"], GOLDEN["params"]
    x = np.array(GOLDEN["inputs"]["embeddings"], dtype)
    labels = np.array(GOLDEN["inputs"]["labels"])
    with jax.enable_x64(dtype == "float64"):
        value, gradient = range_loss(x, labels, **params)
        intra, _ = range_loss(x, labels, **params | dict(alpha=1.0, beta=0.0))
        inter, _ = range_loss(x, labels, **params | dict(alpha=0.0, beta=1.0))
    assert value == pytest.approx(expected["loss"], rel=tolerance)
    assert intra == pytest.approx(expected["intra"], rel=tolerance)
    assert inter == pytest.approx(expected["inter"], rel=tolerance)
    np.testing.assert_allclose(gradient, expected["grad_embeddings"], atol=tolerance)


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize(
    "labels",
    [LABELS, np.zeros(7, int), np.arange(7)],
    ids=["mixed", "one_class", "one_row_per_class"],
)
def test_value_is_the_formula_and_gradient_its_difference_quotient(k, labels, rng):
    x, options = batch(rng, "float64"), dict(k=k, margin=3.0, alpha=0.7, beta=1.5)
    with jax.enable_x64(True):
        value, gradient = range_loss(x, labels, **options)
    assert value == pytest.approx(reference(x, labels, **options), rel=1e-12)
    direction, step = rng.normal(size=x.shape), 1e-6
    there, back = (reference(x + h * direction, labels, **options) for h in (step, -step))
    assert (gradient * direction).sum() == pytest.approx((there - back) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("by", ["where", "label"])
def test_masked_equals_sliced(by, rng):
    kept = np.array([True, True, True, False, True, False, True])
    x = batch(rng)
    x[3] = np.nan  # padding may hold anything
    masked = dict(where=kept) if by == "where" else dict(labels=np.where(kept, LABELS, -1))
    value, gradient = range_loss(x, **masked)
    expected = range_loss(x[kept], LABELS[kept])
    assert value == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(gradient[kept], expected[1], atol=1e-6)
    assert (gradient[~kept] == 0.0).all()


@pytest.mark.parametrize("labels", [[], [3], [-1] * 7], ids=["empty", "one_row", "masked"])
def test_without_a_pair_value_and_gradient_are_zero(labels, rng):
    value, gradient = range_loss(batch(rng)[: len(labels)], np.array(labels, int))
    assert value == 0.0
    assert (gradient == 0.0).all()


def test_coincident_rows_and_means_are_a_millionth_apart_and_have_no_gradient():
    value, gradient = range_loss(np.ones((7, 4), "float32"), alpha=1.0, beta=0.1, margin=1e-5)
    assert value == pytest.approx(2 * 1e-6 + 0.1 * (1e-5 - 1e-6))
    assert (gradient == 0.0).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_finite_where_rows_coincide_vanish_or_are_long(dtype, rng):
    row = rng.normal(size=(1, 4))
    x = np.concatenate([row, row, row, 0.0 * row, -row, 1e4 * row, 1e4 * row]).astype(dtype)
    value, gradient = range_loss(x)
    assert value.dtype == np.float32
    assert gradient.dtype == dtype
    assert np.isfinite(value)
    assert np.isfinite(gradient.astype(np.float32)).all()
    assert value == range_loss(x.astype(np.float32))[0]


def test_distances_keep_their_digits_far_from_the_origin(rng):
    near = np.round(rng.normal(size=(7, 4)) * 64) / 64
    far = (near + 2.0**13).astype("float32")  # exact
    expected = reference(near, LABELS, 2, 9.0, 0.5, 0.0)
    assert range_loss(far, beta=0.0)[0] == pytest.approx(expected, rel=1e-6)


def test_equally_wide_pairs_leave_the_gradient_to_the_first():
    x, labels = np.zeros((7, 4)), np.array([0, 0, 0, 0, -1, -1, -1])
    x[:4, :2] = [0, 0], [0, 2], [2, 0], [2, 2]
    with jax.enable_x64(True):
        _, gradient = range_loss(x, labels, k=1)
    np.testing.assert_array_equal(np.flatnonzero(gradient.any(axis=1)), [0, 3])


def test_order_and_rotation_do_not_matter(rng):
    x, order = batch(rng), rng.permutation(7)
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    expected, _ = range_loss(x)
    assert range_loss((x @ q).astype("float32"))[0] == pytest.approx(expected, rel=1e-5)
    assert range_loss(x[order], LABELS[order])[0] == pytest.approx(expected, rel=1e-6)


def test_eager_equals_compiled(rng):
    x = batch(rng)
    eager = af.losses.range_loss(x, LABELS, margin=9.0)
    assert float(eager) == pytest.approx(range_loss(x)[0], rel=1e-6)


def test_a_label_that_compiled_code_cannot_refuse_is_nan(rng):
    assert np.isnan(range_loss(batch(rng), np.where(np.arange(7) == 2, -2, LABELS))[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(embeddings=np.ones(3)), r"expected embeddings \[B, D\]"),
        (dict(labels=np.zeros((3, 2), int)), "argmax"),
        (dict(labels=np.array([0, -2, 1])), "label -2 at position 1"),
        (dict(where=np.ones(3)), r"where is bool\[3\]"),
        (dict(k=0), "k=0 chooses no pair"),
    ],
)
def test_wrong_input_is_refused_with_the_way_out(change, message):
    arguments = dict(embeddings=np.ones((3, 2)), labels=np.array([0, 1, 2])) | change
    with pytest.raises(ValueError, match=message):
        af.losses.range_loss(arguments.pop("embeddings"), arguments.pop("labels"), **arguments)
