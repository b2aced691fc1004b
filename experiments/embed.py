"""Embeds image files.

Command   python -m experiments.embed --weights=FILE --images=DIR --output=embeddings.npz
Network   --weights=FILE         safetensors of experiments.evaluate, a PyTorch file, or ONNX
          --checkpoint=DIR       instead: a finished point of a sweep (--point=NAME where there are
                                 several)
          --import=MODULE        registers the point's margin, where that is one of your own
          --colors=BGR --mean=0 --std=255
                                 what a file that does not say was trained on (here MagFace's);
                                 without them RGB in [-1, 1], or ImageNet's for 128-d MobileFaceNets
Images    --images=DIR           every file below it, at any depth, sorted by name; or one file
          --landmarks=FILE       a line for each image: its name (the end of its path), then
                                 x1 y1 ... x5 y5, in px of the image as it is stored: eye at image
                                 left, eye at image right, nose, mouth at image left and right
          --skip_unreadable      leave out what is no image or has no landmarks, and list it
          --batch_size=64        images at a time
Writes    --output=FILE          .npz with embeddings float32[N, D] as the network gives them (not
                                 of unit length), ids [N] (names below DIR) and preprocessing (the
                                 contract as JSON)

A network that takes faces on the five-point template wants landmarks, or images that are aligned
and have its size already. For one that takes images as they are, each image's central square is
brought to its size, by area averaging where it shrinks, as the data sets do. The orientation in
EXIF is not applied.

Headers and landmarks are checked before anything is computed. An image that turns out to be damaged
only then is left out: the others are written, it is named, and the exit code is 1 (0 with
--skip_unreadable).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import command_line, embedding, image_arguments, trained_network
from experiments.finite import refuse_unfinite

if TYPE_CHECKING:
    import numpy as np

    from arcface_jax.embedder import Embedder
    from experiments.image_arguments import OpenedImages

_IMAGES = flags.DEFINE_string("images", None, "An image, or a directory of images.")
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file that is written.", allow_override=True)
_SKIP = flags.DEFINE_bool(
    "skip_unreadable", False, "Leave out what is no image or has no landmarks, and list it."
)
for _module in (trained_network, embedding, image_arguments):
    flags.adopt_module_key_flags(_module)

_NAMED = 5


def embed(
    embedder: "Embedder", images: "OpenedImages", *, batch_size: int = 64
) -> tuple["np.ndarray", list[str], dict[str, str]]:
    """(embeddings float32[N, D], names [N], reason by name of images that proved damaged).

    Raises:
      ValueError: an embedding is not finite; its image is named.
    """
    import numpy as np

    names: list[str] = []
    damaged: dict[str, str] = {}

    def batches() -> Iterator[np.ndarray]:
        batch = []
        for index, name in enumerate(images.names):
            try:
                batch.append(images.crops[index])
                names.append(name)
            except (ValueError, OSError) as error:
                damaged[name] = command_line.one_line(error)
            if len(batch) == batch_size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    embeddings = embedding.embed_batches(
        embedder, batches(), total=len(images.names), batch_size=batch_size, what="embedding"
    )
    refuse_unfinite(embeddings, names, cause=embedding.DAMAGED)
    return embeddings, names, damaged


def _listed(refused: dict[str, str]) -> str:
    """The first few images with their reasons.

    >>> _listed({"a.jpg": "it is empty.", "b.jpg": "it is damaged."})
    'a.jpg (it is empty), b.jpg (it is damaged)'
    """
    few = [f"{name} ({reason.rstrip('.')})" for name, reason in list(refused.items())[:_NAMED]]
    more = len(refused) - len(few)
    return ", ".join(few) + (f", and {more} more" if more else "")


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_arguments(argv)
    command_line.refuse_flags("config", "workdir", "data_dir", "manual_dir")
    if not _IMAGES.value or not _OUTPUT.value:
        missing = "output" if _IMAGES.value else "images"
        raise ValueError(f"--{missing} is missing; see --help.")
    source, output = Path(_IMAGES.value), Path(_OUTPUT.value)
    command_line.writable("output", output.parent)
    if output.is_dir():
        raise ValueError(f"--output={output} is a directory; name a file in it.")
    from arcface_jax.data.image_files import list_files

    landmarks = image_arguments.landmarks_path()
    own = [output] if landmarks is None else [output, landmarks]
    files = list_files(source, but=own)
    embedder = trained_network.named_network().embedder
    images = image_arguments.open_images(files, embedder.preprocessing, landmarks=landmarks)
    if images.refused and not _SKIP.value:
        raise ValueError(
            f"{len(images.refused)} of {len(files)} files cannot be embedded: "
            f"{_listed(images.refused)}; take them away, or add --skip_unreadable."
        )
    embeddings, names, damaged = embed(embedder, images, batch_size=embedding.BATCH_SIZE.value)
    if not names:
        left_out = images.refused | damaged
        raise ValueError(f"no image of {source} can be embedded: {_listed(left_out)}.")
    embedding.write_embeddings(output, embeddings, names, embedder)
    print(f"{output}: {len(names)} embeddings of {embeddings.shape[1]} numbers")
    if _SKIP.value:
        for name, reason in (images.refused | damaged).items():
            print(f"left out: {name}: {reason}", file=sys.stderr)
    elif damaged:
        error = ValueError(
            f"{len(damaged)} of {len(files)} images are damaged and not in {output}: "
            f"{_listed(damaged)}."
        )
        command_line.fail(error, code=1)


if __name__ == "__main__":
    command_line.run(main, resumes=False)
