import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.environment import keep_compiled_programs, prefer_fast_cpu_convolutions

ROOT = Path(__file__).parents[2]
FLAG = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.mark.parametrize("version", ["0.11.1", "0.11.2", "0.12.0.1", "0.12.0"])
def test_versions_that_know_the_flag_get_it(version, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    prefer_fast_cpu_convolutions()
    assert os.environ["XLA_FLAGS"] == FLAG


@pytest.mark.parametrize("version", ["0.10.2", "0.13.0", "1.0.0rc1"])
def test_other_versions_get_no_flag_that_could_end_the_process(version, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    prefer_fast_cpu_convolutions()
    assert "XLA_FLAGS" not in os.environ


FAULTS = """
import resource, sys
from experiments import environment
if sys.argv[1] == "keep":
    environment.keep_freed_memory()
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.cumsum(x @ x.T @ x, axis=1).sum())
x = jnp.ones((3000, 64))
fewest = float("inf")
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    fewest = min(fewest, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(fewest)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
def test_not_every_step_gets_memory_that_the_kernel_clears():
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "XLA_"))}

    def fewest_faults(word, **variables):
        finished = subprocess.run(
            [sys.executable, "-c", FAULTS, word],
            capture_output=True,
            text=True,
            env=env | {"PYTHONPATH": str(ROOT)} | variables,
            timeout=200,
        )
        assert finished.returncode == 0, finished.stderr
        return int(finished.stdout)

    # A product of 3000 x 3000 numbers is 36 MB, 8,789 pages.
    assert fewest_faults("leave") > 8_000
    assert fewest_faults("keep") < 1_000
    assert fewest_faults("keep", MALLOC_ARENA_MAX="8") > 8_000


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    prefer_fast_cpu_convolutions()
    keep_compiled_programs()
    assert os.environ["XLA_FLAGS"] == ""
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


def test_compiled_programs_are_kept_under_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    keep_compiled_programs()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / ".cache/arcface_jax/xla")


def test_jax_accepts_the_settings_and_is_not_imported_by_them(tmp_path):
    code = (
        "import sys\n"
        "from experiments import environment\n"
        "environment.prefer_fast_cpu_convolutions()\n"
        "environment.keep_freed_memory()\n"
        "environment.keep_compiled_programs()\n"
        "assert 'jax' not in sys.modules\n"
        "import jax\n"
        "assert float(jax.numpy.ones(3).sum()) == 3\n"
        "print(jax.config.jax_compilation_cache_dir)\n"
    )
    unset = {"XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == str(tmp_path / ".cache/arcface_jax/xla")
