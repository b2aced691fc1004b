"""Files that are whole or absent, whenever the process is killed."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np


def write_json(path: Path, value: Any) -> None:
    """``value`` as JSON at ``path``, in one step."""
    with whole_file(path, "w") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Named arrays as .npz at ``path``, in one step."""
    with whole_file(path, "wb") as file:
        np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    """A file that takes its place at ``path`` when the block ends without an error."""
    partial = path.with_name(path.name + ".partial")
    with partial.open(mode, encoding="utf-8" if mode == "w" else None) as file:
        yield file
    os.replace(partial, path)


@contextlib.contextmanager
def claim(directory: Path) -> Iterator[bool]:
    """Whether ``directory`` is this process's own while the block runs, and no other's.

    The claim ends with the process, however it ends, so nothing is left to clean up by hand.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
