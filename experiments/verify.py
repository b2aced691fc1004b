"""Compares two images: their similarity, and how often different people are as similar.

Command   python -m experiments.verify A.jpg B.jpg --weights=FILE
Network   --weights=FILE         safetensors of experiments.evaluate, a PyTorch file, or ONNX
          --checkpoint=DIR       instead: a finished point of a sweep (--point=NAME where there are
                                 several)
          --import=MODULE        registers the point's margin, where that is one of your own
          --colors=BGR --mean=0 --std=255
                                 what a file that does not say was trained on (here MagFace's);
                                 without them RGB in [-1, 1], or ImageNet's for 128-d MobileFaceNets
Images    --landmarks=FILE       a line for each image: its name (the end of its path), then
                                 x1 y1 ... x5 y5, in px of the image as it is stored: eye at image
                                 left, eye at image right, nose, mouth at image left and right
Prints    similarity             cosine of the two embeddings
          angle                  between them, degrees
          FAR                    share of pairs of different people that a threshold at this
                                 similarity accepts, from the impostor scores in the weight file
                                 (experiments.evaluate --save_weights stores them)

A network that takes faces on the five-point template wants landmarks, or images that are aligned
and have its size already. The FAR is a statement about the people it was measured on, not the
probability that these two are different.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import command_line, image_arguments, trained_network

if TYPE_CHECKING:
    from arcface_jax.embedder import Embedder
    from arcface_jax.evaluation import ImpostorScores

for _module in (trained_network, image_arguments):
    flags.adopt_module_key_flags(_module)


def similarity_of(
    embedder: "Embedder", first: Path, second: Path, *, landmarks: Path | None = None
) -> float:
    """Cosine of the embeddings of two image files.

    Raises:
      FileNotFoundError: no list of landmarks there.
      ValueError: an image that cannot be read or breaks the contract; it is named.
    """
    import numpy as np

    from arcface_jax.evaluation.embeddings import unit_rows
    from experiments.embedding import DAMAGED
    from experiments.finite import refuse_unfinite

    files = {str(first): first, str(second): second}
    images = image_arguments.open_images(files, embedder.preprocessing, landmarks=landmarks)
    if images.refused:
        name, reason = next(iter(images.refused.items()))
        raise ValueError(f"{name}: {reason}")
    crops = []
    for index, name in enumerate(images.names):
        try:
            crops.append(images.crops[index])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    embeddings = embedder(np.stack(crops))
    refuse_unfinite(embeddings, images.names, cause=DAMAGED)
    unit = unit_rows(embeddings.astype(np.float64))
    # The same file twice is one image.
    return float(np.clip(unit[0] @ unit[-1], -1.0, 1.0))


def far_line(similarity: float, impostors: "ImpostorScores | None") -> str:
    """What the stored impostor scores say of a similarity.

    >>> from arcface_jax.evaluation import listed_impostor_scores
    >>> scores = listed_impostor_scores([0.1, 0.2, 0.3, 0.7], source="four pairs of strangers")
    >>> far_line(0.5, scores)
    'FAR         0.25  (at this threshold; 4 impostor pairs: four pairs of strangers)'
    >>> far_line(0.9, scores)
    'FAR         < 0.25  (none as similar; 4 impostor pairs: four pairs of strangers)'
    """
    if impostors is None:
        return (
            "FAR         unknown: no impostor scores are stored with this network; "
            "experiments.evaluate --save_weights=FILE.safetensors stores them"
        )
    far = impostors.far(similarity)
    value = (
        f"{far:.2g}  (at this threshold"
        if far
        else f"< {1 / impostors.pairs:.2g}  (none as similar"
    )
    return f"FAR         {value}; {impostors.pairs} impostor pairs: {impostors.source})"


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_flags("config", "workdir", "data_dir", "manual_dir")
    if len(argv) != 3:
        raise ValueError(f"name two images, got {len(argv) - 1}: A.jpg B.jpg --weights=FILE.")
    first, second = map(Path, argv[1:])
    # Before the network is read, which takes seconds.
    landmarks = image_arguments.landmarks_path()
    for path in (first, second):
        path.stat()
    embedder = trained_network.named_network().embedder
    similarity = similarity_of(embedder, first, second, landmarks=landmarks)
    print(f"similarity  {similarity:.4f}")
    print(f"angle       {math.degrees(math.acos(similarity)):.1f} deg")
    print(far_line(similarity, embedder.impostors))


if __name__ == "__main__":
    command_line.run(main, resumes=False)
