"""The benchmark programs run, at sizes that measure nothing."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.backbone import check_losses

ROOT = Path(__file__).parents[1]
HEAD = ["benchmarks.head", "--batch=8", "--classes=64", "--dim=16", "--rounds=1"]
BACKBONE = ["benchmarks.backbone", "--models=resnet_small", "--batch=2", "--rounds=1"]


def table(*arguments):
    """First cells of the rows that a program prints."""
    command = [sys.executable, "-m", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    rows = [line for line in finished.stdout.splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows]


OURS = ["dense", "fused", "sampled 0.1", "sampled 0.1, gradient of its rows"]


@pytest.mark.slow
def test_heads_are_measured_without_a_peer():
    assert [row for row in table(*HEAD, "--no_pytorch") if row in OURS] == OURS


@pytest.mark.slow
@pytest.mark.peers
def test_heads_are_measured_beside_pytorch(peers_python, monkeypatch):
    monkeypatch.setenv("ARCFACE_PEERS_PYTHON", peers_python)
    assert [row for row in table(*HEAD) if row in ["PyTorch", *OURS]] == ["PyTorch", *OURS]


@pytest.mark.slow
def test_backbones_are_measured_without_a_peer():
    assert table(*BACKBONE, "--steps=embed", "--no_pytorch") == ["network", "---", "ours"]


@pytest.mark.slow
@pytest.mark.peers
def test_backbones_are_measured_beside_pytorch(peers_python, monkeypatch):
    monkeypatch.setenv("ARCFACE_PEERS_PYTHON", peers_python)
    rows = table(*BACKBONE, "--steps=embed")[2:]
    assert rows == ["ours", "PyTorch, contiguous", "PyTorch, channels_last"]


def test_backbones_that_do_not_compute_the_same_are_not_compared():
    check_losses({"ours": 1.0, "peer": 1.0005}, dtype="float32")
    with pytest.raises(RuntimeError, match="the losses differ"):
        check_losses({"ours": 1.0, "peer": 1.1}, dtype="float32")


@pytest.fixture
def lfw_weights(monkeypatch, tmp_path):
    """lfw_weights(metrics, embeddings): runs the program on made-up measurements of two images."""
    from benchmarks import lfw_weights

    (tmp_path / "reference").mkdir()
    reference = tmp_path / "reference" / "lfw150_foamliu_onnxruntime.npz"
    np.savez(reference, k=np.array(["a", "b"]), e=np.eye(2, dtype=np.float32))
    embedder = SimpleNamespace(preprocessing=None)
    network = SimpleNamespace(with_flip=lambda flip: SimpleNamespace(embedder=embedder))
    benchmark = SimpleNamespace(dataset=SimpleNamespace(ids=("b", "a")))

    def run(metrics, embeddings):
        monkeypatch.setenv("ARCFACE_DATA_DIR", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["lfw_weights"])
        monkeypatch.setattr(lfw_weights, "network_of_file", lambda path: network)
        monkeypatch.setattr(lfw_weights, "load_benchmark", lambda *_: benchmark)
        monkeypatch.setattr(lfw_weights, "evaluate", lambda *_: ({"metrics": metrics}, embeddings))
        lfw_weights.main()

    expected = {name: value for name, (value, _) in lfw_weights.EXPECTED.items()}
    run.expected = expected
    return run


def test_weights_that_agree_on_lfw_pass(lfw_weights, capsys):
    lfw_weights(lfw_weights.expected, np.array([[0.0, 2.0], [3.0, 0.0]], np.float32))
    assert "pair_accuracy               0.992500    0.992500   +0.000000" in capsys.readouterr().out


def test_weights_that_disagree_on_lfw_fail(lfw_weights):
    near = np.array([[0.0, 2.0], [3.0, 0.0]], np.float32)
    with pytest.raises(SystemExit, match="^off: pair_accuracy$"):
        lfw_weights(lfw_weights.expected | {"pair_accuracy": 0.9915}, near)
    with pytest.raises(SystemExit, match="^off: largest 1 - cos$"):
        lfw_weights(lfw_weights.expected, near + [[0.02, 0.0], [0.0, 0.0]])
