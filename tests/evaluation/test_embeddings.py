import jax.numpy as jnp
import numpy as np
import pytest

from arcface_jax.evaluation.embeddings import at_most_per_identity, identity_labels, unit_rows


def test_rows_have_unit_length_whatever_their_own():
    x = np.random.default_rng(0).normal(size=(5, 3)) * np.array([[1e-9], [1], [1e30], [1e300], [3]])
    np.testing.assert_allclose(np.linalg.norm(unit_rows(x), axis=1), 1.0, rtol=1e-14)


def test_rows_without_direction_become_zero():
    np.testing.assert_array_equal(
        unit_rows([[0.0, 0.0], [1e-13, 0.0], [1e-11, 0.0]])[:, 0], [0, 0, 1]
    )


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.ones((2, 2), np.float64), np.float64),
        (np.ones((2, 2), np.float32), np.float32),
        (np.ones((2, 2), np.float16), np.float32),
        (jnp.ones((2, 2), jnp.bfloat16), np.float32),
    ],
)
def test_precision_follows_the_embeddings(given, dtype):
    assert unit_rows(given).dtype == dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_bad_row_is_named(bad):
    x = np.ones((70_000, 1))
    x[[66_000, 69_000]] = bad
    with pytest.raises(ValueError, match=r"embeddings\[66000\]"):
        unit_rows(x)


def test_rows_of_a_part_are_named_by_their_number_in_the_whole():
    with pytest.raises(ValueError, match=r"embeddings\[1001\]"):
        unit_rows([[1.0], [np.nan]], first=1000)


def test_embeddings_are_a_matrix():
    with pytest.raises(ValueError, match=r"\[N, D\], got shape \(3,\)"):
        unit_rows(np.ones(3))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "expected 3 labels"),
        ([0.0, 1.0, 2.0], "return_inverse"),
        ([0, -1, -1], r"labels\[1\] is -1"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        identity_labels(labels, 3)


def test_a_cap_depends_on_its_seed_alone():
    labels = np.repeat(np.arange(4), 10)
    first = at_most_per_identity(labels, 3, seed=1)
    np.testing.assert_array_equal(first, at_most_per_identity(labels, 3, seed=1))
    assert not np.array_equal(first, at_most_per_identity(labels, 3, seed=2))
