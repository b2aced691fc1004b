"""Checkpoints of a run: train state and data position, written by Orbax."""

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from arcface_jax.models.preprocessing import Preprocessing
from arcface_jax.training.class_rows import ClassRows
from arcface_jax.training.program import Program
from arcface_jax.training.state import TrainState

_training: Any = ocp.training


class Checkpoints:
    """A directory of checkpoints, the newest of which a killed run goes on from.

    Args:
      directory: created if absent.
      every: steps between two checkpoints.
      keep: how many of the newest stay.
      program: whose states these are: what has a row per class is saved as `ClassRows`, for any
        number of devices, and the preprocessing contract beside them. None saves states as they
        are.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        every: int,
        keep: int = 1,
        program: Program | None = None,
    ):
        """Opens the directory; nothing is read yet."""
        if every < 1 or keep < 1:
            raise ValueError(f"every={every} and keep={keep} must be at least 1.")
        self._program = program
        self._checkpointer = _training.Checkpointer(
            pathlib.Path(directory).absolute(),
            save_decision_policy=_training.save_decision_policies.FixedIntervalPolicy(every),
            preservation_policy=_training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, state: TrainState, batches: Any, *, force: bool = False) -> bool:
        """Saves where ``step`` is due, or always with ``force``; returns whether it did."""
        if not force and not self._checkpointer.should_save(step):
            return False
        if self.latest == step:
            return False
        saved = self._parts(state)
        if self._program is not None:
            saved["preprocessing"] = self._program.config.contract.to_json()
        if hasattr(batches, "get_state"):
            saved["data"] = batches.get_state()
        return self._checkpointer.save_checkpointables(step, saved, force=force)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def restore(self, like: TrainState, batches: Any = None) -> TrainState | None:
        """The newest state, laid out like ``like``; moves ``batches`` to its place.

        ``like`` is a state or, cheaper, `Program.shapes`. Returns None where there is no
        checkpoint.

        Raises:
          ValueError: the checkpoint holds arrays of other shapes than ``like``, or its network was
            trained under another preprocessing contract.
        """
        if self.latest is None:
            return None
        if self._program is not None:
            stored, own = self.preprocessing(), self._program.config.contract
            if stored not in (None, own):
                differ = ", ".join(
                    f"{name}={value} (here {getattr(own, name)})"
                    for name, value in vars(stored).items()
                    if value != getattr(own, name)
                )
                raise ValueError(
                    f"the checkpoint's network was trained on images with {differ}; take those "
                    "settings, or begin another run."
                )
        wanted = self._parts(like)
        abstract = wanted | {
            "state": jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
                wanted["state"],
            )
        }
        if hasattr(batches, "set_state"):
            abstract["data"] = None
        loaded = self._checkpointer.load_checkpointables(abstract_checkpointables=abstract)
        if hasattr(batches, "set_state"):
            batches.set_state(loaded["data"])
        rows = loaded["classes"].arrays if "classes" in loaded else {}
        return _typed(loaded["state"] | rows, like)

    def preprocessing(self) -> Preprocessing | None:
        """The contract that the newest checkpoint's network was trained under, where it says so."""
        if self.latest is None:
            return None
        wanted = {"preprocessing": None}
        try:
            loaded = self._checkpointer.load_checkpointables(abstract_checkpointables=wanted)
        except KeyError:
            return None
        return Preprocessing.from_json(loaded["preprocessing"])

    def _parts(self, state: TrainState) -> dict[str, Any]:
        """What Orbax saves of a state, each part in its own way."""
        leaves = _plain(state)
        if self._program is None:
            return {"state": leaves}
        flags = jax.tree_util.tree_leaves_with_path(self._program.by_class(state))
        by_class = {jax.tree_util.keystr(path) for path, flag in flags if flag}
        rows = {name: leaf for name, leaf in leaves.items() if name in by_class}
        rest = {name: leaf for name, leaf in leaves.items() if name not in by_class}
        classes = self._program.config.num_classes
        return {"state": rest, "classes": ClassRows(rows, num_classes=classes)}

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpointer.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(state: TrainState) -> dict[str, jax.Array]:
    """The state's leaves under stable names, random keys as their raw numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): _raw(leaf) for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    if not _is_key(leaf):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raw = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(raw.shape, raw.dtype, sharding=leaf.sharding)
    return jax.random.key_data(leaf)


def _typed(plain: dict[str, jax.Array], like: TrainState) -> TrainState:
    def typed(path: Any, leaf: Any) -> Any:
        value = plain[jax.tree_util.keystr(path)]
        return jax.random.wrap_key_data(value) if _is_key(leaf) else value

    return jax.tree_util.tree_map_with_path(typed, like)
