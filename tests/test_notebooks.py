import base64
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def sweep_dir(tmp_path):
    fixture = runpy.run_path(str(Path(__file__).parent / "experiments" / "synthetic_sweep.py"))
    return fixture["write_sweep"](tmp_path / "margins")


@pytest.fixture
def kernel_name(tmp_path, monkeypatch):
    """A kernel that is this interpreter, whatever kernels the machine has registered."""
    folder = tmp_path / "kernels" / "this_python"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "this Python", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return folder.name


@every_notebook
def test_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def executed_outputs(path, kernel_name):
    """What the cells of a notebook print and draw."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name=kernel_name,
        timeout=250,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = "".join(output.get("text", "") for output in outputs)
    images = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert len(images) == 5
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)
    return texts


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
@every_notebook
def test_notebook_shows_the_numbers_of_a_known_sweep(
    path, sweep_dir, kernel_name, importable, monkeypatch
):
    monkeypatch.setenv("ARCFACE_SWEEP_DIR", str(sweep_dir))
    texts = executed_outputs(path, kernel_name)
    assert "arcface m=0.5 s=32                       3 of 3 points finished" in texts
    # ArcFace at 20 and 100 degrees, from the paper's formula cos(theta + 0.5).
    row = next(line for line in texts.splitlines() if line.startswith("ArcFace m=0.5"))
    assert row.split()[2] == "0.6607" and row.split()[-1] == "-0.6245"


@pytest.mark.slow
@every_notebook
def test_notebook_reads_what_the_runner_writes(
    path, kernel_name, importable, monkeypatch, tmp_path
):
    config = ROOT / "tests" / "experiments" / "tiny.py"
    monkeypatch.setenv("ARCFACE_PREPARED_DIR", str(tmp_path / "prepared"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.sweep",
            f"--config={config}",
            f"--workdir={tmp_path / 'sweep'}",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=250,
    )
    monkeypatch.setenv("ARCFACE_SWEEP_DIR", str(tmp_path / "sweep"))
    texts = executed_outputs(path, kernel_name)
    assert texts.count("1 of 1 points finished") == 2
