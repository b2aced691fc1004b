"""The triplet loss: three minings, four distances."""

import functools
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af

GOLDEN = [
    case
    for case in json.loads(
        (pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text()
    )["other_losses"]
    if case["name"].startswith("triplet")
]
LABELS = np.array([4, 0, 4, 9, 0, 4, 9])
INDICES = tuple(np.array([[0, 2, 1], [1, 4, 3], [3, 6, 2], [2, 5, 6], [5, 2, 0]]).T)

MININGS = ["batch_hard", "batch_all", "given"]
DISTANCES = ["angle", "squared_euclidean", "euclidean", "cosine"]

every_mining = pytest.mark.parametrize("mining", MININGS)
mined_by_label = pytest.mark.parametrize("mining", MININGS[:2])
every_distance = pytest.mark.parametrize("distance", DISTANCES)


@functools.partial(jax.jit, static_argnames=("distance", "mining", "mean_over"))
def compiled(x, labels, **options):
    def total(x):
        values, counts = af.losses.triplet(x, labels, **options)
        return values.sum(), (values, counts)

    gradient, (values, counts) = jax.grad(total, has_aux=True)(x)
    return values, counts, gradient


def triplet(x, labels=LABELS, *, mining="batch_hard", distance="angle", margin=0.35, **options):
    """NumPy arrays: values, counts, and the gradient of the sum of the values."""
    if mining == "given":
        options.setdefault("triplets", INDICES)
    options.setdefault("where", np.ones(len(labels), bool))
    options |= dict(mining=mining, distance=distance, margin=margin)
    return tuple(map(np.asarray, compiled(x, labels, **options)))


def batch(rng, dtype="float32"):
    return rng.normal(size=(7, 4)).astype(dtype)


def reference(x, labels, distance, mining, margin):
    """Hinges of the triplets that exist, in NumPy float64 from the formulas."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    d = {
        "angle": lambda a, b: np.arccos(a @ b),
        "squared_euclidean": lambda a, b: ((a - b) ** 2).sum(),
        "euclidean": lambda a, b: np.linalg.norm(a - b),
        "cosine": lambda a, b: -(a @ b),
    }[distance]
    triplets, rows = [], range(len(x))
    for a in rows:
        positives = [p for p in rows if p != a and labels[p] == labels[a]]
        negatives = [n for n in rows if labels[n] != labels[a]]
        if mining == "batch_all":
            triplets += [(a, p, n) for p, n in itertools.product(positives, negatives)]
        elif positives and negatives:
            p = max(positives, key=lambda p: d(x[a], x[p]))
            triplets.append((a, p, min(negatives, key=lambda n: d(x[a], x[n]))))
    if mining == "given":
        triplets = np.transpose(INDICES)
    return np.array([max(d(x[a], x[p]) - d(x[a], x[n]) + margin, 0.0) for a, p, n in triplets])


@pytest.mark.parametrize(
    ("dtype", "of_value", "of_gradient"), [("float64", 1e-9, 1e-9), ("float32", 5e-6, 2e-5)]
)
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_equals_the_golden_values_and_gradients(case, dtype, of_value, of_gradient):
    _, mining, level, distance = case["name"].split("_", 3)
    options = dict(mining=f"{mining}_{level}", distance=distance, margin=case["params"]["margin"])
    labels, expected = np.array(case["inputs"]["labels"]), case["expected"]
    x = np.array(case["inputs"]["embeddings"], dtype)
    with jax.enable_x64(dtype == "float64"):
        values, counts, gradient = triplet(x, labels, **options)
    if level == "all":
        assert counts.sum() == expected["valid_triplets"]
        assert (values > 0.0).sum() == expected["active_triplets"]
        assert values.sum() == pytest.approx(expected["sum"], rel=of_value)
        wanted = np.array(expected["grad_embeddings_of_sum"])
    else:
        assert counts.all()
        largest = max(expected["per_anchor"])
        np.testing.assert_allclose(values, expected["per_anchor"], atol=of_value * largest)
        wanted = 7 * np.array(expected["grad_embeddings"])
    np.testing.assert_allclose(gradient, wanted, atol=of_gradient * np.abs(wanted).max())


@every_mining
@every_distance
def test_value_is_the_formula_and_gradient_its_difference_quotient(mining, distance, rng):
    x, options = batch(rng, "float64"), dict(mining=mining, distance=distance, margin=0.3)
    with jax.enable_x64(True):
        values, counts, gradient = triplet(x, **options)
    expected = reference(x, LABELS, **options)
    assert values.shape == {"batch_hard": (7,), "batch_all": (7, 7, 7), "given": (5,)}[mining]
    np.testing.assert_allclose(values[counts], expected, rtol=1e-12, atol=1e-12)
    assert (values[~counts] == 0.0).all()

    direction, step = rng.normal(size=x.shape), 1e-6
    there, back = (reference(x + h * direction, LABELS, **options).sum() for h in (step, -step))
    assert (gradient * direction).sum() == pytest.approx((there - back) / (2 * step), rel=1e-6)


@every_mining
def test_active_counts_the_values_above_zero_and_changes_none(mining, rng):
    x = batch(rng)
    values, counts, gradient = triplet(x, mining=mining)
    active = triplet(x, mining=mining, mean_over="active")
    np.testing.assert_array_equal(active[1], values > 0.0)
    assert 0 < active[1].sum() < counts.sum()
    np.testing.assert_array_equal(active[0], values)
    np.testing.assert_array_equal(active[2], gradient)


@every_mining
@pytest.mark.parametrize("by", ["where", "label"])
def test_masked_equals_sliced(mining, by, rng):
    kept = np.array([True, True, True, False, True, False, True])
    x = batch(rng)
    x[3] = np.nan  # padding may hold anything
    masked = dict(where=kept) if by == "where" else dict(labels=np.where(kept, LABELS, -1))
    sliced = {}
    if mining == "given":
        remaining = [t for t in np.transpose(INDICES) if kept[t].all()]
        sliced["triplets"] = tuple((np.cumsum(kept) - 1)[np.transpose(remaining)])
    values, counts, gradient = triplet(x, mining=mining, **masked)
    expected = triplet(x[kept], LABELS[kept], mining=mining, **sliced)
    assert values.sum() == pytest.approx(expected[0].sum(), rel=1e-6)
    assert counts.sum() == expected[1].sum() > 0
    np.testing.assert_allclose(gradient[kept], expected[2], atol=1e-6)
    assert (gradient[~kept] == 0.0).all()


@mined_by_label
@pytest.mark.parametrize(
    "labels",
    [[], [3], [2] * 7, list(range(7)), [-1] * 7],
    ids=["empty", "one_row", "one_class", "one_row_per_class", "masked"],
)
def test_without_a_triplet_value_and_gradient_are_zero(mining, labels, rng):
    x = batch(rng)[: len(labels)]
    values, counts, gradient = triplet(x, np.array(labels, int), mining=mining)
    assert not counts.any()
    assert (values == 0.0).all()
    assert (gradient == 0.0).all()


@pytest.mark.parametrize(
    ("mining", "distance", "dtype"),
    [("batch_hard", "angle", jnp.bfloat16), ("batch_hard", "angle", jnp.float16)]
    + [(*row, jnp.float32) for row in itertools.product(MININGS, DISTANCES)],
)
def test_finite_where_rows_coincide_oppose_or_vanish(mining, distance, dtype, rng):
    row, other = rng.normal(size=(2, 1, 4))
    x = np.concatenate([row, row, -row, row, 1e4 * row, 0.0 * row, other]).astype(dtype)
    values, _, gradient = triplet(x, mining=mining, distance=distance)
    assert values.dtype == np.float32
    assert gradient.dtype == dtype
    assert np.isfinite(values).all()
    assert np.isfinite(gradient.astype(np.float32)).all()
    assert (gradient[5] == 0.0).all()
    exact, _, _ = triplet(x.astype(np.float32), mining=mining, distance=distance)
    np.testing.assert_array_equal(values, exact)


def test_euclidean_distance_of_coincident_rows_has_no_gradient():
    x = np.ones((7, 4)) * np.arange(1.0, 8.0)[:, None]
    with jax.enable_x64(True):
        values, _, gradient = triplet(x, distance="euclidean")
    np.testing.assert_allclose(values, 0.35)
    assert (gradient == 0.0).all()


@mined_by_label
@every_distance
def test_order_rotation_and_length_of_the_rows_do_not_matter(mining, distance, rng):
    x, order, lengths = batch(rng), rng.permutation(7), rng.uniform(0.1, 10.0, size=(7, 1))
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    expected, moved, permuted = (
        triplet(rows.astype("float32"), labels, mining=mining, distance=distance)[0].sum()
        for rows, labels in ((x, LABELS), (lengths * x @ q, LABELS), (x[order], LABELS[order]))
    )
    assert moved == pytest.approx(expected, rel=1e-4)
    assert permuted == pytest.approx(expected, rel=1e-5)


def test_equally_hard_pairs_leave_the_gradient_to_the_first():
    # Rows 1 and 2 coincide, and so do rows 3 and 4; only the anchor of row 0 has a hinge.
    x = np.zeros((7, 4), "float32")
    x[:5, :2] = [1, 0], [0, 1], [0, 1], [1, -1], [1, -1]
    values, _, gradient = triplet(x, np.array([0, 0, 0, 1, 1, -1, -1]))
    np.testing.assert_array_equal(values > 0.0, np.arange(7) == 0)
    assert gradient[[1, 3]].any(axis=1).all()
    assert not gradient[[2, 4]].any()


def test_a_hinge_of_exactly_zero_is_inactive_and_has_no_gradient():
    options = dict(labels=np.array([0, 0, 0, 0, 1, 1, 1]), mining="batch_all", distance="cosine")
    values, counts, gradient = triplet(np.eye(7, 4, dtype="float32"), margin=0.0, **options)
    assert counts.any()
    assert (values == 0.0).all()
    assert (gradient == 0.0).all()


def test_three_blocks_of_the_batch_are_anchors_positives_and_negatives(rng):
    x = batch(rng)
    values, counts = af.losses.triplet(x[:6], None, mining="given")
    blocks = tuple(np.array([[0, 2, 4], [1, 3, 5], [0, 1, 2], [0, 1, 2], [0, 1, 2]]).T)
    expected = triplet(x, mining="given", triplets=blocks)
    np.testing.assert_allclose(values, expected[0][:2], atol=1e-6)
    assert counts.shape == (2,)


@mined_by_label
def test_eager_equals_compiled(mining, rng):
    x = batch(rng)
    values, counts = af.losses.triplet(x, LABELS, mining=mining)
    expected = triplet(x, mining=mining)
    np.testing.assert_allclose(values, expected[0], atol=1e-6)
    np.testing.assert_array_equal(counts, expected[1])


def test_what_compiled_code_cannot_refuse_is_nan(rng):
    x, labels = batch(rng), np.where(np.arange(7) == 2, -2, LABELS)
    values, counts, _ = triplet(x, labels)
    assert np.isnan(values[counts]).all()
    assert np.isfinite(triplet(x, labels, where=labels >= 0)[0]).all()
    wrong = tuple(np.array([[0, 2, 1], [0, -1, 1], [0, 2, 7], [1, 4, 3], [7, 4, 3]]).T)
    values, counts, _ = triplet(x, mining="given", triplets=wrong)
    np.testing.assert_array_equal(np.isnan(values), [False, True, True, False, True])
    assert counts.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(distance="angel"), "unknown distance 'angel'.*Did you mean angle"),
        (dict(mining="hard"), "unknown mining 'hard'; known: batch_hard, batch_all, given"),
        (dict(mean_over="activ"), "Did you mean active"),
        (dict(embeddings=np.ones(6)), r"expected embeddings \[B, D\]"),
        (dict(labels=np.zeros((6, 2), int)), "argmax"),
        (dict(labels=np.array([0, 0, -2, 1, 1, 1])), "label -2 at position 2"),
        (dict(labels=None), "finds triplets by labels"),
        (dict(where=np.ones(6)), r"where is bool\[6\]"),
        (dict(triplets=([0], [1], [2])), 'read by mining="given"'),
        (dict(mining="given", triplets=([0], [1], [6])), r"row 6 at position 0.*\[0, 6\)"),
        (dict(mining="given", triplets=([0], [1, 2], [3])), r"three index arrays int\[T\]"),
        (dict(mining="given", triplets=([0.0], [1.0], [3.0])), r"got float64\(1,\)"),
        (dict(mining="given", embeddings=np.ones((5, 2)), labels=None), "three equal blocks"),
    ],
)
def test_wrong_input_is_refused_with_the_way_out(change, message):
    arguments = dict(embeddings=np.ones((6, 2)), labels=np.array([0, 0, 1, 1, 2, 2])) | change
    with pytest.raises(ValueError, match=message):
        af.losses.triplet(arguments.pop("embeddings"), arguments.pop("labels"), **arguments)
