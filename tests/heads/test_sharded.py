"""The head whose classes lie on several devices: equal to the dense one on every mesh."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from margin_table import ROWS

import arcface_jax as af
from arcface_jax import testing
from arcface_jax.heads import Dense, Fused, Sharded
from arcface_jax.parallel import classes_spec, make_mesh, place, rows_spec

ROWS_IN_BATCH = 8


def value_and_gradients(margin, batch, head, **changed):
    """(losses, next state, gradients to embeddings and centres), compiled."""

    @jax.jit
    def compiled(embeddings, centers):
        def total(embeddings, centers):
            losses, state = testing.evaluate(
                margin, batch, head=head, embeddings=embeddings, centers=centers, **changed
            )
            return losses.sum(), (losses, state)

        return jax.grad(total, argnums=(0, 1), has_aux=True)(embeddings, centers)

    grads, (losses, state) = compiled(batch.embeddings, batch.centers)
    return losses, state, grads


def assert_sharded_is_dense(margin, head, **changed):
    batch = testing.make_batch(margin, rows=ROWS_IN_BATCH)
    expected = value_and_gradients(margin, batch, "dense", **changed)
    got = value_and_gradients(margin, batch, head, **changed)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        largest = max(float(np.abs(b).max()), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * largest)


@pytest.mark.parametrize("local", [Dense(), Fused(block=3)], ids=["dense", "fused"])
@pytest.mark.parametrize(("data", "classes"), [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4)])
@pytest.mark.parametrize("name", ["arcface", "adaface", "curricularface"])
def test_every_mesh_equals_dense(name, data, classes, local):
    # 9 classes divide over none of these but one.
    where = jnp.arange(ROWS_IN_BATCH) != 3
    head = Sharded(mesh=make_mesh(classes, data), local=local)
    assert_sharded_is_dense(ROWS[name].margin, head, where=where)


@pytest.mark.parametrize(("data", "classes"), [(1, 4), (2, 2)])
def test_an_explicit_mesh_equals_dense(data, classes):
    margin = af.adaface()
    mesh = make_mesh(classes, data, axis_type=AxisType.Explicit)
    assert_sharded_is_dense(margin, Sharded(mesh=mesh, local=Fused(block=3)))


def test_padded_centres_are_told_by_the_number_of_classes():
    margin = af.arcface()
    batch = testing.make_batch(margin, rows=ROWS_IN_BATCH)
    mesh = make_mesh(4)
    head = Sharded(mesh=mesh, num_classes=testing.CLASSES)
    padded = jnp.pad(batch.centers, ((0, 3), (0, 0)), constant_values=1.0)
    expected = value_and_gradients(margin, batch, "dense")
    batch = testing.dataclasses.replace(batch, centers=padded)
    losses, _, (by_x, by_w) = value_and_gradients(margin, batch, head)
    np.testing.assert_allclose(losses, expected[0], rtol=2e-5)
    np.testing.assert_allclose(by_x, expected[2][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_w[:-3], expected[2][1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(by_w[-3:], 0.0)


def test_a_batch_that_does_not_divide_is_refused():
    margin = af.arcface()
    with pytest.raises(ValueError, match="6 rows does not divide over 4 devices"):
        testing.evaluate(margin, testing.make_batch(margin), head=Sharded(mesh=make_mesh(4)))


def test_neither_logits_nor_centres_travel():
    rows, dim, classes, parts = 64, 16, 4000, 4
    mesh = make_mesh(parts)
    head = Sharded(mesh=mesh, local=Fused(block=128))

    def total(x, w, y):
        return af.margin_softmax_loss(x, w, y, margin=af.arcface(), head=head).sum()

    x, y = (place(a, mesh, rows_spec(mesh)) for a in (jnp.ones((rows, dim)), jnp.arange(rows)))
    w = place(jnp.ones((classes, dim)), mesh, classes_spec())
    step = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    text = step.lower(x, w, y).compile().as_text()
    moved = re.findall(
        r"= \(?(.*?)\)? (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\(",
        text,
    )
    sizes = [
        int(np.prod([int(n) for n in dims.split(",") if n]))
        for shapes, _ in moved
        for dims in re.findall(r"[a-z]+\d+\[([\d,]*)\]", shapes)
    ]
    assert moved
    # The gathered batch and its gradient, and numbers per row.
    assert max(sizes) <= rows * dim
    assert sum(size > rows for size in sizes) <= 2, moved
