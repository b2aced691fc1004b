"""A data set by its name, or from a directory of images."""

import importlib
import os
from pathlib import Path
from typing import Any

from arcface_jax.data.dataset import Dataset
from arcface_jax.known_names import nearest

DATASETS = {
    "synthetic_faces": "arcface_jax.data.synthetic_faces",
    "omniglot": "arcface_jax.data.omniglot",
    "orl": "arcface_jax.data.orl",
    "lfw": "arcface_jax.data.lfw",
}
"""Registered name -> the module whose ``load_split`` returns one split of it."""


def load(
    name_or_path: str | os.PathLike[str],
    *,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    **builder_options: Any,
) -> Dataset:
    """One split of a data set, prepared on first use; images are decoded when asked.

    Args:
      name_or_path: a registered name (``DATASETS``) or a directory with one directory of images
        for each identity. A name wins over a directory; "./lfw" means the directory.
      split: "train", "test", ...; of a directory, the directory of that name inside it, or None.
      data_dir: where prepared data sets live; default $ARCFACE_PREPARED_DIR, else
        ~/.cache/arcface_jax.
      manual_dir: where original archives lie; default $ARCFACE_DATA_DIR.
      size: output side in px. Larger images are area-averaged, so nothing aliases.
      channels: 1 or 3; default as stored.
      **builder_options: what the data set itself knows, e.g. ``identities=300`` of
        synthetic_faces or ``strict=False`` of lfw; see its module.

    Raises:
      ValueError: unknown name, split or option; damaged images.
      FileNotFoundError: original archives are missing; the message lists them.
      PermissionError: data_dir can't be written.

    >>> load("omniglott", split="train")
    Traceback (most recent call last):
    ValueError: unknown data set 'omniglott', and no such directory; known: synthetic_faces, \
omniglot, orl, lfw. Did you mean omniglot?
    """
    name = os.fspath(name_or_path)
    if name in DATASETS:
        module = importlib.import_module(DATASETS[name])
        options = {"data_dir": data_dir, "manual_dir": manual_dir, **builder_options}
        if split is None:
            raise ValueError(f'{name} has splits; say which one, e.g. split="train".')
        given = {"split": split, "size": size, "channels": channels}
        known = module.load_split.__kwdefaults__.keys() | {"split"}
        for option in builder_options:
            if option not in known:
                raise ValueError(
                    f"{name} has no option {option!r}; known: {', '.join(sorted(known))}."
                    f"{nearest(option, known)}"
                )
        return module.load_split(**options, **given)
    directory = Path(name).expanduser()
    if directory.is_dir():
        return _load_directory(directory, split, size, channels, builder_options)
    raise ValueError(
        f"unknown data set {name!r}, and no such directory; known: {', '.join(DATASETS)}."
        f"{nearest(name, DATASETS)}"
    )


def _load_directory(directory: Path, split: str | None, size, channels, options) -> Dataset:
    from arcface_jax.data.folder import load_folder

    if options:
        raise ValueError(
            f"a directory of images takes no option {next(iter(options))!r}; known: size, channels."
        )
    if split not in (None, "all"):
        if not (directory / split).is_dir():
            raise ValueError(
                f"{directory} has no directory {split!r}; split names one inside it. To use all of "
                "it leave split out, and cut it with hold_out."
            )
        directory = directory / split
    return load_folder(directory, size=size, channels=channels)
