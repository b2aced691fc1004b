"""Training with classes cut over devices: the same as on one, and moved between devices midway."""

import re

import numpy as np
import pytest
from device_runs import DIM, Batches, assert_equal_but_for_rounding, hyper, make_program, on, run

import arcface_jax as af
from arcface_jax.heads import Sampled
from arcface_jax.training import Checkpoints, train
from arcface_jax.training.class_rows import stored_shape


@pytest.mark.parametrize(
    "head",
    [on(2), on(8), on(2, 4), Sampled(rate=1.0, head=on(4), update="sparse")],
    ids=["2", "8", "4 x 2", "sampled"],
)
def test_training_on_devices_is_training_on_one(head):
    options = dict(steps=4, num_classes=21)
    expected = run(make_program(21, "dense"), hyper(), **options)
    assert_equal_but_for_rounding(run(make_program(21, head), hyper(), **options), expected)


def test_a_queue_of_features_is_cut_like_the_centres():
    vpl = hyper(af.vpl(start=0))
    options = dict(steps=3, num_classes=21)
    expected = run(make_program(21, "dense"), vpl, **options)
    program, state = run(make_program(21, on(4)), vpl, **options)
    assert_equal_but_for_rounding((program, state), expected)
    met = np.asarray(expected[1].margin_state["seen"]) > 0
    queue = np.asarray(state.margin_state["queue"])[:21]
    np.testing.assert_allclose(
        queue[met], np.asarray(expected[1].margin_state["queue"])[met], atol=1e-5
    )
    shards = state.margin_state["queue"].addressable_shards
    assert {shard.data.shape for shard in shards} == {(6, DIM)}


@pytest.mark.parametrize("num_classes", [1000, pytest.param(10_007, marks=pytest.mark.slow)])
def test_moving_from_8_devices_to_3_and_back_changes_nothing_but_rounding(num_classes, tmp_path):
    adaface = hyper(af.adaface())
    expected = run(make_program(num_classes, "fused"), adaface, steps=9, num_classes=num_classes)
    for devices, steps in ((8, 3), (3, 6), (8, 9)):
        program = make_program(num_classes, on(devices))
        stream = Batches(num_classes)
        with Checkpoints(tmp_path, every=1000, program=program) as checkpoints:
            like = program.shapes(adaface)
            state = checkpoints.restore(like, stream) or program.init(adaface, seed=0)
            state = train(program, state, stream, adaface, steps=steps)
            checkpoints.save(steps, state, stream, force=True)
    assert_equal_but_for_rounding((program, state), expected)
    for name, value in expected[1].margin_state.items():
        np.testing.assert_allclose(state.margin_state[name], value, rtol=1e-4)


def test_a_checkpoint_holds_as_many_rows_as_there_are_classes(tmp_path):
    program = make_program(21, on(8))
    state = program.init(hyper(), seed=0)
    assert state.head["centers"].shape == (24, DIM)
    with Checkpoints(tmp_path, every=1, program=program) as checkpoints:
        checkpoints.save(0, state, Batches(21), force=True)
    stores = [store.parent for store in (tmp_path / "0/classes").glob("*/zarr.json")]
    stored = [stored_shape(store) for store in stores]
    assert stored == [(21, DIM), (21, DIM)]
    # On one device it is what it was.
    single = make_program(21, "dense")
    with Checkpoints(tmp_path, every=1, program=single) as checkpoints:
        restored = checkpoints.restore(single.shapes(hyper()))
    np.testing.assert_array_equal(restored.head["centers"], program.centers(state))


def test_a_step_sends_no_centres_and_no_activations():
    program = make_program(4003, on(4))
    arc = hyper()
    state = program.init(arc, seed=0)
    batch = program._cut(tuple(next(Batches(4003)).values()))
    text = program._step.lower(state, *batch, arc).compile().as_text()
    moved = re.findall(
        r"= \(?(.*?)\)? (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\(",
        text,
    )
    assert {kind for _, kind in moved} <= {"all-reduce", "all-gather", "reduce-scatter"}
    sizes = [
        int(np.prod([int(n) for n in dims.split(",") if n]))
        for shapes, _ in moved
        for dims in re.findall(r"[a-z]+\d+\[([\d,]*)\]", shapes)
    ]
    # A quarter of the centres is 8,008 numbers; a layer of the backbone has fewer.
    assert sizes and max(sizes) < 4000
