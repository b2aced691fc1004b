"""Files that are whole or absent, whenever the process is killed."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_json(path: Path, value: Any) -> None:
    """``value`` as JSON at ``path``, in one step."""
    with _partial(path).open("w") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")
    os.replace(_partial(path), path)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Named arrays as .npz at ``path``, in one step."""
    with _partial(path).open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(_partial(path), path)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
