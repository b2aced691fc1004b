"""What the entry points share: flags, config files, and errors of one line.

Imports no JAX: `run` sets what JAX reads when it is imported.
"""

import difflib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from experiments.environment import (
    keep_compiled_programs,
    keep_freed_memory,
    prefer_fast_cpu_convolutions,
)

USAGE_ERROR = 2

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: a Python file with get_config(), e.g. experiments/configs/demo.py",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The directory of the results; train and sweep create it."
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Where prepared data sets live (default: $ARCFACE_PREPARED_DIR, then ~/.cache/arcface_jax).",
)
MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "Where original archives of data sets lie (default: $ARCFACE_DATA_DIR)."
)


def config() -> ConfigDict:
    """The experiment that --config names, with the command line's overrides."""
    if _CONFIG.value is None:
        raise ValueError("--config is missing; e.g. --config=experiments/configs/demo.py")
    return _CONFIG.value


def config_path() -> str:
    """The file that --config names."""
    return config_flags.get_config_filename(flags.FLAGS["config"])


def config_module(path: str) -> ModuleType:
    """A config file as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named_workdir() -> Path:
    """The directory that --workdir names, there or not."""
    if not _WORKDIR.value:
        raise ValueError("--workdir is missing; name the directory of the results.")
    return Path(_WORKDIR.value)


def workdir() -> Path:
    """The directory that --workdir names, proved writable.

    Raises:
      ValueError: no --workdir, or one that cannot be written.
    """
    return writable("workdir", named_workdir())


def writable(flag: str, directory: Path) -> Path:
    """``directory``, which the flag of that name gave, made where it is missing.

    Raises:
      ValueError: nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--{flag}={directory} cannot be written: {error.strerror}.") from None
    return directory


def refuse_arguments(argv: list[str]) -> None:
    """Refuses words that belong to no flag."""
    if len(argv) > 1:
        raise ValueError(f"unexpected argument {argv[1]!r}; options start with --, see --help.")


def refuse_flags(*names: str) -> None:
    """Refuses flags of other entry points that this one would ignore."""
    for name in names:
        if flags.FLAGS[name].present:
            raise ValueError(f"--{name} has no effect here; see --help.")


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, or its type where it has none."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist{_neighbour(error.filename)}"
    # str() of a KeyError is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _unknown_field(argv: list[str], error: AttributeError | KeyError) -> str:
    """Names the word of the command line that sets a field the config does not have."""
    # ml_collections quotes the field once for each level of nesting.
    name, _, suggestion = one_line(error).replace("\\n", " ").strip("'\"\\").partition(" ")
    name = name.strip("'\"\\")
    word = next((w for w in argv if f".{name}" in w.split("=")[0]), f"--config…{name}")
    return f"{word}: the config has no {name}. {suggestion}".strip()


def _neighbour(path: str) -> str:
    """``; did you mean x?`` where the directory holds a file of a similar name."""
    wanted = Path(path)
    names = [entry.name for entry in wanted.parent.iterdir()] if wanted.parent.is_dir() else []
    near = difflib.get_close_matches(wanted.name, names, n=1)
    return f"; did you mean {wanted.parent / near[0]}?" if near else "."


def overridden() -> list[str]:
    """Dotted paths of the config that the command line sets."""
    return list(config_flags.get_override_values(flags.FLAGS["config"]))


def run(
    main: Callable[[list[str]], None],
    *,
    more_help: Callable[[], str] | None = None,
    resumes: bool = True,
) -> None:
    """Runs ``main`` under absl; mistakes of the user end in one line and exit code 2.

    Args:
      main: takes the words that are no flags.
      more_help: what --help prints below the entry point's docstring.
      resumes: whether the same command, stopped and run again, goes on where it was.
    """
    prefer_fast_cpu_convolutions()
    keep_freed_memory()
    keep_compiled_programs()
    if more_help is not None and any(word.startswith("--help") for word in sys.argv):
        entry = sys.modules["__main__"]
        entry.__doc__ = f"{entry.__doc__}\n{more_help()}"

    stopped_by: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt

    def stop_again(unraisable: "sys.UnraisableHookArgs") -> None:
        # Inside JAX's callback to the garbage collector an exception goes no further.
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and stopped_by:
            threading.Timer(0.05, os.kill, (os.getpid(), stopped_by[0])).start()
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = stop_again
    # What a scheduler sends before it kills.
    signal.signal(signal.SIGTERM, stop)
    # Commands in the background ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            # Orbax and TFDS would fill the screen.
            logging.set_verbosity(logging.WARNING)
        try:
            main(argv)
        except BaseException as error:
            # Extension modules that are being loaded turn the interrupt into an error of theirs.
            if stopped_by:
                again = "goes on from here" if resumes else "begins from the start"
                sys.stderr.write(f"\nstopped; the same command {again}.\n")
                sys.stderr.flush()
                # Data threads would be waited for.
                os._exit(128 + stopped_by[0])
            if isinstance(error, ValueError | OSError):
                fail(error)
            raise

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except (AttributeError, KeyError) as error:
            fail(ValueError(_unknown_field(argv, error)))
        except (flags.Error, OSError, ValueError, TypeError) as error:
            fail(error)

    app.run(guarded, flags_parser=parse)


def fail(error: BaseException, *, code: int = USAGE_ERROR) -> NoReturn:
    """Ends the process with one line that says what went wrong."""
    program = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    sys.stderr.write(f"python -m {program}: {one_line(error)}\n")
    sys.exit(code)
