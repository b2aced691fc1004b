"""A sweep as array jobs, run by submitit as subprocesses."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import slurm

ROOT = pathlib.Path(__file__).parents[2]
TINY = pathlib.Path(__file__).parent / "tiny.py"

# A process of its own, as on a login node: submitit hands sys.argv on to the jobs.
SUBMIT = """
import pathlib, sys
from experiments import slurm
workdir = pathlib.Path(sys.argv[2].removeprefix("--workdir="))
jobs = slurm.submit(2, workdir=workdir, options=["timeout_min=5"], cluster="local")
for job in jobs:
    job.result()
"""


@pytest.mark.slow
def test_every_point_runs_as_a_job_of_its_own(tmp_path):
    workdir = tmp_path / "sweep"
    words = [f"--config={TINY}", f"--workdir={workdir}", "--launcher=slurm"]
    submitted = subprocess.run(
        [sys.executable, "-c", SUBMIT, *words],
        cwd=ROOT,
        env=os.environ | {"ARCFACE_PREPARED_DIR": str(tmp_path / "prepared")},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout.count("point") == 2
    results = sorted(workdir.glob("points/*/result.json"))
    assert [json.loads(path.read_text())["status"] for path in results] == ["finished"] * 2


def test_an_option_without_a_value_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not NAME=VALUE"):
        slurm.submit(1, workdir=tmp_path, options=["gpu"], cluster="local")
