"""Files that are whole or absent, whenever the process is killed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    """A file that takes its place at ``path`` when the block ends without an error.

    Until then it lies beside it under another name; an error leaves nothing of it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/x.txt", "w") as file:
    ...         _ = file.write("all of it")
    ...     os.listdir(folder)
    ['x.txt']
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open(mode, encoding="utf-8" if mode == "w" else None) as file:
            yield file
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
