"""The entry points as a user meets them: help, mistakes, Ctrl-C, resuming."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.files import claim

ROOT = pathlib.Path(__file__).parents[2]
TINY = pathlib.Path(__file__).parent / "tiny.py"
COMMANDS = ("train", "sweep", "report")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


def command(module, *words):
    return [sys.executable, "-m", f"experiments.{module}", *map(str, words)]


def environment(prepared):
    return os.environ | {"ARCFACE_PREPARED_DIR": str(prepared), "PYTHONUNBUFFERED": "1"}


def run(module, *words, prepared=pathlib.Path("/nonexistent"), code=0):
    finished = subprocess.run(
        command(module, *words),
        cwd=ROOT,
        env=environment(prepared),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout + finished.stderr


def results(workdir):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(workdir.glob("points/*/result.json"))
    }


@pytest.mark.parametrize("module", COMMANDS)
def test_help_shows_a_command_to_type(module):
    finished = subprocess.run(
        command(module, "--help"), cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert f"python -m experiments.{module}" in finished.stdout
    assert "--workdir" in finished.stdout + finished.stderr
    assert ("curricularface     m=0.5" in finished.stdout) == (module != "report")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"--config={TINY}", "--config.margn.m=1", "--workdir={}"], 'Did you mean "margin"'),
        (
            [f"--config={TINY}", "--config.margin.hh=1", "--workdir={}"],
            "--config.margin.hh=1: the config has no hh",
        ),
        ([f"--config={TINY}", "--config.steps=many", "--workdir={}"], "--config.steps=many"),
        ([f"--config={TINY}", "--config.batch_size=1", "--workdir={}"], "without a variance"),
        ([f"--config={TINY}", "--config.scale=3", "--workdir={}"], "has no effect: every point"),
        ([f"--config={TINY}", "--sweep=lng", "--workdir={}"], "it has sweep, sweep_long"),
        ([f"--config={TINY}", "--sweep=wrong", "--workdir={}"], "Did you mean margin.name"),
        ([f"--config={TINY}", "--index=2", "--workdir={}"], "the sweep has points 0 to 1"),
        ([f"--config={TINY}", "--wrkdir={}"], "Did you mean: workdir"),
        ([f"--config={TINY}", "--workdir={}", "surplus"], "unexpected argument 'surplus'"),
        ([f"--config={TINY}"], "--workdir is missing"),
        (["--workdir={}"], "--config is missing"),
        ([f"--config={TINY.with_name('tny.py')}", "--workdir={}"], "did you mean"),
        ([f"--config={TINY}", "--workdir={}/file/below"], "cannot be written"),
        (
            [
                "--config=experiments/configs/omniglot_margins.py",
                "--workdir={}",
                "--sweep=rate",
                "--manual_dir=/nonexistent",
                "--data_dir={}/none",
            ],
            "omniglot/images_background.zip",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_ends_in_one_line_that_helps(words, message, tmp_path):
    (tmp_path / "file").touch()
    output = run("sweep", *(word.format(tmp_path) for word in words), code=2)
    assert message in output
    assert len(output.strip().splitlines()) == 1
    assert not list(tmp_path.glob("points/*/result.json"))


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    output = run("sweep", f"--config={TINY}", f"--workdir={workdir}", prepared=prepared)
    return workdir, output


def test_points_that_differ_in_numbers_share_one_compiled_step(finished):
    workdir, output = finished
    assert "2 of 2 points run now, 1 compilations of the train step" in output
    assert [result["compilations"] for result in results(workdir).values()] == [1, 0]


def test_a_finished_point_leaves_its_whole_record(finished):
    workdir, _ = finished
    name, result = next(iter(results(workdir).items()))
    assert name == "arcface_m0.3"
    assert result["status"] == "finished"
    metrics = {"tar_at_far_1e-2", "tar_at_far_1e-3", "eer", "auc", "rank1", "pair_accuracy"}
    assert metrics <= result["metrics"].keys()
    assert all(0.0 <= result["metrics"][key] <= 1.0 for key in metrics)
    assert {"w_ec", "w_inter", "intra_test", "inter_test"} <= result["angles"].keys()
    directory = workdir / "points" / name
    config = json.loads((directory / "config.json").read_text())
    assert config["margin"]["m"] == 0.3
    record = json.loads((directory / "run.json").read_text())
    assert record["dataset"]["train"]["identities"] == 12
    assert record["command"].startswith("python -m experiments.sweep --config=")
    assert record["versions"]["jax"]
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    with np.load(directory / "angles.npz") as angles:
        for phase in ("start", "middle", "end"):
            assert angles[f"theta_y_{phase}"].sum() == angles[f"nearest_wrong_{phase}"].sum() == 48
        assert angles["pairs_genuine"].sum() == 24 * 6
        degrees = np.arange(180) + 0.5
        start = (angles["theta_y_start"] * degrees).sum() / 48
        assert abs(start - 90.0) < 15.0


def test_finished_points_are_not_run_again(finished, prepared):
    workdir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.glob("points/*/result.json")}
    output = run("sweep", f"--config={TINY}", f"--workdir={workdir}", prepared=prepared)
    assert output.count("finished before") == 2
    assert "0 of 2 points run now" in output
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_point_of_another_process_is_left_to_it(finished, prepared):
    workdir, _ = finished
    with claim(next(workdir.glob("points/*"))) as ours:
        assert ours
        output = run("sweep", f"--config={TINY}", f"--workdir={workdir}", prepared=prepared, code=1)
    assert output.count("is being run by another process") == 1
    assert output.count("finished before") == 1


def test_results_of_another_config_are_not_mixed_in(finished, prepared):
    workdir, _ = finished
    output = run(
        "sweep",
        f"--config={TINY}",
        "--config.steps=7",
        f"--workdir={workdir}",
        prepared=prepared,
        code=2,
    )
    assert "was run with steps=6, now it is 7" in output


def test_one_seed_gives_the_same_result_in_another_process(finished, prepared, tmp_path):
    workdir, _ = finished
    run("sweep", f"--config={TINY}", "--index=1", f"--workdir={tmp_path}", prepared=prepared)
    ((name, again),) = results(tmp_path).items()
    before = results(workdir)[name]
    for key in ("metrics", "angles", "final_loss"):
        assert again[key] == before[key]


def test_the_report_reads_what_the_sweep_wrote(finished):
    workdir, _ = finished
    run("report", f"--workdir={workdir}")
    page = (workdir / "report" / "report.html").read_text()
    assert "arcface" in page and "cosface" in page
    assert len((workdir / "report" / "results.csv").read_text().splitlines()) == 3


def test_train_runs_the_config_as_it_is(prepared, tmp_path):
    run(
        "train",
        f"--config={TINY}",
        "--config.margin.name=norm_softmax",
        "--config.scale=8",
        f"--workdir={tmp_path}",
        prepared=prepared,
    )
    assert list(results(tmp_path)) == ["point"]


def test_divergence_is_reported_and_fails_the_command(prepared, tmp_path):
    output = run(
        "sweep",
        f"--config={TINY}",
        "--sweep=diverging",
        f"--workdir={tmp_path}",
        prepared=prepared,
        code=1,
    )
    assert "diverged: " in output and "lower the learning rate" in output
    assert next(iter(results(tmp_path).values()))["status"] == "diverged"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(number, prepared, tmp_path):
    # Where the tests run in the background SIGINT is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = [f"--config={TINY}", "--sweep=long", f"--workdir={tmp_path}"]
    process = subprocess.Popen(
        command("sweep", *words),
        cwd=ROOT,
        env=environment(prepared),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    metrics = tmp_path / "points" / "arcface_steps300" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (metrics.exists() and metrics.read_text().count("\n") > 60):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert "the same command goes on from here" in output
    assert list(results(tmp_path)) == ["softmax_steps6"]
    output = run("sweep", *words, prepared=prepared)
    assert "softmax_steps6  finished before" in output
    assert "1 of 2 points run now" in output
    assert results(tmp_path)["arcface_steps300"]["status"] == "finished"
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 301))
