"""Centre loss and the update of its centres."""

import functools
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
    if case["name"] == "centre_loss"
)
LABELS = np.array([3, 0, 3, 1, 0, 3, 3])

every_distance = pytest.mark.parametrize("distance", ["squared_euclidean", "limited", "cosine"])


@functools.partial(jax.jit, static_argnames=("distance", "trainable"))
def compiled(x, centers, labels, **options):
    def total(x, centers):
        values = af.losses.center(x, centers, labels, **options)
        return values.sum(), values

    (by_x, by_centers), values = jax.grad(total, argnums=(0, 1), has_aux=True)(x, centers)
    return values, by_x, by_centers


def center(x, centers, labels=LABELS, *, distance="squared_euclidean", trainable=True, **options):
    """NumPy arrays: values, and the gradients of their sum to the rows and to the centres."""
    options.setdefault("where", np.ones(len(labels), bool))
    options |= dict(distance=distance, trainable=trainable)
    return tuple(map(np.asarray, compiled(x, centers, labels, **options)))


compiled_update = jax.jit(af.losses.update_centers)


def update_centers(x, centers, labels=LABELS, *, alpha=0.5, **options):
    options.setdefault("where", np.ones(len(labels), bool))
    return np.asarray(compiled_update(x, centers, labels, alpha=alpha, **options))


def batch(rng, dtype="float32"):
    return rng.normal(size=(7, 4)).astype(dtype), rng.normal(size=(4, 4)).astype(dtype)


def reference(x, centers, labels, distance):
    values = []
    for row, label in zip(x, labels, strict=True):
        own = centers[label]
        square = ((row - own) ** 2).sum()
        values.append(
            {
                "squared_euclidean": square / 2,
                "limited": np.clip(square, 1e-12, 1e12),
                "cosine": 1.0 - row @ own / np.linalg.norm(row) / np.linalg.norm(own),
            }[distance]
        )
    return np.array(values)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 5e-6)])
def test_equals_the_golden_values_gradients_and_update(dtype, tolerance):
    expected, labels = GOLDEN["expected"], np.array(GOLDEN["inputs"]["labels"])
    x, centers = (np.array(GOLDEN["inputs"][name], dtype) for name in ("embeddings", "centres"))
    with jax.enable_x64(dtype == "float64"):
        values, by_x, _ = center(x, centers, labels)
        after = update_centers(x, centers, labels, alpha=GOLDEN["params"]["alpha"])
    np.testing.assert_allclose(values, expected["per_sample"], rtol=tolerance)
    assert values.mean() == pytest.approx(expected["loss"], rel=tolerance)
    np.testing.assert_allclose(by_x / 7, expected["grad_embeddings"], atol=tolerance)
    np.testing.assert_allclose(after, expected["centres_after"], rtol=tolerance)
    np.testing.assert_array_equal(after[3], centers[3])


@every_distance
def test_value_is_the_formula_and_gradients_its_difference_quotients(distance, rng):
    arrays = batch(rng, "float64")
    with jax.enable_x64(True):
        values, *gradients = center(*arrays, distance=distance)
    expected = reference(*arrays, LABELS, distance)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    directions, step = batch(rng, "float64"), 1e-6
    there, back = (
        reference(*(a + h * d for a, d in zip(arrays, directions, strict=True)), LABELS, distance)
        for h in (step, -step)
    )
    got = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert got == pytest.approx((there - back).sum() / (2 * step), rel=1e-6)


@every_distance
def test_gradient_reaches_the_centers_only_where_they_are_trainable(distance, rng):
    x, centers = batch(rng)
    fixed, trained = (center(x, centers, distance=distance, trainable=t) for t in (False, True))
    np.testing.assert_array_equal(fixed[0], trained[0])
    np.testing.assert_array_equal(fixed[1], trained[1])
    assert (fixed[2] == 0.0).all()
    np.testing.assert_array_equal(trained[2].any(axis=1), [True, True, False, True])


@pytest.mark.parametrize("length", [0.0, 1e7])
def test_outside_its_limits_the_limited_square_has_no_gradient(length):
    x = np.full((7, 4), length, "float32")
    values, by_x, by_centers = center(x, np.zeros((4, 4), "float32"), distance="limited")
    np.testing.assert_allclose(values, 1e12 if length else 1e-12)
    assert (by_x == 0.0).all()
    assert (by_centers == 0.0).all()


def test_update_is_the_formula(rng):
    x, centers = batch(rng, "float64")
    expected = centers.copy()
    for j in range(4):
        rows = x[j == LABELS]
        expected[j] -= 0.3 * (centers[j] - rows).sum(0) / (1 + len(rows))
    with jax.enable_x64(True):
        np.testing.assert_allclose(update_centers(x, centers, alpha=0.3), expected, rtol=1e-12)


def test_repeated_updates_move_the_centers_to_the_class_means(rng):
    x, centers = batch(rng)
    for _ in range(60):
        centers = update_centers(x, centers)
    np.testing.assert_allclose(centers[3], x[LABELS == 3].mean(0), atol=1e-5)


def test_update_has_no_gradient(rng):
    gradients = jax.grad(lambda x, c: compiled_update(x, c, LABELS).sum(), argnums=(0, 1))(
        *batch(rng)
    )
    assert not any(np.any(g) for g in gradients)


@every_distance
@pytest.mark.parametrize("by", ["where", "label"])
def test_masked_equals_sliced(distance, by, rng):
    kept = np.array([True, False, True, True, False, True, True])
    x, centers = batch(rng)
    x[1] = np.nan  # padding may hold anything
    masked = dict(where=kept) if by == "where" else dict(labels=np.where(kept, LABELS, -1))
    values, by_x, by_centers = center(x, centers, distance=distance, **masked)
    expected = center(x[kept], centers, LABELS[kept], distance=distance)
    np.testing.assert_allclose(values[kept], expected[0], rtol=1e-6)
    np.testing.assert_allclose(by_x[kept], expected[1], atol=1e-6)
    np.testing.assert_allclose(by_centers, expected[2], atol=1e-6)
    assert not values[~kept].any()
    assert not by_x[~kept].any()
    np.testing.assert_allclose(
        update_centers(x, centers, **masked),
        update_centers(x[kept], centers, LABELS[kept]),
        atol=1e-6,
    )


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_fully_masked_batch_is_zero_and_moves_no_center(rows, rng):
    x, centers = batch(rng)
    x, labels = x[:rows], np.full(rows, -1)
    assert not any(a.any() for a in center(x, centers, labels))
    np.testing.assert_array_equal(update_centers(x, centers, labels), centers)


@pytest.mark.parametrize(
    ("distance", "dtype"),
    [(name, jnp.float32) for name in ("squared_euclidean", "limited", "cosine")]
    + [("squared_euclidean", jnp.bfloat16), ("cosine", jnp.float16)],
)
def test_finite_on_the_center_opposite_to_it_and_at_any_length(distance, dtype, rng):
    row = rng.normal(size=(1, 4))
    centers = np.concatenate([row, 0.0 * row, row, row]).astype(dtype)
    x = np.concatenate([row, -row, 1e4 * row, 0.0 * row, row, 0.0 * row, row]).astype(dtype)
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    values, *gradients = center(x, centers, labels, distance=distance)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert all(np.isfinite(g.astype(np.float32)).all() for g in gradients)
    exact = center(x.astype("float32"), centers.astype("float32"), labels, distance=distance)
    np.testing.assert_array_equal(values, exact[0])


def test_a_row_is_the_same_alone_and_in_a_batch_of_any_order(rng):
    x, centers = batch(rng)
    values, order = center(x, centers)[0], rng.permutation(7)
    alone = [center(x[i : i + 1], centers, LABELS[i : i + 1])[0][0] for i in range(7)]
    np.testing.assert_allclose(values, alone, rtol=1e-6)
    np.testing.assert_array_equal(center(x[order], centers, LABELS[order])[0], values[order])


@every_distance
def test_rotating_everything_changes_nothing(distance, rng):
    x, centers = batch(rng)
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    q = q.astype("float32")
    rotated, values = (
        center(*a, distance=distance)[0] for a in ((x @ q, centers @ q), (x, centers))
    )
    np.testing.assert_allclose(rotated, values, rtol=1e-5)


def test_eager_equals_compiled(rng):
    x, centers = batch(rng)
    np.testing.assert_allclose(
        af.losses.center(x, centers, LABELS), center(x, centers)[0], rtol=1e-6
    )
    np.testing.assert_allclose(
        af.losses.update_centers(x, centers, LABELS), update_centers(x, centers), rtol=1e-6
    )


def test_label_out_of_range_in_compiled_code_is_nan_in_its_row_and_moves_no_center(rng):
    x, centers = batch(rng)
    labels = LABELS.copy()
    labels[[1, 4]] = 5, -2
    kept = np.array([True, False, True, True, False, True, True])
    np.testing.assert_array_equal(np.isnan(center(x, centers, labels)[0]), ~kept)
    np.testing.assert_allclose(
        update_centers(x, centers, labels),
        update_centers(x[kept], centers, LABELS[kept]),
        atol=1e-6,
    )


@pytest.mark.parametrize("function", [af.losses.center, af.losses.update_centers])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(labels=np.array([0, 4, 1])), r"label 4 at position 1 lies outside \[0, 4\)"),
        (dict(labels=np.zeros(3)), "cast with"),
        (dict(centers=np.ones((2, 4))), r"embeddings \[B, D\] and centers \[C, D\]"),
        (dict(where=np.ones(3)), r"where is bool\[3\]"),
    ],
)
def test_wrong_input_is_refused_with_the_way_out(function, change, message):
    arguments = dict(embeddings=np.ones((3, 2)), centers=np.ones((4, 2)), labels=np.arange(3))
    arguments |= change
    data = [arguments.pop(key) for key in ("embeddings", "centers", "labels")]
    with pytest.raises(ValueError, match=message):
        function(*data, **arguments)


def test_unknown_distance_is_named():
    with pytest.raises(ValueError, match="unknown distance 'cosin'.*Did you mean cosine"):
        af.losses.center(np.ones((1, 2)), np.ones((1, 2)), np.array([0]), distance="cosin")
