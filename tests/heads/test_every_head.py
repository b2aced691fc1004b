"""Every head with every margin against the dense head in float64: value and every gradient.

The usual run takes one block size and one mesh; ``--whole-cross`` (`make repro`) takes them all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float64_heads import allowed_difference, large_batch
from margin_table import ROWS

import arcface_jax as af
from arcface_jax import testing
from arcface_jax.heads import Dense, Fused, Sampled, Sharded
from arcface_jax.parallel import make_mesh

BATCH = 16


def heads(*, whole_cross):
    """The heads by name."""
    found = {
        "dense": Dense(),
        "fused": Fused(block=64),
        "sharded": Sharded(mesh=make_mesh(2, 2), local=Fused(block=64)),
        "sampled": Sampled(rate=1.0),
    }
    if not whole_cross:
        return found
    for block in (1, 100, 256, 4096):
        found[f"fused, {block}"] = Fused(block=block)
    for data, classes in ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (4, 2)):
        for local in (Dense(), Fused(block=64)):
            mesh = make_mesh(classes, data)
            name = f"{data} x {classes} {type(local).__name__.lower()}"
            found[f"sharded, {name}"] = Sharded(mesh=mesh, local=local)
            found[f"sampled, {name}"] = Sampled(rate=1.0, head=Sharded(mesh=mesh, local=local))
    return found


def value_and_gradients(margin, batch, where, heads):
    """For each head (losses, next state, gradients to all that is trained), compiled."""
    trained = {
        name: getattr(batch, name)
        for name in ("embeddings", "centers", "bias", "params")
        if getattr(batch, name) is not None
    }

    def of_head(head):
        def total(trained):
            losses, state = testing.evaluate(margin, batch, head=head, where=where, **trained)
            return losses.sum(), (losses, state)

        grads, (losses, state) = jax.grad(total, has_aux=True)(trained)
        return losses, state, grads

    return {name: jax.jit(of_head, static_argnums=0)(head) for name, head in heads.items()}


def assert_heads_equal_float64(row, *, classes, heads):
    margin = row.margin
    where = jnp.arange(BATCH) % 7 != 2
    with jax.enable_x64(True):
        exact = large_batch(margin, rows=BATCH, classes=classes, dtype=jnp.float64)
        expected = value_and_gradients(margin, exact, where, {"dense": Dense()})["dense"]
        expected = jax.tree.map(np.asarray, expected)
    batch = large_batch(margin, rows=BATCH, classes=classes)
    heads = {
        name: head
        for name, head in heads.items()
        if not (head.samples_classes and margin.needs_all_classes)
    }
    for name, got in value_and_gradients(margin, batch, where, heads).items():
        wanted_losses, wanted_state, wanted_grads = expected
        losses, state, grads = got
        allowed = allowed_difference(wanted_losses, batch, steepness=row.steepness)
        far = np.abs(losses - wanted_losses) > allowed
        assert not far.any(), f"{name}: losses {losses[far]}, not {wanted_losses[far]}"
        for array, wanted in zip(
            jax.tree.leaves((state, grads)),
            jax.tree.leaves((wanted_state, wanted_grads)),
            strict=True,
        ):
            error = np.abs(np.asarray(array, np.float64) - wanted).max()
            largest = max(np.abs(wanted).max(), 1e-3)
            assert error <= 2e-5 * largest, f"{name}: an array is {error / largest:.1e} off"


@pytest.mark.slow
@pytest.mark.parametrize("classes", [7, 1000])
@pytest.mark.parametrize("name", af.MARGINS)
def test_every_margin_is_the_same_on_every_head(name, classes):
    assert_heads_equal_float64(ROWS[name], classes=classes, heads=heads(whole_cross=False))


@pytest.mark.whole_cross
@pytest.mark.parametrize("classes", [1, 7, 1000, 10_007])
@pytest.mark.parametrize("name", ROWS)
def test_the_whole_cross(name, classes):
    row = ROWS[name]
    try:
        large_batch(row.margin, rows=1, classes=classes)
    except ValueError as refused:
        pytest.skip(f"{name} is not defined for {classes} classes: {refused}")
    assert_heads_equal_float64(row, classes=classes, heads=heads(whole_cross=True))
