"""Encoded images of rendered identities, by as many processes as there are cores.

A process is started as ``python -c`` and not through multiprocessing, which would run the caller's
script once more in each of them.
"""

import dataclasses
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from arcface_jax.data.faces import draw_identity, draw_nuisances, render

_IMAGE_STREAM = 1
# Below that a process costs more (it imports NumPy and the package) than it saves.
_WORTH_A_PROCESS = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """What images are drawn of an identity.

    Attributes:
      images: number of images of each identity.
      size: side, px.
      strength: how far the nuisances reach.
      seed: which identities, and which nuisances.
    """

    images: int
    size: int
    strength: float
    seed: int


def draw_images(index: int, *, options: FaceOptions) -> list[tuple[bytes, dict[str, float]]]:
    """(PNG, nuisances) of every image of identity ``index``; depends on its arguments alone.

    >>> options = FaceOptions(images=2, size=16, strength=1.0, seed=0)
    >>> len(draw_images(3, options=options)), draw_images(3, options=options)[0][0][1:4]
    (2, b'PNG')
    """
    identity = draw_identity(index, seed=options.seed)
    images = []
    for number in range(options.images):
        rng = np.random.default_rng([_IMAGE_STREAM, options.seed, index, number])
        nuisances = draw_nuisances(rng, strength=options.strength)
        png = io.BytesIO()
        Image.fromarray(render(identity, nuisances, size=options.size)).save(
            png, "PNG", compress_level=1
        )
        images.append((png.getvalue(), nuisances.as_dict()))
    return images


def draw_identities(
    indices: range, *, options: FaceOptions, processes: int | None = None
) -> Iterator[list[tuple[bytes, dict[str, float]]]]:
    """:func:`draw_images` of each identity, in order.

    Args:
      indices: the identities.
      options: what to draw of each.
      processes: how many; None takes one for each core where the work is worth it.
    """
    if processes is None:
        worth = len(indices) * options.images // _WORTH_A_PROCESS
        processes = min(len(os.sched_getaffinity(0)), worth)
    if processes < 2:
        return (draw_images(index, options=options) for index in indices)
    return _draw_in_processes(indices, options, processes)


def _draw_in_processes(indices: range, options: FaceOptions, processes: int):
    call = "import sys; from arcface_jax.data.faces import images; images._send(sys.argv[1:])"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # One thread each: the processes already fill the cores.
        "OPENBLAS_NUM_THREADS": "1",
    }
    children = []
    try:
        for first in range(processes):
            mine = indices[first::processes]
            numbers = [mine.start, mine.stop, mine.step, *dataclasses.astuple(options)]
            children.append(
                subprocess.Popen(
                    [sys.executable, "-c", call, *map(str, numbers)],
                    stdout=subprocess.PIPE,
                    env=environment,
                )
            )
        for position in range(len(indices)):
            child = children[position % processes]
            assert child.stdout is not None
            yield _receive(child.stdout, indices[position])
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _receive(pipe: BinaryIO, index: int):
    try:
        return pickle.load(pipe)
    except EOFError:
        raise RuntimeError(
            f"the process that renders identity {index} ended early; its message stands above."
        ) from None


def _send(arguments: list[str]) -> None:
    start, stop, step, images, size = map(int, arguments[:5])
    options = FaceOptions(
        images=images, size=size, strength=float(arguments[5]), seed=int(arguments[6])
    )
    for index in range(start, stop, step):
        pickle.dump(draw_images(index, options=options), sys.stdout.buffer)
        sys.stdout.buffer.flush()
