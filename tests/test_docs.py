"""The pages in docs/ say what is true, and their examples run."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import arcface_jax as af
from arcface_jax.margins import margin_table

ROOT = pathlib.Path(__file__).parents[1]
LOSSES = (ROOT / "docs/losses.md").read_text()
ADDING = (ROOT / "docs/adding_a_margin.md").read_text()


def test_the_table_of_margins_is_that_of_the_registry():
    shown = re.search(r"<!-- margins:.*?-->\n(.*?)<!-- end -->", LOSSES, re.DOTALL)
    assert shown is not None
    assert shown[1] == margin_table(), "run the command in docs/losses.md and paste its output"


def test_every_term_is_in_the_table():
    named = set(re.findall(r"^\| `(\w+)` \| `", LOSSES.split("## Terms")[1], re.MULTILINE))
    assert named == set(af.training.TERMS)


def test_every_reading_in_the_page_of_losses_can_be_constructed():
    for call in re.findall(r"`(\w+\(.*?\))`", LOSSES):
        if not call.startswith(("help", "af", "inter(", "intra(")):
            assert isinstance(eval(f"af.{call}"), af.MarginRule)  # noqa: S307


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        exec(block, names)  # noqa: S102
        assert names["losses"].shape == (8,)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The page's files, written where they can be imported."""
    files = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", ADDING, re.DOTALL)
    assert [name for name, _ in files] == [
        "growing_margin.py",
        "check_growing_margin.py",
        "growing_sweep.py",
    ]
    for name, text in files:
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    af.margins.MARGINS.pop("growing", None)
    for name, _ in files:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_margin_of_the_example_passes_every_check(example):
    margin = importlib.import_module("growing_margin").GrowingMargin()
    assert af.MARGINS["growing"]() == margin
    importlib.import_module("check_growing_margin")


@pytest.mark.slow
def test_the_sweep_of_the_example_runs(example, tmp_path):
    small = (
        "steps=4",
        "batch_size=16",
        "log_every=1",
        "schedule.warmup=1",
        "evaluation.resamples=5",
    )
    words = [f"--config.{change}" for change in small]
    words += [
        f"--config.data.options.{name}={count}"
        for name, count in (
            ("identities", 12),
            ("test_identities", 24),
            ("images_per_identity", 4),
        )
    ]
    sweep, evaluate = (
        command.split()[3:] for command in re.findall(r"PYTHONPATH=\. python.*", ADDING)
    )

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", *words, f"--data_dir={tmp_path / 'prepared'}"],
            cwd=example,
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}."},
            capture_output=True,
            text=True,
            timeout=250,
        )

    finished = run(*sweep, *words)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(list((example / "runs/growing/points").glob("*/result.json"))) == 2
    assert "1 compilations of the train step" in finished.stderr

    finished = run(*evaluate, "--resamples=0")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "rank-1" in finished.stdout
    finished = run(*(word for word in evaluate if not word.startswith("--import")))
    assert finished.returncode == 2
    assert "margin growing, which nothing here registers" in finished.stderr
    finished = run(*(f"{word}x" if word.startswith("--import") else word for word in evaluate))
    assert finished.returncode == 2
    assert "there is no module growing_marginx" in finished.stderr
