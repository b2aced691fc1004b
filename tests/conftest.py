import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from experiments.environment import prefer_fast_cpu_convolutions

# Before JAX starts its backend. Most of the tests' time is LLVM's, on functions that run once.
prefer_fast_cpu_convolutions()
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

# What one worker or one command compiles, the others read.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="arcface_jax_xla_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Grain's worker processes read absl's flags, which only absl.app.run would parse.
flags.FLAGS.mark_as_parsed()

ROOT = Path(__file__).parents[1]

RUN_PEER = """
import runpy, sys
import numpy as np
with np.load(sys.argv[2]) as stored:
    inputs = dict(stored)
outputs = {}
runpy.run_path(sys.argv[1], init_globals={"inputs": inputs, "outputs": outputs})
np.savez(sys.argv[3], **outputs)
"""


def pytest_addoption(parser):
    """Options of `make repro`."""
    parser.addoption(
        "--whole-cross", action="store_true", help="every head with every margin at every size"
    )


def pytest_collection_modifyitems(config, items):
    """Leaves the whole cross out of the usual run."""
    if not config.getoption("--whole-cross"):
        left_out = [item for item in items if item.get_closest_marker("whole_cross")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def strict_dtypes():
    """No implicit promotion of types, for the library's own maths; optax does not bear it."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_dir():
    """The directory of real data that ARCFACE_DATA_DIR names."""
    named = os.environ.get("ARCFACE_DATA_DIR")
    if not named:
        pytest.skip("needs real data: ARCFACE_DATA_DIR names no directory")
    directory = Path(named)
    assert directory.is_dir(), f"ARCFACE_DATA_DIR={named} is not a directory"
    return directory


@pytest.fixture(scope="session")
def peers_python():
    """The interpreter that has PyTorch and the other peers."""
    named = os.environ.get("ARCFACE_PEERS_PYTHON")
    if named:
        assert os.access(named, os.X_OK), f"ARCFACE_PEERS_PYTHON={named} is not an interpreter"
        return named
    if not (ROOT / ".venv-peers" / "installed").exists():
        pytest.skip("needs the peers: run `make peers`, or set ARCFACE_PEERS_PYTHON")
    return str(ROOT / ".venv-peers" / "bin" / "python")


@pytest.fixture
def peers(peers_python, tmp_path):
    """peers(script, **arrays): what the script put into ``outputs``, as a dict of arrays.

    The script is Python text that finds the arrays in the dict ``inputs``.
    """

    def run(script, **arrays):
        path, given, answer = (tmp_path / f"peer{end}" for end in (".py", "_in.npz", "_out.npz"))
        path.write_text(script)
        np.savez(given, **arrays)
        # -I: neither this checkout nor PYTHONPATH is visible to the peer.
        command = [peers_python, "-I", "-c", RUN_PEER, path, given, answer]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert finished.returncode == 0, f"the peer failed:\n{finished.stderr}"
        with np.load(answer) as stored:
            return dict(stored)

    return run
