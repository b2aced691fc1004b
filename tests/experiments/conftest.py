import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from arcface_jax import convert
from arcface_jax.embedder import Embedder
from arcface_jax.models import IResNetConfig, Preprocessing
from experiments import report
from experiments.reporting import composition, pictures

_write_sweep = runpy.run_path(str(Path(__file__).with_name("synthetic_sweep.py")))["write_sweep"]


@pytest.fixture(scope="session")
def write_sweep():
    """write_sweep(workdir, points): writes a made-up sweep, returns its directory."""
    return _write_sweep


@pytest.fixture(scope="session")
def sweep_dir(tmp_path_factory):
    """A made-up sweep with its report, not to be changed."""
    workdir = _write_sweep(tmp_path_factory.mktemp("sweep") / "margins")
    report.write_report(workdir)
    return workdir


@pytest.fixture(scope="session")
def page(sweep_dir):
    return (sweep_dir / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def markdown(sweep_dir):
    return (sweep_dir / "report" / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def fresh_dir(tmp_path):
    """The same sweep without a report, to be changed."""
    return _write_sweep(tmp_path / "margins")


@pytest.fixture
def no_figures(monkeypatch):
    """For tests of text and numbers: drawing is the slow part of a report."""
    drawn = dict.fromkeys(pictures.FIGURES, "not drawn")
    monkeypatch.setattr(composition, "pictures", lambda _: drawn)


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def entry_point():
    """entry_point(module, *words, code=0): python -m experiments.module as it finished."""

    def run(module, *words, code=0):
        finished = subprocess.run(
            [sys.executable, "-m", f"experiments.{module}", *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert finished.returncode == code, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        return finished

    return run


@pytest.fixture(scope="session")
def help_of(entry_point):
    """help_of(module): (what its docstring says, the flags that --help lists)."""

    def read(module):
        head, _, rest = entry_point(module, "--help", code=1).stdout.partition("\nflags:\n")
        return head, set(re.findall(r"^  --(?:\[no\])?(\w+):", rest, re.MULTILINE))

    return read


@pytest.fixture(scope="session")
def small_embedder():
    """small_embedder(**contract): a small network for 16 px as it was drawn."""

    def make(*, channels=3, **contract):
        config = IResNetConfig(
            depths=(1, 1), widths=(4, 8), embedding_dim=8, image_size=16, channels=channels
        )
        net = config.build(rngs=nnx.Rngs(0))
        return Embedder(net, preprocessing=Preprocessing.for_model(config, **contract))

    return make


@pytest.fixture(scope="session")
def small_weights(small_embedder, tmp_path_factory):
    """small_weights(**contract): the file of that network."""
    directory = tmp_path_factory.mktemp("weights")

    def make(*, impostors=None, name="small", **contract):
        embedder = small_embedder(**contract)
        embedder.impostors = impostors
        path = directory / f"{name}.safetensors"
        convert.save(embedder, path)
        return path

    return make


@pytest.fixture
def noise():
    """noise(*shape): random pixels, uint8."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.integers(0, 256, shape, np.uint8)
