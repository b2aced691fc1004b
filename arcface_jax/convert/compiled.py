"""Networks as portable compiled programs of JAX, for serving."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from arcface_jax.embedder import Embedder
from arcface_jax.whole_file import whole_file

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_jax(
    embedder: Embedder, path: str | os.PathLike[str], *, platforms: Sequence[str] = PLATFORMS
) -> None:
    """Writes a program that takes uint8 images of any number and gives their embeddings.

    The contract (normalisation, mirrored image) and the weights are inside. JAX reads such a
    program for some months after the version that wrote it; for keeping, `save` the weights.

    Args:
      embedder: the network.
      path: of the file.
      platforms: that it is compiled for.

    Raises:
      ValueError: an unknown platform.
    """
    fixed = nnx.view(embedder.model, use_running_average=True, deterministic=True)
    contract = embedder.preprocessing
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct(
        (batch, contract.size, contract.size, contract.channels), jnp.uint8
    )
    program = jax.jit(lambda images: contract.embed(fixed, images))
    made = export.export(program, platforms=list(platforms))(images)
    with whole_file(path, "wb") as file:
        file.write(made.serialize())


def load_jax(path: str | os.PathLike[str]) -> Callable[[Any], jax.Array]:
    """The program that `export_jax` wrote: uint8[N, size, size, c] -> float32[N, D].

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a program, or one that this version of JAX no longer reads.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no exported program {path}.")
    try:
        return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    except Exception as error:
        raise ValueError(f"{path} is no exported program that can be read here: {error}") from None
