"""Writes small made-up sweeps in the format that ``experiments.sweep`` leaves on disk."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

BASE: dict[str, Any] = {
    "margin": {"name": "arcface", "m": 0.5, "tail": "hard"},
    "scale": 32.0,
    "seed": 0,
    "steps": 400,
    "data": {"name": "synthetic_faces", "size": 32},
    "model": {"name": "small_resnet", "widths": [16, 32], "embedding_dim": 64},
}

# (margin overrides, scale, seed, TAR at FAR 1e-3, mean end theta_y in degrees, status)
POINTS = (
    ({"name": "norm_softmax"}, 32.0, 0, 0.700, 48.0, "finished"),
    ({"name": "arcface", "m": 0.5}, 32.0, 0, 0.800, 30.0, "finished"),
    ({"name": "arcface", "m": 0.5}, 32.0, 1, 0.810, 31.0, "finished"),
    ({"name": "arcface", "m": 0.5}, 32.0, 2, 0.820, 32.0, "finished"),
    ({"name": "cosface", "m": 0.35}, 32.0, 0, 0.790, 33.0, "finished"),
    ({"name": "sphereface", "m": 1.35}, 32.0, 0, 0.0, 70.0, "diverged"),
    ({"name": "combined", "m1": 0.9, "m2": 0.4, "m3": 0.15}, 32.0, 0, 0.0, 0.0, "failed"),
    ({"name": "arcface", "m": 0.5}, 64.0, 0, 0.0, 60.0, "unfinished"),
    ({"name": "cosface", "m": 0.35}, 64.0, 0, 0.0, 0.0, "not started"),
)
FAILURE = "Traceback (most recent call last):\n  ...\nValueError: m3=0.15 <b>refused</b> | here"


def write_sweep(workdir: Path, points=POINTS) -> Path:
    """Writes the sweep and returns its directory."""
    rows = []
    for index, (margin, scale, seed, *outcome) in enumerate(points):
        overrides = {f"margin.{key}": value for key, value in margin.items()}
        overrides |= {"scale": scale, "seed": seed}
        values = "_".join(f"{key}{value}" for key, value in margin.items() if key != "name")
        name = f"{margin['name']}_{values}_s{scale:g}_seed{seed}".replace("__", "_")
        rows.append({"index": index, "name": name, "overrides": overrides})
        if outcome[-1] != "not started":
            _write_point(workdir / "points" / name, margin, scale, seed, index, *outcome)
    _write_json(
        workdir / "sweep.json",
        {
            "config": BASE,
            "command": "python -m experiments.sweep --config=experiments/configs/demo.py",
            "points": rows,
            "versions": {"jax": "0.12.0", "flax": "0.12.12", "numpy": "2.3.1"},
            "git_commit": "0123456789abcdef",
            "xla_flags": "--xla_cpu_example=true",
            "device": "cpu",
            "started": "2026-11-25T09:00:00+00:00",
        },
    )
    return workdir


def _write_point(folder, margin, scale, seed, index, tar, theta, status) -> None:
    rng = np.random.default_rng(index)
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(BASE)) | {"scale": scale, "seed": seed}
    config["margin"] = {"tail": "hard", **margin}
    _write_json(folder / "config.json", config)
    if status == "failed":
        _write_json(folder / "failed.json", {"error": FAILURE})
        return
    steps = {"finished": 400, "diverged": 120, "unfinished": 200}[status]
    lines = []
    for step in range(1, steps + 1):
        decay = math.exp(-step / 130)
        loss = 18.0 * decay + 1.0 + 0.6 * decay * float(rng.normal())
        angle = theta + (90.0 - theta) * decay + float(rng.normal())
        broken = status == "diverged" and step == steps
        lines.append(
            json.dumps(
                {
                    "step": step,
                    "loss": math.nan if broken else loss,
                    "theta_target_deg": math.nan if broken else angle,
                    "images_per_second": 900.0,
                    "learning_rate": 0.1,
                    "grad_norm": 1.0,
                }
            )
        )
    text = "\n".join(lines) + "\n"
    (folder / "metrics.jsonl").write_text(text + ('{"step": 20' if status == "unfinished" else ""))
    if status == "unfinished":
        return
    run = {
        "command": "python -m experiments.sweep",
        "versions": {"jax": "0.12.0", "flax": "0.12.12", "numpy": "2.3.1"},
        "git_commit": "0123456789abcdef",
        "device": "cpu",
        "cores": 2,
        "xla_flags": "--xla_cpu_example=true",
        "started": "2026-11-25T09:00:00+00:00",
        "finished": f"2026-11-25T09:{index:02d}:30+00:00",
        "seconds": 30.5 + index,
        "compilations": {"train_step": 1},
        "dataset": {"train": {"images": 2000}, "test": {"images": 600}},
    }
    _write_json(folder / "run.json", run)
    edges = np.arange(181.0)

    def counts(mean, deviation, size=4000):
        return np.histogram(rng.normal(mean, deviation, size), edges)[0]

    np.savez(
        folder / "angles.npz",
        edges=edges,
        steps=np.array([0, steps // 2, steps]),
        theta_y_start=counts(90, 7),
        theta_y_middle=counts((90 + theta) / 2, 9),
        theta_y_end=counts(theta, 8),
        nearest_wrong_start=counts(70, 2.5),
        nearest_wrong_middle=counts(66, 4),
        nearest_wrong_end=counts(68, 5),
        pairs_genuine=counts(theta + 12, 11),
        pairs_impostor=counts(86, 8, 20000),
    )
    result: dict[str, Any] = {
        "status": status,
        "metrics": {},
        "intervals": {},
        "angles": {},
        "final_loss": 1.5 if status == "finished" else None,
        "images_per_second": 900.0,
        "compilations": {"train_step": 1},
    }
    if status == "finished":
        degrees = np.arange(0.0, 181.0, 2.0)
        shift = margin.get("m", 0.0) * (margin["name"] == "arcface")
        lowered = margin.get("m", 0.0) * (margin["name"] == "cosface")
        result["target"] = {
            "theta_deg": degrees.tolist(),
            "logit": (np.cos(np.radians(degrees) + shift) - lowered).tolist(),
        }
        result["metrics"] = {
            "tar_at_far_1e-2": tar + 0.1,
            "tar_at_far_1e-3": tar,
            "tar_at_far_1e-4": tar - 0.2,
            "eer": (1 - tar) / 10,
            "auc": 0.99,
            "rank1": tar + 0.05,
            "pair_accuracy": tar + 0.12,
            "pair_accuracy_std": 0.01,
            "tar_at_far_1e-3_max10": tar + 0.01,
        }
        result["intervals"] = {
            key: [result["metrics"][key] - 0.03, result["metrics"][key] + 0.02]
            for key in ("tar_at_far_1e-2", "tar_at_far_1e-3", "eer", "rank1")
        }
        result["angles"] = {
            "w_ec": None if margin["name"] == "norm_softmax" else theta / 3,
            "w_inter": 70.0,
            "intra_train": theta,
            "inter_train": 65.0,
            "intra_test": theta + 5,
            "inter_test": 60.0,
            "intra_test_min2": theta + 6,
        }
    _write_json(folder / "result.json", result)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
