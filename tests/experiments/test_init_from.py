"""Training from the weights of another training, from the command line."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from arcface_jax import convert
from experiments.trained_network import network_of_point

TINY = Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="module")
def fine_tuned(entry_point, small_weights, tmp_path_factory):
    """fine_tuned(frozen): (weight file, workdir of a run that began with it)."""
    data, made = tmp_path_factory.mktemp("prepared"), {}

    def train(frozen):
        if frozen not in made:
            workdir = tmp_path_factory.mktemp("run")
            weights = small_weights(colors="BGR", std=(64.0,), name="bgr")
            own = shutil.copy(weights, workdir / "first.safetensors")
            entry_point(
                "train",
                f"--config={TINY}",
                f"--config.init_from={own}",
                f"--config.freeze_backbone={frozen}",
                f"--workdir={workdir / 'run'}",
                f"--data_dir={data}",
            )
            Path(own).unlink()
            made[frozen] = weights, workdir / "run"
        return made[frozen]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_goes_on_from_the_weights_and_keeps_their_contract(frozen, fine_tuned):
    weights, workdir = fine_tuned(frozen)
    first, trained = convert.load(weights), network_of_point(workdir).embedder
    assert trained.preprocessing == first.preprocessing
    recorded = json.loads((workdir / "points" / "point" / "run.json").read_text())
    assert recorded["preprocessing"] == first.preprocessing.to_json()
    before, after = (
        jax.tree.leaves(nnx.state(each.model, nnx.Any(nnx.Param, nnx.BatchStat)))
        for each in (first, trained)
    )
    equal = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert all(equal) if frozen else not any(equal)


@pytest.mark.slow
def test_the_first_weights_are_not_needed_to_evaluate(fine_tuned, entry_point, tmp_path):
    _, workdir = fine_tuned(True)
    entry_point(
        "evaluate",
        f"--checkpoint={workdir}",
        "--benchmark=synthetic_faces",
        f"--data_dir={tmp_path}",
        "--resamples=0",
        f"--output={tmp_path / 'out'}",
    )
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["preprocessing"]["colors"] == "BGR"
    assert result["preprocessing"]["std"] == [64.0]


def test_weights_of_another_network_are_refused_at_once(entry_point, small_weights, tmp_path):
    said = entry_point(
        "train",
        f"--config={TINY}",
        f"--config.init_from={small_weights()}",
        "--config.model.widths=(4,16)",
        f"--workdir={tmp_path / 'run'}",
        code=2,
    ).stderr
    assert "is another network: set model.widths=(4, 8)" in said
    assert not (tmp_path / "run" / "sweep.json").exists()


def test_a_missing_weight_file_is_named(entry_point, tmp_path):
    said = entry_point(
        "train",
        f"--config={TINY}",
        f"--config.init_from={tmp_path / 'none.pt'}",
        f"--workdir={tmp_path / 'run'}",
        code=2,
    ).stderr
    assert "none.pt" in said
