import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(MAKE is None, reason="needs make")

# Passes every check, makes an environment out of itself, and notes what pip is asked for.
GOOD_PYTHON = """#!/bin/sh
case "$*" in
  *' -m venv '*|'-m venv '*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  '-m pip '*) echo "$*" >> pip.log ;;
esac
"""
# What a pyenv shim does when its version is not selected.
SHIM = "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"


@pytest.fixture
def checkout(tmp_path):
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("cp", "mkdir"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def put_python(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder


def run_make(checkout, *targets, path):
    search = os.pathsep.join(map(str, [*path, checkout / "tools"]))
    return subprocess.run(
        [str(MAKE), "--directory", checkout, "--no-print-directory", *targets],
        capture_output=True,
        text=True,
        env={"PATH": search},
        timeout=60,
    )


def test_help_lists_every_target_and_is_the_default(checkout):
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    listed = run_make(checkout, path=[])
    assert listed.returncode == 0
    assert re.findall(r"^make (\w+)", listed.stdout, re.MULTILINE) == phony[1].split()[1:]
    assert listed.stdout == run_make(checkout, "help", path=[]).stdout


@pytest.mark.parametrize("target", ["install", "test", "lint", "demo", "repro"])
def test_without_a_python_it_says_what_to_install(checkout, target):
    shims = put_python(checkout / "shims", "python3.12", SHIM)
    failed = run_make(checkout, target, path=[shims])
    assert failed.returncode == 2
    assert "No Python 3.12, 3.13 or 3.14" in failed.stderr
    assert "apt install python3 python3-venv" in failed.stderr
    assert not (checkout / ".venv").exists()


def test_without_a_python_for_the_peers_it_says_what_to_install(checkout):
    failed = run_make(checkout, "peers", path=[])
    assert failed.returncode == 2
    assert "ARCFACE_PEERS_PYTHON" in failed.stderr


@pytest.mark.parametrize("name", ["python3", "python3.12", "python3.13", "python3.14"])
def test_a_python_behind_shims_is_found(checkout, name):
    shims = checkout / "shims"
    for shim in ("python3", "python3.12", "python3.13", "python3.14"):
        put_python(shims, shim, SHIM)
    good = put_python(checkout / "my programs", name, GOOD_PYTHON)
    made = run_make(checkout, "install", path=[shims, good])
    assert made.returncode == 0, made.stderr
    assert f"my programs/{name}" in made.stdout


def test_it_installs_again_only_when_the_requirements_change(checkout):
    good = put_python(checkout / "bin", "python3", GOOD_PYTHON)
    log = checkout / "pip.log"
    for _ in range(2):
        assert run_make(checkout, "install", path=[good]).returncode == 0
        assert log.read_text() == "-m pip install --quiet -e .[test,report,jpeg,export]\n"
    stamp = (checkout / ".venv" / "installed").stat()
    later = stamp.st_mtime_ns + 1_000_000_000
    os.utime(checkout / "setup.cfg", ns=(later, later))
    assert run_make(checkout, "install", path=[good]).returncode == 0
    assert len(log.read_text().splitlines()) == 2
