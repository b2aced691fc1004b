"""A finished point of a sweep as its run left it: settings, and the network it trained."""

from pathlib import Path

import jax

from arcface_jax.known_names import unknown_name
from arcface_jax.margins import MARGINS
from arcface_jax.training import Checkpoints, Program, TrainState
from experiments.command_line import one_line
from experiments.configs import base
from experiments.own_margins import import_own_margins
from experiments.point import program_config
from experiments.reporting.sweep_directory import Point, read_sweep
from experiments.settings import Settings, make_settings


def find_point(workdir: Path, name: str | None = None) -> tuple[Path, Point]:
    """(directory, record) of a finished point.

    Args:
      workdir: the directory given to experiments.train or experiments.sweep, or a point's own.
      name: which point, where there are several.

    Raises:
      FileNotFoundError: no sweep in ``workdir``, or a point that has lost its checkpoint.
      ValueError: no such point, several and no name, or one that is not finished.
    """
    above = workdir.absolute().parent.parent
    if not (workdir / "sweep.json").exists() and (above / "sweep.json").exists():
        inside = workdir.absolute().name
        if name not in (None, inside):
            raise ValueError(f"--point={name}: {workdir} is the directory of another point.")
        workdir, name = above, inside
    points = {point.name: point for point in read_sweep(workdir).points}
    if name is None and len(points) != 1:
        raise ValueError(f"{workdir} has {len(points)} points; choose --point={'|'.join(points)}.")
    name = next(iter(points)) if name is None else name
    if name not in points:
        raise unknown_name("point", name, points)
    point = points[name]
    if point.status != "finished":
        raise ValueError(
            f"point {name} has not finished: {point.status} ({point.reason}); run its command "
            "again, or choose another point."
        )
    directory = workdir / "points" / name
    if not (directory / "checkpoints").is_dir():
        raise FileNotFoundError(_no_checkpoint(directory))
    return directory, point


def saved_settings(point: Point) -> Settings:
    """The settings that a point ran with; fields newer than it have their defaults.

    Where this machine has fewer devices than the run had, one of them holds all the classes.

    Raises:
      ValueError: a margin or another setting that is not known here.
    """
    import_own_margins()
    for margin in (point.config.get("margin.name"), point.config.get("margin.margin")):
        if margin is not None and margin not in MARGINS:
            raise ValueError(
                f"point {point.name} has the margin {margin}, which nothing here registers; name "
                "the module that does: --import=MODULE."
            )
    # An empty dict stands where a data set has no options.
    values = {path: value for path, value in point.config.items() if value != {}}
    if values.get("head.devices", 0) > jax.device_count():
        values["head.devices"] = 1
    config = base.get_config()
    try:
        config.update_from_flattened_dict(values)
        return make_settings(config, finished=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the settings of point {point.name} are not understood: {one_line(error)}"
        ) from None


def restore(
    directory: Path, settings: Settings, *, num_classes: int, aligned: bool
) -> tuple[Program, TrainState]:
    """The program and the last state of the point in ``directory``.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: it does not fit the settings, or another version wrote it.
    """
    with Checkpoints(directory / "checkpoints", every=settings.checkpoint_every) as checkpoints:
        stored = checkpoints.preprocessing()
    # Older checkpoints do not say.
    contract = stored or settings.contract(aligned=aligned)
    program = Program(program_config(settings, num_classes=num_classes, preprocessing=contract))
    with Checkpoints(
        directory / "checkpoints", every=settings.checkpoint_every, program=program
    ) as checkpoints:
        try:
            state = checkpoints.restore(program.shapes(settings.hyper))
        except (KeyError, TypeError):
            # Orbax's message lists every array.
            raise ValueError(
                f"the checkpoint of {directory} was written by another version, whose network has "
                "other arrays; evaluate it with that version, or train it again."
            ) from None
    if state is None:
        raise FileNotFoundError(_no_checkpoint(directory))
    return program, state


def _no_checkpoint(directory: Path) -> str:
    return (
        f"{directory / 'checkpoints'} holds no checkpoint; delete {directory} and train it again."
    )
