"""Optimiser steps on sampled rows: the worked examples, and that nothing else moves."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arcface_jax.heads import Sample, Sampled, Sharded
from arcface_jax.parallel import make_mesh
from arcface_jax.training import update_rows

RULES = json.loads((pathlib.Path(__file__).parents[1] / "golden/margin_losses.json").read_text())[
    "sharding_and_sampling"
]["update_rules"]


def sample_of(classes, *, num_classes=4):
    classes = jnp.asarray(classes, jnp.int32)
    return Sample(
        classes=classes,
        labels=jnp.arange(len(classes)),
        counts=None,
        kept=jnp.ones(len(classes), bool),
        num_classes=num_classes,
        met=len(classes),
        mesh=None,
    )


@pytest.mark.parametrize("update", ["dense", "sparse"])
def test_sgd_does_the_worked_example(update):
    optimizer = optax.chain(
        optax.add_decayed_weights(RULES["weight_decay"]),
        optax.trace(RULES["momentum"]),
        optax.scale_by_learning_rate(RULES["lr"]),
    )
    with jax.enable_x64(True):
        centers = jnp.asarray(RULES["weights"])
        state = optimizer.init(centers)
        for step in RULES["steps"]:
            gradients = jnp.asarray(step["gradient"])
            sample = None
            if update == "sparse":
                sample = sample_of(step["sampled"])
                gradients = sample.take(gradients)
            centers, state = update_rows(
                optimizer, gradients, state, centers, by_class=True, sample=sample
            )
            np.testing.assert_allclose(centers, step[f"{update}_weights"], rtol=1e-12)
            np.testing.assert_allclose(state[1].trace, step[f"{update}_momentum"], rtol=1e-12)


def test_adam_keeps_the_moments_of_other_rows_and_one_counter():
    optimizer = optax.adam(0.1)
    trained = {"centers": jnp.ones((5, 2)), "backbone": jnp.ones(3)}
    by_class = {"centers": True, "backbone": False}
    state = optimizer.init(trained)
    for classes in ([0, 3], [3, 4]):
        gradients = {"centers": jnp.full((2, 2), 2.0), "backbone": jnp.ones(3)}
        trained, state = update_rows(
            optimizer, gradients, state, trained, by_class=by_class, sample=sample_of(classes)
        )
    adam = state[0]
    assert int(adam.count) == 2
    # 0.1 g after one step, 0.1 g (1 + 0.9) after two.
    np.testing.assert_allclose(adam.mu["centers"][:, 0], [0.2, 0, 0, 0.38, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(trained["centers"][jnp.array([1, 2])], 1.0)
    assert (trained["centers"][jnp.array([0, 3, 4])] < 1.0).all()
    np.testing.assert_allclose(trained["backbone"], 0.8, rtol=1e-5)


def test_rows_on_several_devices_are_taken_and_put_where_they_lie():
    head = Sampled(rate=0.25, head=Sharded(mesh=make_mesh(4)))
    values = jnp.arange(32.0).reshape(16, 2)

    @jax.jit
    def replaced(labels):
        sample = head.draw(labels, num_classes=16, key=jax.random.key(0))
        return sample.classes, sample.take(values), sample.put(values, -sample.take(values))

    classes, rows, changed = replaced(jnp.array([1, 1, 9, 9]))
    np.testing.assert_array_equal(rows, values[classes])
    np.testing.assert_array_equal(changed, values.at[classes].multiply(-1.0))
