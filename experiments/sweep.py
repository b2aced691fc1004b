"""Runs the points of a sweep one after the other, or one of them.

Command   python -m experiments.sweep --config=experiments/configs/demo.py --workdir=runs/demo
Options   --config.steps=50        any value of the config, by its dotted path
          --sweep=search           another generator of the config file: sweep_search
          --index=3                one point only, for array jobs
          --launcher=slurm         every point a job of its own (needs the extra "slurm")
Writes    WORKDIR/sweep.json and WORKDIR/points/NAME/, read by experiments.report

A point that is finished is not run again; a killed sweep goes on where it was. The same command
started twice shares the points: none is run by two processes.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments import command_line
from experiments.dotted_paths import flatten

_SWEEP = flags.DEFINE_string("sweep", "", "Which sweep of the config file: sweep_NAME; '': sweep.")
_INDEX = flags.DEFINE_integer("index", None, "Run this point only (0 is the first).")
_LAUNCHER = flags.DEFINE_enum("launcher", "local", ["local", "slurm"], "Where points run.")
_SLURM = flags.DEFINE_multi_string(
    "slurm", [], "Options of --launcher=slurm as NAME=VALUE, e.g. --slurm=slurm_partition=gpu."
)


def find_sweep(path: str, name: str) -> Iterator[dict[str, Any]]:
    """The override dicts of a config file's sweep.

    Raises:
      ValueError: the file has no such sweep; those that it has are named.
    """
    module = command_line.config_module(path)
    function = f"sweep_{name}" if name else "sweep"
    if not hasattr(module, function):
        has = [key for key in vars(module) if key == "sweep" or key.startswith("sweep_")]
        raise ValueError(f"{path} has no {function}(); it has {', '.join(has) or 'none'}.")
    return getattr(module, function)()


def point_names(sweep: list[dict[str, Any]]) -> list[str]:
    """Unique directory names that say what differs between the points.

    >>> point_names([{"margin.name": "softmax"}, {"margin.name": "arcface", "scale": 32.0}])
    ['softmax', 'arcface_scale32']
    >>> point_names([{}])
    ['point']
    """
    same = {
        key
        for key in sweep[0]
        if len(sweep) > 1 and all(key in point and point[key] == sweep[0][key] for point in sweep)
    }
    names = []
    for point in sweep:
        parts = []
        for path, value in point.items():
            if path in same:
                continue
            name = path.split(".")[-1]
            text = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(text if path == "margin.name" else f"{name}{text}")
        names.append(re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)) or "point")
    return [
        name if names.count(name) == 1 else f"{name}_{names[:i].count(name)}"
        for i, name in enumerate(names)
    ]


def resolve(config: ConfigDict, overrides: dict[str, Any]) -> ConfigDict:
    """A copy of ``config`` with the overrides set by their dotted paths.

    Raises:
      ValueError: a path that the config does not have, or a value of another type.
    """
    resolved = config.copy_and_resolve_references()
    try:
        resolved.update_from_flattened_dict(overrides)
    except (AttributeError, KeyError, TypeError) as error:
        from arcface_jax.known_names import nearest

        known = flatten(config.to_dict())
        unknown = [path for path in overrides if path not in known]
        hint = nearest(unknown[0], known) if unknown else ""
        raise ValueError(
            f"the sweep sets {overrides}: {command_line.one_line(error)}{hint}"
        ) from None
    return resolved


def run_sweep(
    config: ConfigDict,
    overrides: list[dict[str, Any]],
    workdir: Path,
    *,
    index: int | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> bool:
    """Runs what is not finished; returns whether every point run or found is finished.

    Raises:
      ValueError: before anything runs: a setting out of range, a workdir of another sweep.
    """
    from experiments.files import claim, write_json
    from experiments.images import load_images
    from experiments.point import Programs, run_point
    from experiments.provenance import now, provenance
    from experiments.settings import make_settings

    resolved = [resolve(config, point) for point in overrides]
    names = point_names(overrides)
    settings = []
    for name, point in zip(names, resolved, strict=True):
        try:
            settings.append(make_settings(point))
        except ValueError as error:
            raise ValueError(f"point {name}: {error}") from None
    chosen = range(len(names)) if index is None else [index]
    if index is not None and not 0 <= index < len(names):
        raise ValueError(f"--index={index}: the sweep has points 0 to {len(names) - 1}.")
    points = workdir / "points"
    _refuse_other_configs(points, names, resolved)
    points.mkdir(parents=True, exist_ok=True)
    if index is None or not (workdir / "sweep.json").exists():
        described = [
            {"index": i, "name": name, "overrides": point}
            for i, (name, point) in enumerate(zip(names, overrides, strict=True))
        ]
        record = {"config": config.to_dict(), "points": described, **provenance(), "started": now()}
        write_json(workdir / "sweep.json", record)

    programs = Programs()
    complete = True
    ran = 0
    for i in chosen:
        directory = points / names[i]
        title = f"[{i + 1}/{len(names)}] {names[i]}"
        with claim(directory) as ours:
            if not ours:
                print(f"{title}  is being run by another process", file=sys.stderr)
                complete = False
                continue
            if (directory / "result.json").exists():
                print(f"{title}  finished before", file=sys.stderr)
                continue
            (directory / "failed.json").unlink(missing_ok=True)
            images = load_images(settings[i].data, data_dir=data_dir, manual_dir=manual_dir)
            try:
                result = run_point(
                    settings[i],
                    json.loads(resolved[i].to_json()),
                    directory,
                    images=images,
                    programs=programs,
                    title=title,
                    manual_dir=manual_dir,
                )
            except Exception as error:
                write_json(directory / "failed.json", {"error": command_line.one_line(error)})
                if not isinstance(error, ValueError | OSError):
                    raise
                print(f"{title}  failed: {command_line.one_line(error)}", file=sys.stderr)
                complete = False
                continue
        ran += 1
        complete &= result["status"] == "finished"
        print(f"{title}  {_summary(result)}", file=sys.stderr)
    print(
        f"{ran} of {len(names)} points run now, {programs.train_step_compilations} compilations of "
        f"the train step; report: python -m experiments.report --workdir={workdir}",
        file=sys.stderr,
    )
    return complete


def _refuse_other_configs(points: Path, names: list[str], resolved: list[ConfigDict]) -> None:
    """Refuses to mix results of different configs in one directory."""
    for name, config in zip(names, resolved, strict=True):
        path = points / name / "config.json"
        if not path.exists():
            continue
        before, now = (flatten(json.loads(text)) for text in (path.read_text(), config.to_json()))
        # A field that is newer than the results had its default then.
        for key in sorted(before.keys() & now.keys()):
            if before[key] != now[key]:
                raise ValueError(
                    f"{path.parent} was run with {key}={before[key]}, now it is "
                    f"{now[key]}; take another --workdir, or delete that directory."
                )


def _summary(result: dict[str, Any]) -> str:
    if result["status"] != "finished":
        return f"{result['status']}: {result.get('reason', '')}"
    metrics = result["metrics"]
    shown = {
        "TAR@1e-3": metrics.get("tar_at_far_1e-3"),
        "EER": metrics.get("eer"),
        "rank-1": metrics.get("rank1"),
        "pairs": metrics.get("pair_accuracy"),
    }
    return "  ".join(f"{name} {100 * v:.2f} %" for name, v in shown.items() if v is not None)


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_arguments(argv)
    workdir = command_line.workdir()
    config = command_line.config()
    overrides = list(find_sweep(command_line.config_path(), _SWEEP.value))
    if not overrides:
        raise ValueError(f"the sweep of {command_line.config_path()} has no points.")
    for path in command_line.overridden():
        if all(path in point for point in overrides):
            raise ValueError(
                f"--config.{path} has no effect: every point of the sweep sets {path}; change the "
                "sweep, or run one point with experiments.train."
            )
    if _LAUNCHER.value == "slurm" and _INDEX.value is None:
        from experiments.slurm import submit

        submit(len(overrides), workdir=workdir, options=_SLURM.value)
        return
    complete = run_sweep(
        config,
        overrides,
        workdir,
        index=_INDEX.value,
        data_dir=command_line.DATA_DIR.value,
        manual_dir=command_line.MANUAL_DIR.value,
    )
    if not complete:
        sys.exit(1)


if __name__ == "__main__":
    from experiments.margin_fields import margins_help

    command_line.run(main, more_help=margins_help)
