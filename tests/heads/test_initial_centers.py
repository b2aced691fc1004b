"""Centres before the first step: of one distribution, and the same wherever they lie."""

import jax
import numpy as np
import pytest
from scipy import stats

from arcface_jax.heads import initial_centers
from arcface_jax.parallel import make_mesh

KEY = jax.random.key(3)


def test_they_are_normal_and_no_two_rows_are_alike():
    centers = np.asarray(initial_centers(KEY, 1000, 64))
    assert stats.kstest(centers.ravel() / 0.01, "norm").pvalue > 0.01
    unit = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    assert np.abs(unit @ unit.T - np.eye(1000)).max() < 0.75


@pytest.mark.parametrize("block", [1, 7, 64, 101, 4096])
def test_any_block_size_gives_the_same(block):
    expected = initial_centers(KEY, 101, 8)
    np.testing.assert_array_equal(initial_centers(KEY, 101, 8, block=block), expected)


@pytest.mark.parametrize(("data", "classes"), [(1, 2), (1, 3), (1, 8), (2, 4)])
@pytest.mark.parametrize("k", [1, 3])
def test_any_mesh_gives_the_same_and_zeros_behind(data, classes, k):
    expected = initial_centers(KEY, 101, 8, centers_per_class=k)
    mesh = make_mesh(classes, data)
    got = initial_centers(KEY, 101, 8, centers_per_class=k, mesh=mesh, block=16)
    assert got.shape[0] == -(-101 // classes) * classes
    np.testing.assert_array_equal(got[:101], expected)
    np.testing.assert_array_equal(got[101:], 0.0)


def test_more_classes_leave_the_first_ones_as_they_are():
    few, many = initial_centers(KEY, 10, 8), initial_centers(KEY, 50, 8)
    np.testing.assert_array_equal(few, many[:10])


def test_no_second_copy_is_made():
    compiled = jax.jit(lambda key: initial_centers(key, 20_000, 64, block=500)).lower(KEY).compile()
    memory = compiled.memory_analysis()
    result, block = 20_000 * 64 * 4, 500 * 64 * 4
    assert memory.output_size_in_bytes == pytest.approx(result, rel=0.01)
    assert memory.temp_size_in_bytes < 8 * block
