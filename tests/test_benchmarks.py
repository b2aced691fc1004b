"""The benchmark programs run, at sizes that measure nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ["--batch=8", "--classes=64", "--dim=16", "--rounds=1"]


def table(*arguments):
    """First cells of the rows that benchmarks.head prints."""
    command = [sys.executable, "-m", "benchmarks.head", *TINY, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    rows = [line for line in finished.stdout.splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows]


OURS = ["dense", "fused", "sampled 0.1", "sampled 0.1, gradient of its rows"]


@pytest.mark.slow
def test_heads_are_measured_without_a_peer():
    assert [row for row in table("--no_pytorch") if row in OURS] == OURS


@pytest.mark.slow
@pytest.mark.peers
def test_heads_are_measured_beside_pytorch(peers_python, monkeypatch):
    monkeypatch.setenv("ARCFACE_PEERS_PYTHON", peers_python)
    assert [row for row in table() if row in ["PyTorch", *OURS]] == ["PyTorch", *OURS]
