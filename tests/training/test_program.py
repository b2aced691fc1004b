"""The compiled step: one trace for a sweep, learning, determinism, resuming."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af
from arcface_jax.heads import Sampled
from arcface_jax.models import IResNetConfig
from arcface_jax.training import (
    Checkpoints,
    Diverged,
    Hyper,
    JsonLines,
    Program,
    ProgramConfig,
    ScheduleConfig,
    read_json_lines,
    train,
)

MARGINS = {
    "softmax": (af.softmax(), None),
    "norm_softmax": (af.norm_softmax(), 16.0),
    "sphereface": (af.sphereface(1.2), 16.0),
    "cosface": (af.cosface(0.2), 16.0),
    "arcface": (af.arcface(0.3), 16.0),
    "combined": (af.combined(0.9, 0.2, 0.1), 16.0),
    "sphereface_psi": (af.sphereface_psi(3), None),
}


@pytest.fixture(scope="module")
def program():
    model = IResNetConfig(depths=(1, 1), widths=(4, 8), embedding_dim=8, image_size=12, channels=1)
    schedule = ScheduleConfig(name="constant", steps=1000)
    return Program(ProgramConfig(model=model, num_classes=5, schedule=schedule))


class Blobs:
    """Five easily told classes, the same stream for the same seed."""

    def __init__(self, seed=0):
        self.seed, self.position = seed, 0

    def __next__(self):
        rng = np.random.default_rng([self.seed, self.position])
        self.position += 1
        labels = rng.integers(0, 5, 16).astype(np.int32)
        images = rng.integers(0, 60, (16, 12, 12, 1))
        images[np.arange(16), 2 * labels] += 150
        return {"image": images.astype(np.uint8), "label": labels}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = int(state["position"])


def hyper(name, **changes):
    margin, scale = MARGINS[name]
    values = dict(margin=margin, scale=scale, learning_rate=0.05, weight_decay=5e-4)
    return Hyper(**(values | changes))


def trained(state):
    return jax.tree.leaves((state.params, state.head, state.rest))


def momentum(state):
    """Of the centres, in the state of decay, momentum and rate over (params, head, margin)."""
    return state.optimizer[1].trace[1]["centers"]


@pytest.mark.parametrize("name", MARGINS)
def test_training_lowers_the_loss_and_the_target_angle(program, name, tmp_path):
    with JsonLines(tmp_path / "metrics.jsonl") as metrics:
        state = program.init(hyper(name), seed=0)
        train(program, state, Blobs(), hyper(name), steps=40, log_every=5, metrics=metrics)
    records = read_json_lines(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records] == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    assert np.mean([r["loss"] for r in records[-3:]]) < 0.7 * records[0]["loss"]
    assert records[-1]["theta_target_deg"] < 60.0 < 75.0 < records[0]["theta_target_deg"]


def test_one_trace_serves_every_point_of_the_combined_margin(program):
    kinds = ("norm_softmax", "sphereface", "cosface", "arcface", "combined")
    state = program.init(hyper("arcface"), seed=0)
    train(program, state, Blobs(), hyper("arcface"), steps=2)
    before = program.traces["train_step"]
    for seed, name in enumerate(kinds):
        for change in (dict(), dict(learning_rate=0.01, weight_decay=0.0, scale=32)):
            state = program.init(hyper(name), seed=seed)
            train(program, state, Blobs(seed), hyper(name, **change), steps=2)
    assert program.traces["train_step"] == before


def test_one_seed_gives_one_result_and_another_a_different_one(program):
    runs = []
    for seed in (3, 3, 4):
        state = program.init(hyper("arcface"), seed=seed)
        runs.append(trained(train(program, state, Blobs(seed), hyper("arcface"), steps=5)))
    assert all((a == b).all() for a, b in zip(runs[0], runs[1], strict=True))
    assert not all((a == b).all() for a, b in zip(runs[0], runs[2], strict=True))


def test_a_step_is_sgd_with_momentum_and_weight_decay(program):
    state = program.init(hyper("arcface"), seed=0)
    batch = next(Blobs())
    still = hyper("arcface", learning_rate=0.0, weight_decay=0.0).traced()
    state, _ = program.train_step(state, batch["image"], batch["label"], still)
    # Two steps at rate 0 leave the weights, so the second momentum is 0.9 g + g.
    first = np.asarray(momentum(state))
    state, _ = program.train_step(state, batch["image"], batch["label"], still)
    second = np.asarray(momentum(state))
    np.testing.assert_allclose(second, 1.9 * first, rtol=1e-4, atol=1e-7)
    centers = np.asarray(state.head["centers"])
    moving = hyper("arcface", learning_rate=0.1, weight_decay=0.01).traced()
    state, _ = program.train_step(state, batch["image"], batch["label"], moving)
    expected = centers - 0.1 * (0.9 * second + first + 0.01 * centers)
    np.testing.assert_allclose(state.head["centers"], expected, rtol=1e-4, atol=1e-6)


def test_softmax_bias_is_not_decayed(program):
    state = program.init(hyper("softmax"), seed=0)
    batch = next(Blobs())
    labels = np.full(16, -1, np.int32)
    state.head["bias"] = jnp.ones(5)
    decaying = hyper("softmax", weight_decay=0.5).traced()
    state, _ = program.train_step(state, batch["image"], labels, decaying)
    np.testing.assert_array_equal(state.head["bias"], np.ones(5))


def sampled_program(program, **options):
    return Program(dataclasses.replace(program.config, head=Sampled(**options)))


def test_a_sample_of_all_classes_trains_as_the_dense_head(program):
    arc = hyper("arcface").traced()
    ends = []
    for other in (
        program,
        sampled_program(program, rate=1.0),
        sampled_program(program, rate=1.0, update="sparse"),
    ):
        state, stream = other.init(arc, seed=0), Blobs()
        for _ in range(3):
            batch = next(stream)
            state, metrics = other.train_step(state, batch["image"], batch["label"], arc)
        ends.append((*jax.tree.leaves((state.params, state.head)), *metrics.values()))
    for end in ends[1:]:
        for got, expected in zip(end, ends[0], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("update", ["dense", "sparse"])
def test_classes_outside_the_sample_move_by_momentum_and_decay_or_not_at_all(program, update):
    sampled = sampled_program(program, rate=0.0, update=update, max_sampled=2, overflow="drop")
    decaying = hyper("arcface", weight_decay=0.1).traced()
    state = sampled.init(decaying, seed=0)
    batch = next(Blobs())
    # Two classes in the batch and two places: no other is drawn.
    labels = batch["label"] % 2
    before, momentum_before = np.array(state.head["centers"]), np.array(momentum(state))
    state, metrics = sampled.train_step(state, batch["image"], labels, decaying)
    after = np.asarray(state.head["centers"])
    assert (after[:2] != before[:2]).all() and metrics["loss"] > 0
    if update == "sparse":
        np.testing.assert_array_equal(after[2:], before[2:])
        np.testing.assert_array_equal(momentum(state)[2:], momentum_before[2:])
    else:
        rate = float(metrics["learning_rate"])
        np.testing.assert_allclose(after[2:], (1 - rate * 0.1) * before[2:], rtol=1e-5)


def test_features_to_remember_come_from_the_mean_of_the_backbone(program):
    def run(**options):
        margin = af.vpl(start=0, **options)
        hyper = Hyper(margin=margin, scale=8.0, learning_rate=0.05, weight_decay=0.0).traced()
        state = program.init(hyper, seed=0)
        stream = Blobs()
        for _ in range(3):
            batch = next(stream)
            state, _ = program.train_step(state, batch["image"], batch["label"], hyper)
        return state, batch

    own, _ = run()
    assert own.average is None
    immediate, _ = run(momentum=0.0)
    np.testing.assert_allclose(
        immediate.margin_state["queue"], own.margin_state["queue"], atol=1e-5
    )
    slow, last = run(momentum=0.75)
    features = program.embed(
        dataclasses.replace(slow, params=slow.average), last["image"], batch_statistics=True
    )
    features = np.asarray(features / jnp.linalg.norm(features, axis=1, keepdims=True))
    for label in set(last["label"].tolist()):
        row = np.flatnonzero(last["label"] == label)[-1]
        np.testing.assert_allclose(slow.margin_state["queue"][label], features[row], atol=1e-5)


def test_the_mean_of_the_backbone_moves_by_its_momentum(program):
    hyper = Hyper(
        margin=af.vpl(momentum=0.75), scale=8.0, learning_rate=0.05, weight_decay=0.0
    ).traced()
    state = program.init(hyper, seed=0)
    batch = next(Blobs())
    means = jax.tree.map(np.array, state.params)
    for _ in range(2):
        means = jax.tree.map(lambda m, p: 0.75 * m + 0.25 * np.asarray(p), means, state.params)
        state, _ = program.train_step(state, batch["image"], batch["label"], hyper)
    for got, expected in zip(jax.tree.leaves(state.average), jax.tree.leaves(means), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_a_resumed_run_equals_an_unbroken_one(program, tmp_path):
    def start():
        return program.init(hyper("sphereface_psi"), seed=0)

    whole = train(program, start(), Blobs(), hyper("sphereface_psi"), steps=12)
    with Checkpoints(tmp_path / "checkpoints", every=5) as checkpoints:
        train(
            program,
            start(),
            Blobs(),
            hyper("sphereface_psi"),
            steps=7,
            checkpoints=checkpoints,
        )
    stream = Blobs()
    with Checkpoints(tmp_path / "checkpoints", every=5) as checkpoints:
        assert checkpoints.latest == 5
        state = checkpoints.restore(start(), stream)
        assert stream.position == 5
        resumed = train(program, state, stream, hyper("sphereface_psi"), steps=12)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_holds_the_contract_and_keeps_to_it(program, tmp_path):
    contract = program.config.contract
    wide = dataclasses.replace(contract, std=(255.0,), flip="add")
    other = Program(dataclasses.replace(program.config, preprocessing=wide))
    settings = hyper("softmax")
    with Checkpoints(tmp_path / "checkpoints", every=5, program=program) as checkpoints:
        checkpoints.save(5, program.init(settings, seed=0), None)
        assert checkpoints.preprocessing() == contract
    with (
        Checkpoints(tmp_path / "checkpoints", every=5, program=other) as checkpoints,
        pytest.raises(
            ValueError, match=r"with std=\(127.5,\) \(here \(255.0,\)\), flip=none \(here add"
        ),
    ):
        checkpoints.restore(other.shapes(settings))


def test_a_checkpoint_without_a_contract_is_restored(program, tmp_path):
    state = program.init(hyper("softmax"), seed=0)
    with Checkpoints(tmp_path / "checkpoints", every=5) as checkpoints:
        checkpoints.save(5, state, None)
        assert checkpoints.preprocessing() is None
        assert checkpoints.restore(state) is not None


def test_nothing_to_restore_is_none(program, tmp_path):
    with Checkpoints(tmp_path / "none", every=5) as checkpoints:
        assert checkpoints.preprocessing() is None
        assert checkpoints.restore(program.init(hyper("softmax"), seed=0)) is None


def test_divergence_stops_the_run_and_says_where(program, tmp_path):
    state = program.init(hyper("softmax"), seed=0)
    with (
        JsonLines(tmp_path / "metrics.jsonl") as metrics,
        pytest.raises(Diverged, match=r"at step \d+; lower the learning rate"),
    ):
        train(
            program,
            state,
            Blobs(),
            hyper("softmax", learning_rate=1e30),
            steps=50,
            log_every=1,
            metrics=metrics,
        )
    assert read_json_lines(tmp_path / "metrics.jsonl")[-1]["loss"] is None


def test_batch_statistics_differ_from_running_ones_at_the_start(program):
    state = program.init(hyper("arcface"), seed=0)
    images = next(Blobs())["image"]
    by_batch = program.embed(state, images, batch_statistics=True)
    assert float(jnp.sqrt(jnp.mean(jnp.sum(by_batch**2, 1)))) == pytest.approx(8**0.5, rel=0.01)
    assert not np.allclose(by_batch, program.embed(state, images), rtol=0.1)
