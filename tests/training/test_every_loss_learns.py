"""Every loss trains a small network on real faces: the loss falls and nothing overflows."""

import jax.numpy as jnp
import numpy as np
import pytest
from margin_table import ROWS

import arcface_jax as af
from arcface_jax.data import load
from arcface_jax.models import IResNetConfig
from arcface_jax.training import TERMS, Hyper, Program, ProgramConfig, ScheduleConfig

STEPS, BATCH, SIDE = 100, 32, 16
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@pytest.fixture(scope="module")
def faces(data_dir, tmp_path_factory):
    """(uint8[N, 16, 16, 1], int32[N]) of twenty people of ORL."""
    people = load(
        "orl",
        split="train",
        size=SIDE,
        channels=1,
        data_dir=tmp_path_factory.mktemp("prepared"),
        manual_dir=data_dir,
    )
    kept = np.flatnonzero(people.labels < 20)
    return people.images(kept), people.labels[kept]


@pytest.fixture(scope="module")
def programs():
    """One program per dtype: margins that differ in numbers alone share its step."""
    return {
        name: Program(
            ProgramConfig(
                model=IResNetConfig(
                    depths=(1,),
                    widths=(8,),
                    embedding_dim=16,
                    image_size=SIDE,
                    channels=1,
                    dtype=dtype,
                ),
                num_classes=20,
                schedule=ScheduleConfig(name="cosine", steps=STEPS),
            )
        )
        for name, dtype in DTYPES.items()
    }


def losses_of(program, faces, hyper):
    images, labels = faces
    state = program.init(hyper, seed=0)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(STEPS):
        chosen = rng.choice(len(labels), BATCH, replace=False)
        state, metrics = program.train_step(state, images[chosen], labels[chosen], hyper.traced())
        losses.append(metrics)
    for name in ("loss", "grad_norm"):
        assert np.isfinite([float(m[name]) for m in losses]).all(), name
    return [{name: float(value) for name, value in m.items()} for m in losses]


def falls(values, *, to):
    start, end = np.mean(values[:5]), np.mean(values[-10:])
    assert end < to * start, (start, end)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", af.MARGINS)
def test_margin_learns(name, dtype, programs, faces):
    margin = ROWS[name].margin
    scale = 16.0 if margin.has_scale and margin.default_scale == 64.0 else None
    hyper = Hyper(margin=margin, scale=scale, learning_rate=0.05, weight_decay=5e-4)
    records = losses_of(programs[dtype], faces, hyper)
    # Circle loss starts far up a square, P2SGrad near the mean of its range.
    falls([record["loss"] for record in records], to=0.85)
    assert records[-1]["theta_target_deg"] < records[0]["theta_target_deg"] - 5.0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("term", TERMS)
def test_term_learns_beside_a_softmax(term, dtype, programs, faces):
    weights = {"center": 0.003, "circle_pair": 0.05}
    hyper = Hyper(
        margin=af.norm_softmax(),
        scale=16.0,
        learning_rate=0.05,
        weight_decay=5e-4,
        terms={term: weights.get(term, 1.0)},
    )
    records = losses_of(programs[dtype], faces, hyper)
    falls([record["loss"] for record in records], to=0.85)
    if term in ("intra", "triplet", "circle_pair"):
        falls([record[term] for record in records], to=0.9)
