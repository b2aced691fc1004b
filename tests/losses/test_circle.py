"""Circle loss over the pairs of a batch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af
from arcface_jax.losses.circle import circle_of_cosines

GOLDEN = next(
    case
    for case in json.loads(
        (pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text()
    )["other_losses"]
    if case["name"] == "circle_pair"
)
LABELS = np.array([4, 0, 4, 9, 0, 4, 7])


@jax.jit
def compiled(x, labels, **options):
    def total(x):
        values, counts = af.losses.circle_pair(x, labels, **options)
        return values.sum(), (values, counts)

    gradient, (values, counts) = jax.grad(total, has_aux=True)(x)
    return values, counts, gradient


def circle_pair(x, labels=LABELS, *, m=0.4, scale=80.0, **options):
    """NumPy arrays: values, counts, and the gradient of the sum of the values."""
    options.setdefault("where", np.ones(len(labels), bool))
    return tuple(map(np.asarray, compiled(x, labels, m=m, scale=scale, **options)))


def batch(rng, dtype="float32"):
    return rng.normal(size=(7, 4)).astype(dtype)


def cosines_of(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def reference(x, labels, m, scale, weights_from=None):
    """Value of each anchor that has both kinds of pair, the weights from other rows if given."""
    cosine, constant = cosines_of(x), cosines_of(x if weights_from is None else weights_from)
    values, rows = {}, range(len(x))
    for a in rows:
        push = [
            scale * max(constant[a, n] + m, 0.0) * (cosine[a, n] - m)
            for n in rows
            if labels[n] != labels[a]
        ]
        pull = [
            -scale * max(1.0 + m - constant[a, p], 0.0) * (cosine[a, p] - (1.0 - m))
            for p in rows
            if labels[p] == labels[a] and p != a
        ]
        if push and pull:
            both = np.logaddexp.reduce(push) + np.logaddexp.reduce(pull)
            values[a] = np.logaddexp(0.0, both)
    return values


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-5)])
def test_equals_the_golden_values_and_gradients(dtype, tolerance):
    expected, labels = GOLDEN["expected"], np.array(GOLDEN["inputs"]["labels"])
    equal = labels[:, None] == labels[None, :]

    @jax.jit
    def mean(cosines):
        values, counts = circle_of_cosines(
            cosines,
            jnp.asarray(equal & ~np.eye(5, dtype=bool)),
            jnp.asarray(~equal),
            m=GOLDEN["params"]["m"],
            scale=GOLDEN["params"]["gamma"],
        )
        return values.sum() / counts.sum(), (values, counts)

    with jax.enable_x64(dtype == "float64"):
        (loss, (values, counts)), gradient = jax.value_and_grad(mean, has_aux=True)(
            np.array(GOLDEN["inputs"]["similarity"], dtype)
        )
    np.testing.assert_array_equal(counts, expected["valid_anchor"])
    np.testing.assert_allclose(values, expected["per_anchor"], rtol=tolerance, atol=1e-12)
    assert float(loss) == pytest.approx(expected["loss"], rel=tolerance)
    wanted = np.array(expected["grad_similarity"])
    np.testing.assert_allclose(gradient, wanted, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize(("m", "scale"), [(0.4, 80.0), (0.25, 256.0), (0.25, 1.0)])
def test_value_is_the_formula_and_gradient_its_difference_quotient(m, scale, rng):
    x = batch(rng, "float64")
    with jax.enable_x64(True):
        values, counts, gradient = circle_pair(x, m=m, scale=scale)
    expected = reference(x, LABELS, m, scale)
    np.testing.assert_array_equal(np.flatnonzero(counts), list(expected))
    np.testing.assert_allclose(values[counts], list(expected.values()), rtol=1e-12)
    assert (values[~counts] == 0.0).all()

    direction, step = rng.normal(size=x.shape), 1e-6
    there, back = (
        sum(reference(x + h * direction, LABELS, m, scale, weights_from=x).values())
        for h in (step, -step)
    )
    assert (gradient * direction).sum() == pytest.approx((there - back) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("by", ["where", "label"])
def test_masked_equals_sliced(by, rng):
    kept = np.array([True, True, True, False, True, False, True])
    x = batch(rng)
    x[3] = np.nan  # padding may hold anything
    masked = dict(where=kept) if by == "where" else dict(labels=np.where(kept, LABELS, -1))
    values, counts, gradient = circle_pair(x, **masked)
    expected = circle_pair(x[kept], LABELS[kept])
    np.testing.assert_allclose(values[kept], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(counts[kept], expected[1])
    np.testing.assert_allclose(gradient[kept], expected[2], rtol=1e-4, atol=1e-3)
    for rest in (values, counts, gradient):
        assert not rest[~kept].any()


@pytest.mark.parametrize(
    "labels",
    [[], [3], [2] * 7, list(range(7)), [-1] * 7],
    ids=["empty", "one_row", "one_class", "one_row_per_class", "masked"],
)
def test_without_a_counting_row_value_and_gradient_are_zero(labels, rng):
    values, counts, gradient = circle_pair(batch(rng)[: len(labels)], np.array(labels, int))
    assert not counts.any()
    assert (values == 0.0).all()
    assert (gradient == 0.0).all()


@pytest.mark.parametrize("scale", [80.0, 1000.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_finite_where_rows_coincide_oppose_or_vanish(dtype, scale, rng):
    row, other = rng.normal(size=(2, 1, 4))
    x = np.concatenate([row, row, -row, row, 1e4 * row, 0.0 * row, other]).astype(dtype)
    values, _, gradient = circle_pair(x, scale=scale)
    assert values.dtype == np.float32
    assert gradient.dtype == dtype
    assert np.isfinite(values).all()
    assert np.isfinite(gradient.astype(np.float32)).all()
    assert (gradient[5] == 0.0).all()
    np.testing.assert_array_equal(values, circle_pair(x.astype(np.float32), scale=scale)[0])


def test_order_rotation_and_length_of_the_rows_do_not_matter(rng):
    x, order, lengths = batch(rng), rng.permutation(7), rng.uniform(0.1, 10.0, size=(7, 1))
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    expected, _, _ = circle_pair(x)
    moved, _, _ = circle_pair((lengths * x @ q).astype("float32"))
    permuted, _, _ = circle_pair(x[order], LABELS[order])
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
    np.testing.assert_allclose(permuted, expected[order], rtol=1e-5)


def test_eager_equals_compiled(rng):
    x = batch(rng)
    values, counts = af.losses.circle_pair(x, LABELS)
    expected = circle_pair(x)
    np.testing.assert_allclose(values, expected[0], rtol=1e-5)
    np.testing.assert_array_equal(counts, expected[1])


def test_a_label_that_compiled_code_cannot_refuse_is_nan(rng):
    values, counts, _ = circle_pair(batch(rng), np.where(np.arange(7) == 2, -2, LABELS))
    assert np.isnan(values[counts]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(embeddings=np.ones((3, 2, 1))), r"expected embeddings \[B, D\]"),
        (dict(labels=np.zeros((3, 2), int)), "argmax"),
        (dict(labels=np.array([0, -2, 1])), "label -2 at position 1"),
        (dict(labels=np.array([0, 1, 2**40])), "label 1099511627776 at position 2"),
        (dict(where=np.ones(2, bool)), r"where is bool\[3\]"),
    ],
)
def test_wrong_input_is_refused_with_the_way_out(change, message):
    arguments = dict(embeddings=np.ones((3, 2)), labels=np.array([0, 1, 2])) | change
    with pytest.raises(ValueError, match=message):
        af.losses.circle_pair(arguments.pop("embeddings"), arguments.pop("labels"), **arguments)
