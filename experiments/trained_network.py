"""The network that --weights or --checkpoint names, with the contract of its images.

Imports no JAX: the entry points read its flags before JAX may start.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

import experiments.own_margins  # noqa: F401  # its flag

if TYPE_CHECKING:
    from arcface_jax.embedder import Embedder
    from experiments.settings import DataSettings

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "A weight file: safetensors of experiments.evaluate, PyTorch, or ONNX."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Instead of --weights: the directory of a finished point or its sweep."
)
_COLORS = flags.DEFINE_enum(
    "colors", None, ["RGB", "BGR"], "With --weights that do not say: order of the channels."
)
_MEAN = flags.DEFINE_list(
    "mean", None, "With --weights that do not say: taken from pixels in 0..255; one, or three."
)
_STD = flags.DEFINE_list("std", None, "With --weights that do not say: divides what is left.")
_POINT = flags.DEFINE_string(
    "point",
    None,
    "Which point of a sweep that --checkpoint names, by its directory's name.",
    # experiments.clean has a flag of this name, and tests import all entry points.
    allow_override=True,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network ready to embed, and where it came from.

    Attributes:
      embedder: the network with its contract.
      source: for the record: file and SHA-256, or point and step.
      data: what it was trained on, where that is known.
    """

    embedder: "Embedder"
    source: dict[str, Any]
    data: "DataSettings | None" = None

    def with_flip(self, flip: str | None) -> "TrainedNetwork":
        """The same with another use of the mirrored image; None: as the contract says.

        Impostor scores do not outlive the change: they belong to the old numbers.
        """
        from arcface_jax.embedder import Embedder

        contract = self.embedder.preprocessing
        if flip in (None, contract.flip):
            return self
        changed = dataclasses.replace(contract, flip=flip)
        embedder = Embedder(self.embedder.model, preprocessing=changed)
        return dataclasses.replace(self, embedder=embedder)


def named_network() -> TrainedNetwork:
    """The network that the command line names.

    Raises:
      ValueError: none or two are named, or what is named cannot be read.
      FileNotFoundError: nothing is there.
    """
    weights, checkpoint, point = _WEIGHTS.value, _CHECKPOINT.value, _POINT.value
    inputs = _named_inputs()
    if inputs and not weights:
        raise ValueError(
            f"--{', --'.join(inputs)} say what images a weight file wants; a checkpoint knows."
        )
    if checkpoint and not weights:
        return network_of_point(Path(checkpoint), point)
    if not weights or checkpoint:
        raise ValueError(
            "name one network: --weights=FILE, or --checkpoint=DIRECTORY of a finished point."
        )
    for flag in ("point", "import"):
        if flags.FLAGS[flag].value:
            raise ValueError(f"--{flag} has no effect with --weights; see --help.")
    return network_of_file(Path(weights), inputs)


def _named_inputs() -> dict[str, Any]:
    """Fields of the contract that the command line gives."""
    named: dict[str, Any] = {} if _COLORS.value is None else {"colors": _COLORS.value}
    for flag in (_MEAN, _STD):
        if flag.value is None:
            continue
        try:
            named[flag.name] = tuple(map(float, flag.value))
        except ValueError:
            given = ",".join(flag.value)
            raise ValueError(f"--{flag.name}={given} must be one number, or three.") from None
    return named


def network_of_file(path: Path, inputs: Mapping[str, Any] | None = None) -> TrainedNetwork:
    """The network of a weight file.

    Args:
      path: of the file.
      inputs: fields of the contract that a file without one is read with.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a directory, weights of no known kind or network, or a package that reads them is
        not installed.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a directory; a finished point is named by --checkpoint.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        from arcface_jax.convert import load

        embedder = load(path)
        if inputs:
            # Refused where the file itself says otherwise.
            contract = dataclasses.replace(embedder.preprocessing, **inputs)
            embedder = load(path, preprocessing=contract)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} needs the package {error.name} to be read; pip install 'arcface_jax[export]'."
        ) from None
    return TrainedNetwork(embedder=embedder, source={"weights": path.name, "sha256": digest})


def network_of_point(workdir: Path, name: str | None = None) -> TrainedNetwork:
    """The network that a finished point trained, from its checkpoint.

    Args:
      workdir: the point's directory, or its sweep's.
      name: which point, where the sweep has several.

    Raises:
      FileNotFoundError: no sweep there, or a point that has lost its checkpoint.
      ValueError: no such point, or one that is not finished or not understood.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from arcface_jax.embedder import Embedder
    from arcface_jax.models.blank import blank
    from experiments.finished_point import find_point, restore, saved_settings

    directory, record = find_point(workdir, name)
    settings = saved_settings(record)
    try:
        trained_on = record.run["dataset"]["train"]
        num_classes = trained_on["identities"]
    except (KeyError, TypeError):
        raise ValueError(
            f"{directory / 'run.json'} does not say how many identities were trained on; delete "
            f"{directory} and train it again."
        ) from None
    program, state = restore(
        directory,
        settings,
        num_classes=num_classes,
        # Runs that did not record it knew one aligned data set.
        aligned=trained_on.get("aligned", settings.data.name == "lfw"),
    )
    model = blank(settings.model)
    for part in (state.params, nnx.filter_state(state.rest, nnx.BatchStat)):
        # A run on several devices leaves its arrays on all of them.
        nnx.update(model, jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), part))
    return TrainedNetwork(
        embedder=Embedder(model, preprocessing=program.config.contract),
        source={"checkpoint": str(directory), "margin": record.margin, "step": int(state.step)},
        data=settings.data,
    )
