"""Files that are whole or absent, whenever the process is killed."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arcface_jax.whole_file import whole_file


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
