"""Networks from and to PyTorch state dicts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from arcface_jax.convert.recognize import recognize
from arcface_jax.convert.state_dict_names import Entry, entries
from arcface_jax.convert.torch_file import read_torch_file, write_torch_file
from arcface_jax.models import BackboneConfig, configure
from arcface_jax.models.arrays import arrays_of, fill
from arcface_jax.models.blank import blank

# Where training scripts keep the backbone's state dict among other things.
_INSIDE = ("state_dict_backbone", "state_dict", "model_state_dict", "model", "backbone")
_PREFIXES = ("module.", "model.", "backbone.", "features.module.", "_orig_mod.")
_SHOWN = 8


def load_torch(
    path: str | os.PathLike[str], *, model: str | BackboneConfig | nnx.Module | None = None
) -> Any:
    """A backbone with the weights of a PyTorch file, read without PyTorch and without running code.

    Both containers of ``torch.save`` are read (ZIP and the older one); of a training script's
    checkpoint the backbone alone. Prefixes such as ``module.`` are taken off.

    Args:
      path: a state dict of arcface_torch's IResNet, MobileFaceNet or ViT, or of the 128-d
        MobileFaceNet.
      model: a registered name, a config, or a network to fill (its parameters and statistics are
        replaced in place). None recognises the network by names and shapes.

    Returns:
      The network, in training mode; ``flax.nnx.view(net, use_running_average=True,
      deterministic=True)`` evaluates. What images it wants: `arcface_jax.convert.usual_inputs`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file, one with code in it, or names or shapes that do not match the
        model's (both sides are listed).
    """
    return from_state_dict(state_dict_of(read_torch_file(path), path), model=model, source=path)


def from_state_dict(
    arrays: Mapping[str, Any],
    *,
    model: str | BackboneConfig | nnx.Module | None = None,
    source: str | os.PathLike[str] = "the state dict",
) -> Any:
    """A backbone with these arrays, named and laid out as in PyTorch; see `load_torch`.

    Raises:
      ValueError: names or shapes that do not match (both sides are listed).

    >>> from arcface_jax.models import create
    >>> net = create("resnet_small", rngs=nnx.Rngs(0))
    >>> again = from_state_dict(to_state_dict(net))
    >>> bool((again.fc.kernel[...] == net.fc.kernel[...]).all())
    True
    """
    given = None if isinstance(model, str | BackboneConfig | None) else model
    try:
        config = _config(model, arrays)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    net = blank(config) if given is None else given
    pairs = list(entries(config))
    _check(arrays, pairs, arrays_of(net), source=source)
    fill(
        net,
        {
            entry.path: np.ascontiguousarray(entry.to_jax(np.asarray(arrays[entry.key])))
            for entry in pairs
            if entry.path is not None
        },
    )
    return net


def to_state_dict(model: Any) -> dict[str, np.ndarray]:
    """The network's arrays, named and laid out as its PyTorch counterpart wants them.

    Raises:
      ValueError: no counterpart is known.
    """
    state = arrays_of(model)
    arrays = {}
    for entry in entries(model.config):
        if entry.path is not None:
            value = np.asarray(entry.to_torch(np.asarray(state[entry.path][...])))
        elif entry.channels:
            value = np.full(entry.channels, entry.constant, np.float32)
        else:
            value = np.asarray(entry.constant, np.int64)
        arrays[entry.key] = np.ascontiguousarray(value) if value.ndim else value
    return arrays


def save_torch(model: Any, path: str | os.PathLike[str]) -> None:
    """Writes the network as a state dict that ``torch.load(path, weights_only=True)`` reads.

    Raises:
      ValueError: no PyTorch counterpart is known.
    """
    write_torch_file(path, to_state_dict(model))


def state_dict_of(stored: Any, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The backbone's arrays in what a PyTorch file holds, without prefixes.

    Raises:
      ValueError: no state dict in it.

    >>> state_dict_of({"state_dict": {"module.fc.weight": np.ones(1)}}, "x.pt")
    {'fc.weight': array([1.])}
    """
    for name in _INSIDE:
        if isinstance(stored, Mapping) and isinstance(stored.get(name), Mapping):
            stored = stored[name]
    is_arrays = isinstance(stored, Mapping) and any(
        isinstance(value, np.ndarray) for value in stored.values()
    )
    if not is_arrays:
        held = sorted(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
        raise ValueError(
            f"{Path(path).name} holds no state dict of a backbone; it holds {held}. Save "
            "model.state_dict() of the backbone."
        )
    arrays = {str(key): value for key, value in stored.items() if isinstance(value, np.ndarray)}
    while True:
        shared = next((p for p in _PREFIXES if all(key.startswith(p) for key in arrays)), None)
        if shared is None:
            return arrays
        arrays = {key.removeprefix(shared): value for key, value in arrays.items()}


def _config(model: Any, arrays: Mapping[str, Any]) -> BackboneConfig:
    if model is None:
        return recognize(arrays)
    if isinstance(model, str):
        return configure(model)
    return model if isinstance(model, BackboneConfig) else model.config


def _check(
    arrays: Mapping[str, Any],
    pairs: list[Entry],
    state: Mapping[Any, Any],
    *,
    source: str | os.PathLike[str],
) -> None:
    """Refuses names on one side only, other shapes, and a frozen gamma that is not 1."""
    wanted = {entry.key: entry for entry in pairs}
    # Counters of batches are of no use, and older files lack them.
    missing = [key for key, e in wanted.items() if key not in arrays and (e.path or e.channels)]
    unknown = [key for key in arrays if key not in wanted]
    shapes, gamma = [], []
    for key, entry in wanted.items():
        if key not in arrays:
            continue
        there = arrays[key].shape
        if entry.path is None:
            if entry.channels and not (
                there == (entry.channels,) and (arrays[key] == entry.constant).all()
            ):
                gamma.append(key)
            continue
        here = jax.eval_shape(entry.to_torch, state[entry.path][...]).shape
        if there != here:
            shapes.append(f"{key} {list(there)}, the model's {list(here)}")
    problems = []
    if missing:
        problems.append(f"the file lacks {_few(missing)}")
    if unknown:
        problems.append(f"the model lacks {_few(unknown)}")
    if shapes:
        problems.append(f"shapes differ: {_few(shapes)}")
    if gamma:
        problems.append(
            f"{_few(gamma)} is not all ones, and the model fixes it; create the model with "
            "output_gamma=True"
        )
    if problems:
        raise ValueError(f"{source} does not fit the model: {'; '.join(problems)}.")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} ({len(names)})" if more else ", ".join(names)
