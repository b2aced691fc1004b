"""The head that streams classes: equal to the dense one, and small in memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float64_heads import GRADIENT, allowed_difference, large_batch
from margin_table import ROWS

import arcface_jax as af
from arcface_jax import testing
from arcface_jax.heads import Fused


def assert_equal_to_float64(margin, head, *, where=None, **size):
    """Losses and gradients in float32 against the dense head in float64."""
    with jax.enable_x64(True):
        exact = large_batch(margin, dtype=jnp.float64, **size)
        expected = [np.asarray(x) for x in testing.gradients(margin, exact, where=where)]
    batch = large_batch(margin, **size)
    got = testing.gradients(margin, batch, head=head, where=where)
    losses, *grads = (np.asarray(x) for x in got)
    assert (np.abs(losses - expected[0]) <= allowed_difference(expected[0], batch)).all()
    for got, value in zip(grads, expected[1:], strict=True):
        assert np.abs(got - value).max() <= GRADIENT * np.abs(value).max()


SPREAD = {name: ROWS[name].margin for name in ("arcface", "adaface", "curricularface")}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block", [1, 64, 100, 4096])
@pytest.mark.parametrize("name", SPREAD)
def test_any_block_size_equals_float64(name, block, masked):
    where = np.arange(24) % 5 != 2 if masked else None
    classes = 30 if block == 1 else 1000
    where = None if where is None else jnp.asarray(where)
    assert_equal_to_float64(SPREAD[name], Fused(block=block), where=where, rows=24, classes=classes)


@pytest.mark.parametrize("name", ["norm_softmax", "sphereface2"])
def test_ten_thousand_blocks_round_as_one_does(name):
    margin, size = ROWS[name].margin, dict(rows=8, classes=10_007)
    with jax.enable_x64(True):
        exact = testing.evaluate(margin, large_batch(margin, dtype=jnp.float64, **size))[0]
        exact = np.asarray(exact)
    batch = large_batch(margin, **size)
    losses, _ = testing.evaluate(margin, batch, head=Fused(block=1))
    assert (np.abs(losses - exact) <= 0.2 * allowed_difference(exact, batch)).all()


@pytest.mark.parametrize("classes", [1, 7, 10_007])
@pytest.mark.parametrize("name", SPREAD)
def test_any_number_of_classes_equals_float64(name, classes):
    if classes == 1:
        batch = large_batch(SPREAD[name], rows=4, classes=1)
        losses, *grads = testing.gradients(SPREAD[name], batch, head="fused")
        assert float(jnp.abs(losses).max()) == 0.0
        assert all(float(jnp.abs(grad).max()) == 0.0 for grad in grads)
        return
    assert_equal_to_float64(SPREAD[name], Fused(block=1024), rows=16, classes=classes)


@pytest.mark.parametrize("block", [2, 4, 9])
@pytest.mark.parametrize(
    "name", ["softmax", "uniface_per_class", "uniface", "sphereface2", "subcenter_arcface"]
)
def test_trained_scalars_biases_and_hyper_parameters_have_the_dense_gradients(name, block):
    margin = ROWS[name].margin
    batch = testing.make_batch(margin)

    def total(head):
        def function(margin, params, bias):
            losses, _ = testing.evaluate(
                margin, batch, head=head, params=params, bias=bias, scale=batch.scale
            )
            return losses.sum()

        numbers = jax.tree.map(jnp.float32, margin)
        return jax.grad(function, argnums=(0, 1, 2), allow_int=True)(
            numbers, batch.params, batch.bias
        )

    for got, expected in zip(
        jax.tree.leaves(total(Fused(block=block))), jax.tree.leaves(total("dense")), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


def test_label_smoothing_is_that_of_the_dense_head():
    margin = af.cosface(0.2)
    batch = testing.make_batch(margin)
    got = testing.gradients(margin, batch, head=Fused(block=4), label_smoothing=0.1)
    expected = testing.gradients(margin, batch, label_smoothing=0.1)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


def test_a_dominating_target_loses_no_digits():
    x, w = jnp.eye(4)[:1], jnp.eye(4)
    for head in ("dense", Fused(block=2)):
        got = af.margin_softmax_loss(
            x, w, jnp.array([0]), margin=af.norm_softmax(), scale=60.0, head=head
        )
        assert float(got[0]) == pytest.approx(3 * np.exp(-60.0), rel=1e-5)


def test_no_array_of_the_compiled_program_holds_all_logits():
    rows, dim, classes, block = 256, 64, 30_011, 1024

    def total(x, w, y):
        return af.margin_softmax_loss(x, w, y, margin=af.arcface(), head=Fused(block=block)).sum()

    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((rows, dim), jnp.float32),
            ((classes, dim), jnp.float32),
            ((rows,), jnp.int32),
        )
    ]
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(*shapes).compile()
    sizes = [
        np.prod([int(n) for n in dims.split(",")])
        for dims in re.findall(r"[a-z]+\d+\[([\d,]+)\]", compiled.as_text())
    ]
    assert max(sizes) < rows * classes
    assert max(sizes) == classes * dim
    analysis = compiled.memory_analysis()
    a_block = 4 * (rows * block + block * dim)
    assert analysis.temp_size_in_bytes <= 4 * classes * dim + 6 * a_block


def test_a_block_needs_a_class():
    with pytest.raises(ValueError, match="at least 1 class"):
        Fused(block=0)
