"""Published weights on LFW, beside what onnxruntime gave for the same photographs.

Command   python -m benchmarks.lfw_weights [--weights=FILE]
Reads     ARCFACE_DATA_DIR: lfw/, weights/mobilefacenet_foamliu/, reference/
Prints    each number of the 6,000 pairs of pairs.txt (no mirrored image) beside the reference, and
          the largest distance 1 - cos of an embedding from its reference

Exit code 1 where a number is off: 1 - cos above 1e-5, accuracy by more than 0.05 points, TAR by
more than 0.2 points, a mean angle by more than 0.2 degrees. The command line does the same work:
python -m experiments.evaluate --weights=FILE --benchmark=lfw
"""

import argparse
import os
import sys
from pathlib import Path

from experiments.environment import keep_compiled_programs, prefer_fast_cpu_convolutions

prefer_fast_cpu_convolutions()
keep_compiled_programs()

import numpy as np  # noqa: E402

from experiments.benchmark_images import load_benchmark  # noqa: E402
from experiments.evaluate import evaluate  # noqa: E402
from experiments.trained_network import network_of_file  # noqa: E402

# name: (value, tolerance), ten-fold protocol of squared distances on the grid of 0.01.
EXPECTED = {
    "pair_accuracy": (0.99250, 5e-4),
    "pair_accuracy_std": (0.00423, 5e-4),
    "tar_at_far_1e-1": (0.99633, 2e-3),
    "tar_at_far_1e-2": (0.99033, 2e-3),
    "tar_at_far_1e-3": (0.98300, 2e-3),
    "auc": (0.998719, 1e-4),
    "eer": (0.00967, 5e-4),
    "genuine_deg": (48.81, 0.2),
    "impostor_deg": (89.41, 0.2),
}
LARGEST_DISTANCE = 1e-5


def distance_from_reference(embeddings: np.ndarray, ids: tuple[str, ...], path: Path) -> float:
    """Largest 1 - cos between an embedding and the one that ``path`` has for its image."""
    with np.load(path) as reference:
        place = {name: row for row, name in enumerate(reference["k"].tolist())}
        theirs = reference["e"][[place[name] for name in ids]].astype(np.float64)
    ours = embeddings.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float((1.0 - (ours * theirs).sum(axis=1) / lengths).max())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    if not os.environ.get("ARCFACE_DATA_DIR"):
        parser.error("ARCFACE_DATA_DIR names no directory")
    data = Path(os.environ["ARCFACE_DATA_DIR"])
    weights = options.weights or data / "weights" / "mobilefacenet_foamliu" / "mobilefacenet.pt"
    network = network_of_file(weights).with_flip("none")
    benchmark = load_benchmark("lfw", network.embedder.preprocessing)
    result, embeddings = evaluate(network, benchmark)
    off = []
    print(f"{weights.name:24}{'ours':>12}{'reference':>12}{'difference':>12}")
    for name, (value, tolerance) in EXPECTED.items():
        ours = result["metrics"][name]
        print(f"{name:24}{ours:12.6f}{value:12.6f}{ours - value:+12.6f}")
        if abs(ours - value) > tolerance:
            off.append(name)
    reference = data / "reference" / "lfw150_foamliu_onnxruntime.npz"
    distance = distance_from_reference(embeddings, benchmark.dataset.ids, reference)
    print(f"{'largest 1 - cos':24}{distance:12.1e}")
    if distance > LARGEST_DISTANCE:
        off.append("largest 1 - cos")
    if off:
        sys.exit(f"off: {', '.join(off)}")


if __name__ == "__main__":
    main()
