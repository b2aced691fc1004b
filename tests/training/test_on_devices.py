"""Training with classes cut over devices: the same as on one, and moved between devices midway."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af
from arcface_jax.heads import Fused, Sampled, Sharded
from arcface_jax.models import IResNetConfig
from arcface_jax.parallel import make_mesh
from arcface_jax.training import Checkpoints, Hyper, Program, ProgramConfig, ScheduleConfig, train

DIM = 8
# Divides over 1, 2, 3, 4 and 8 devices.
ROWS = 24


class Batches:
    """Random images of random classes, the same stream for the same number of classes."""

    def __init__(self, num_classes):
        self.num_classes, self.position = num_classes, 0

    def __next__(self):
        rng = np.random.default_rng(self.position)
        self.position += 1
        labels = rng.integers(0, self.num_classes, ROWS).astype(np.int32)
        images = rng.integers(0, 256, (ROWS, 8, 8, 1)).astype(np.uint8)
        return {"image": images, "label": labels}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = int(state["position"])


def make_program(num_classes, head):
    model = IResNetConfig(
        depths=(1,), widths=(4,), embedding_dim=DIM, image_size=8, channels=1, dropout=0.0
    )
    schedule = ScheduleConfig(name="constant", steps=1000)
    return Program(
        ProgramConfig(model=model, num_classes=num_classes, schedule=schedule, head=head)
    )


def on(devices, data=1, **options):
    return Sharded(mesh=make_mesh(devices, data), local=Fused(block=64), **options)


def hyper(margin=None):
    return Hyper(
        margin=margin or af.arcface(0.3), scale=16.0, learning_rate=0.1, weight_decay=5e-4
    ).traced()


def run(program, hyper, *, steps, num_classes):
    state = program.init(hyper, seed=0)
    state = train(program, state, Batches(num_classes), hyper, steps=steps)
    return program, state


def arrays(program, state):
    """Whatever training has moved, without padding."""
    packed = program.packed(state)
    return jax.tree.leaves((packed.params, packed.rest, packed.head, packed.optimizer))


def assert_equal_but_for_rounding(ends, expected):
    for got, wanted in zip(arrays(*ends), arrays(*expected), strict=True):
        if jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
            continue
        # A bias in front of batch normalisation has no gradient but rounding.
        largest = max(float(np.abs(wanted).max()), 1e-2)
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=2e-4 * largest)


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
    queue = np.asarray(program.packed(state).margin_state["queue"])
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
            like = program.packed_shapes(adaface)
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
        stored = checkpoints.shapes()
    with_rows = {name: shape for name, shape in stored.items() if "centers" in name}
    assert len(with_rows) == 2 and set(with_rows.values()) == {(21, DIM)}
    # On one device it is what it was.
    single = make_program(21, "dense")
    with Checkpoints(tmp_path, every=1, program=single) as checkpoints:
        restored = checkpoints.restore(single.packed_shapes(hyper()))
    np.testing.assert_array_equal(restored.head["centers"], program.centers(state))


def test_a_step_sends_no_centres():
    program = make_program(4003, on(4))
    arc = hyper()
    state = program.init(arc, seed=0)
    batch = program._cut(tuple(next(Batches(4003)).values()))
    text = program._step.lower(state, *batch, arc).compile().as_text()
    moved = re.findall(
        r"= \(?(.*?)\)? (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\(",
        text,
    )
    sizes = [
        int(np.prod([int(n) for n in dims.split(",") if n]))
        for shapes, _ in moved
        for dims in re.findall(r"[a-z]+\d+\[([\d,]*)\]", shapes)
    ]
    # A quarter of the centres is 8,008 numbers; a layer of the backbone has fewer.
    assert sizes and max(sizes) < 4000
