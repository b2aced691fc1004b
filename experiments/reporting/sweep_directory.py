"""Reads what a sweep left on disk: its points, finished or not, and what they measured."""

import errno
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.dotted_paths import flatten


class SweepError(ValueError):
    """A damaged file of a sweep; the message is one line and names the file."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a sweep as found on disk.

    Attributes:
      name: directory name below ``points/``.
      overrides: dotted config path -> value, what distinguishes the point from the base config.
      config: the resolved config, flat, dotted path -> value.
      status: "finished", "diverged", "failed", "unfinished" or "not started".
      reason: why the status is not "finished"; empty otherwise.
      metrics: metric -> value, as fractions.
      intervals: metric -> (low, high), bootstrap over the identities.
      angles: name -> degrees, None where the loss has no class centres.
      target: (theta_deg, target cosine) of the point's margin, or None.
      history: metrics.jsonl by column, float[steps] each, NaN where a row lacks the key.
      histograms: arrays of angles.npz, or empty.
      run: run.json, or empty.
      result: result.json, or empty.
    """

    name: str
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    status: str
    reason: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    angles: Mapping[str, float | None]
    target: tuple[np.ndarray, np.ndarray] | None
    history: Mapping[str, np.ndarray]
    histograms: Mapping[str, np.ndarray]
    run: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def margin(self) -> str:
        """Name of the point's margin."""
        return str(self.config.get("margin.name", self.overrides.get("margin.name", "margin")))

    @property
    def seed(self) -> Any:
        """Seed of the point, None if the config has none."""
        return self.overrides.get("seed", self.config.get("seed"))

    @property
    def train_step_compilations(self) -> float | None:
        """How often the train step was compiled, None where that is not recorded."""
        found = self.result.get("compilations") or self.run.get("compilations")
        return finite_number(found.get("train_step") if isinstance(found, dict) else found)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as found on disk: what ``sweep.json`` says, and its points in their order."""

    name: str
    config: Mapping[str, Any]
    info: Mapping[str, Any]
    points: tuple[Point, ...]


def read_sweep(workdir: str | Path) -> Sweep:
    """The sweep in ``workdir``, finished or not.

    Args:
      workdir: the directory given to ``experiments.sweep``.

    Raises:
      FileNotFoundError: no such directory, or no sweep in it.
      SweepError: a file of the sweep is damaged (it is named).
    """
    workdir = Path(workdir)
    if not workdir.exists():
        raise FileNotFoundError(errno.ENOENT, "No such sweep directory", str(workdir))
    path = workdir / "sweep.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{workdir} is no sweep: it has no sweep.json; name the directory given to "
            "experiments.sweep."
        )
    info = _read_object(path)
    rows = _get(path, info, "points", list)
    base = _get(path, info, "config", dict)
    points = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise SweepError(f'{path}: every entry of "points" needs a "name", got {row!r:.80}.')
        points.append(_read_point(workdir / "points" / row["name"], row, base))
    return Sweep(name=workdir.resolve().name, config=base, info=info, points=tuple(points))


def _read_point(folder: Path, row: Mapping[str, Any], base: Mapping[str, Any]) -> Point:
    optional = {
        name: _read_object(folder / f"{name}.json") if (folder / f"{name}.json").is_file() else {}
        for name in ("config", "run", "result", "failed")
    }
    overrides = row.get("overrides") or {}
    history = _read_history(folder / "metrics.jsonl")
    result_path, result = folder / "result.json", optional["result"]
    if result_path.is_file() and result.get("status") not in ("finished", "diverged"):
        raise SweepError(
            f'{result_path}: "status" must be "finished" or "diverged", got '
            f"{result.get('status')!r}; delete the file and run the sweep again to redo the point."
        )
    status, reason = _status(folder, optional, history)
    target = result.get("target")
    try:
        curve = (
            (np.asarray(target["theta_deg"], float), np.asarray(target["logit"], float))
            if target
            else None
        )
        intervals = {
            key: (float(low), float(high))
            for key, (low, high) in (result.get("intervals") or {}).items()
        }
        metrics = _numbers(result.get("metrics") or {})
        angles = {
            key: None if value is None else float(value)
            for key, value in (result.get("angles") or {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SweepError(
            f"{result_path}: a value is missing or of the wrong kind "
            f"({type(error).__name__}: {error})."
        ) from error
    return Point(
        name=row["name"],
        overrides=overrides,
        config=flatten(optional["config"] or base) | ({} if optional["config"] else overrides),
        status=status,
        reason=reason,
        metrics=metrics,
        intervals=intervals,
        angles=angles,
        target=curve,
        history=history,
        histograms=_read_histograms(folder / "angles.npz"),
        run=optional["run"],
        result=result,
    )


def _status(
    folder: Path, files: Mapping[str, Mapping[str, Any]], history: Mapping[str, np.ndarray]
) -> tuple[str, str]:
    steps = history.get("step", np.zeros(0))
    reached = f"at step {steps[-1]:.0f}" if steps.size else "before the first step was written"
    result, failed = files["result"], files["failed"]
    if result.get("status") == "finished":
        return "finished", ""
    if result:
        said = result.get("reason") or result.get("error")
        return "diverged", str(said or f"the loss stopped being finite {reached}")
    if failed:
        lines = str(failed.get("error", "")).strip().splitlines() or ["no message"]
        # The last line of a traceback is the error itself.
        return "failed", lines[-1] if lines[0].startswith("Traceback") else lines[0]
    if folder.is_dir():
        return "unfinished", f"running or interrupted {reached}"
    return "not started", "no directory yet"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SweepError(
            f"{path}: cannot be read as JSON ({error}); delete the file and run the sweep again."
        ) from error
    if not isinstance(value, dict):
        raise SweepError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value


def _get(path: Path, values: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(values.get(key), kind):
        raise SweepError(
            f'{path}: "{key}" must be a {kind.__name__}, got {type(values.get(key)).__name__}.'
        )
    return values[key]


def _read_history(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for k, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(_numbers(json.loads(line)))
        except (AttributeError, ValueError) as error:
            if k == len(lines) - 1:  # a running sweep is still writing this line
                break
            raise SweepError(f"{path}, line {k + 1}: not a JSON object ({error}).") from error
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: np.array([row.get(key, math.nan) for row in rows]) for key in keys}


def _read_histograms(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SweepError(f"{path}: cannot be read as an npz file ({error}).") from error
    bins = found["edges"].size - 1 if "edges" in found else -1
    wrong = [k for k, v in found.items() if k not in ("edges", "steps") and v.shape != (bins,)]
    if bins < 1 or wrong:
        raise SweepError(f'{path}: "edges" is missing or does not fit {", ".join(wrong) or "it"}.')
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries; JSON's null is a number that could not be had."""
    return {
        key: math.nan if value is None else float(value)
        for key, value in values.items()
        if value is None or isinstance(value, int | float)
    }


def finite_number(value: Any) -> float | None:
    """The value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
