"""Evaluates a network on a benchmark: identities that it was not trained on.

Command   python -m experiments.evaluate --weights=FILE --benchmark=lfw
Network   --weights=FILE         safetensors of --save_weights, a PyTorch file, or an ONNX graph
          --checkpoint=DIR       instead: a finished point of a sweep (--point=NAME where there are
                                 several); benchmarks with identities of its training are refused
          --import=MODULE        registers the point's margin, where that is one of your own
          --colors=BGR --mean=0 --std=255
                                 what a file that does not say was trained on (here MagFace's);
                                 without them RGB in [-1, 1], or ImageNet's for 128-d MobileFaceNets
          --flip=none            another use of the mirrored image than the network's contract says:
                                 none, add (its embedding), add_unit (both brought to length 1)
Images    --benchmark=lfw        the 6,000 pairs of LFW's pairs.txt, faces aligned by landmarks
          --benchmark=lfw_dev    the pairs of LFW's pairsDevTest.txt
          --benchmark=omniglot   its test identities, all pairs; likewise orl and synthetic_faces
          --benchmark=DIR        a directory with one directory of images for each identity; where
                                 the network takes aligned faces, crops of its size
          --pairs=FILE           the pairs of this list, in the format of LFW's, or pairs,
                                 pairsDevTrain, pairsDevTest; only their images are embedded
          --aligned              the faces lie on the five-point template though nothing says so
          --data_dir=DIR         where prepared data sets live
          --manual_dir=DIR       where original archives and LFW's lists lie
          --batch_size=64        images at a time
          --resamples=200        of the identities, for the intervals of all pairs; 0: none
Prints    with a list of pairs: ten-fold accuracy, thresholds (squared distance d = 2 - 2 cos), TAR
          at FAR 1e-1, 1e-2 and 1e-3, AUC, EER, mean angles; of all pairs: TAR, EER, AUC, rank-1
          and pair accuracy, with intervals
Writes    --output=DIR           result.json: the same, with the contract, where the network came
                                 from, and this machine
          --embeddings           with --output: embeddings.npz too (arrays embeddings, ids, labels)
          --save_weights=FILE    safetensors: the network, the contract, and the cosines of all
                                 impostor pairs of the images, from which experiments.verify tells
                                 the FAR of a similarity
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import command_line, embedding, trained_network
from experiments.trained_network import TrainedNetwork

if TYPE_CHECKING:
    import numpy as np

    from arcface_jax.embedder import Embedder
    from experiments.benchmark_images import Benchmark

_BENCHMARK = flags.DEFINE_string(
    "benchmark", None, "lfw, lfw_dev, omniglot, orl, synthetic_faces, or a directory of identities."
)
_PAIRS = flags.DEFINE_string("pairs", "", "A list of pairs, instead of the benchmark's own.")
_FLIP = flags.DEFINE_enum(
    "flip",
    None,
    ["none", "add", "add_unit"],
    "Use of the mirrored image (default: the contract's).",
)
_ALIGNED = flags.DEFINE_bool("aligned", False, "The faces lie on the five-point template.")
_RESAMPLES = flags.DEFINE_integer(
    "resamples", 200, "Of the identities, for intervals; 0: none.", lower_bound=0
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The directory of result.json; nothing is written without.", allow_override=True
)
_EMBEDDINGS = flags.DEFINE_bool("embeddings", False, "Write embeddings.npz to --output too.")
_SAVE_WEIGHTS = flags.DEFINE_string(
    "save_weights", None, "Write the network with its impostor scores to this safetensors file."
)
for _module in (trained_network, embedding):
    flags.adopt_module_key_flags(_module)


def evaluate(
    network: TrainedNetwork,
    benchmark: "Benchmark",
    *,
    batch_size: int = 64,
    resamples: int = 200,
) -> tuple[dict[str, Any], "np.ndarray"]:
    """Embeds the benchmark's images and compares them.

    Returns:
      What ``result.json`` holds, and the embeddings float32[N, D].

    Raises:
      ValueError: an image that cannot be read, or an embedding that is not finite (it is named).
    """
    from arcface_jax.convert.weight_file import config_to_json
    from arcface_jax.evaluation import evaluate_open_set, evaluate_pairs
    from experiments.provenance import now, provenance

    embedder, dataset = network.embedder, benchmark.dataset
    embeddings = embedding.embed_dataset(embedder, dataset, batch_size=batch_size)
    if benchmark.pairs is not None:
        listed = evaluate_pairs(embeddings, dataset.labels, benchmark.pairs)
        measured = {
            "metrics": listed.metrics,
            "thresholds": listed.ten_fold.thresholds.tolist(),
            "fold_accuracies": listed.ten_fold.per_fold.tolist(),
            "tar_at_far": [point._asdict() for point in (*listed.tar, *listed.tar_nearest)],
        }
        notes = listed.notes
    else:
        found = evaluate_open_set(embeddings, dataset.labels, resamples=resamples, seed=0)
        measured = {
            "metrics": found.metrics,
            "intervals": {name: list(interval) for name, interval in found.intervals.items()},
            "pairs": {"genuine": found.genuine_pairs, "impostor": found.impostor_pairs},
        }
        notes = found.notes
    result = {
        "benchmark": benchmark.describe(),
        **measured,
        "notes": [*benchmark.notes, *notes],
        "preprocessing": embedder.preprocessing.to_json(),
        "network": {**network.source, "config": config_to_json(embedder.model.config)},
        **provenance(),
        "finished": now(),
    }
    return result, embeddings


def save_with_scores(
    embedder: "Embedder", benchmark: "Benchmark", embeddings: "np.ndarray", path: Path
) -> None:
    """Writes the network with the cosines of all impostor pairs of the benchmark's images."""
    from arcface_jax.convert import save
    from arcface_jax.embedder import Embedder
    from arcface_jax.evaluation import impostor_scores

    dataset = benchmark.dataset
    source = (
        f"{benchmark.name}, all pairs of different identities among {len(dataset)} images of "
        f"{dataset.num_classes}, labels as published"
    )
    scores = impostor_scores(embeddings, dataset.labels, source=source)
    contract = embedder.preprocessing
    save(Embedder(embedder.model, preprocessing=contract, impostors=scores), path)


def table(result: dict[str, Any]) -> str:
    """The numbers, as the command prints them.

    >>> print(table({
    ...     "benchmark": {"name": "lfw", "images": 7701, "identities": 4281,
    ...                   "pair_list": "pairs.txt", "genuine_pairs": 3000, "impostor_pairs": 3000},
    ...     "preprocessing": {"size": 112, "flip": "none"},
    ...     "metrics": {"pair_accuracy": 0.9925, "pair_accuracy_std": 0.00423, "auc": 0.998719,
    ...                 "eer": 0.00967, "genuine_deg": 48.812, "impostor_deg": 89.406},
    ...     "thresholds": [1.42, 1.42, 1.47],
    ...     "tar_at_far": [
    ...         {"far_wanted": 0.001, "tar": 0.983, "far": 0.001, "reading": "le"},
    ...         {"far_wanted": 0.001, "tar": 0.984, "far": 0.001, "reading": "nearest"}],
    ...     "notes": ["seven pairs are mislabelled"],
    ... }))
    lfw: 7701 images of 4281 identities at 112 px, mirrored image: none
    pairs.txt: 3000 genuine and 3000 impostor pairs
    10-fold accuracy            99.250 % +- 0.423
    thresholds                  1.42 (2 folds), 1.47 (1 fold)
    TAR at FAR 1e-3             98.300 %  (nearest: 98.400 % at 1.0e-03)
    AUC                         0.998719
    EER                         0.967 %
    mean angle, genuine         48.81 deg
    mean angle, impostor        89.41 deg
    note: seven pairs are mislabelled
    """
    images, contract = result["benchmark"], result["preprocessing"]
    lines = [
        f"{images['name']}: {images['images']} images of {images['identities']} identities at "
        f"{contract['size']} px, mirrored image: {contract['flip']}"
    ]
    lines += _list_lines(result) if "pair_list" in images else _open_set_lines(result)
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def _list_lines(result: dict[str, Any]) -> list[str]:
    images, metrics = result["benchmark"], result["metrics"]
    spread = 100 * metrics["pair_accuracy_std"]
    folds: dict[str, int] = {}
    for threshold in result["thresholds"]:
        folds[f"{threshold:.2f}"] = folds.get(f"{threshold:.2f}", 0) + 1
    thresholds = ", ".join(
        f"{threshold} ({count} fold{'s' if count > 1 else ''})"
        for threshold, count in sorted(folds.items())
    )
    rows = [
        ("10-fold accuracy", f"{100 * metrics['pair_accuracy']:.3f} % +- {spread:.3f}"),
        ("thresholds", thresholds),
    ]
    nearest = {p["far_wanted"]: p for p in result["tar_at_far"] if p["reading"] == "nearest"}
    for point in result["tar_at_far"]:
        if point["reading"] == "le":
            other = nearest[point["far_wanted"]]
            far = f"{point['far_wanted']:.0e}".replace("e-0", "e-")
            rows.append(
                (
                    f"TAR at FAR {far}",
                    f"{100 * point['tar']:.3f} %  (nearest: {100 * other['tar']:.3f} % at "
                    f"{other['far']:.1e})",
                )
            )
    rows += [
        ("AUC", f"{metrics['auc']:.6f}"),
        ("EER", f"{100 * metrics['eer']:.3f} %"),
        ("mean angle, genuine", f"{metrics['genuine_deg']:.2f} deg"),
        ("mean angle, impostor", f"{metrics['impostor_deg']:.2f} deg"),
    ]
    return [
        f"{images['pair_list']}: {images['genuine_pairs']} genuine and "
        f"{images['impostor_pairs']} impostor pairs",
        *(f"{name:28}{value}" for name, value in rows),
    ]


def _open_set_lines(result: dict[str, Any]) -> list[str]:
    from experiments.reporting.metrics import describe_metric

    pairs = result["pairs"]
    lines = [f"all pairs: {pairs['genuine']} genuine and {pairs['impostor']} impostor"]
    for name, value in result["metrics"].items():
        metric = describe_metric(name)
        line = f"{metric.heading:28}{metric.text(value):>8}"
        if name in result["intervals"]:
            low, high = map(metric.text, result["intervals"][name])
            line += f"  [{low}, {high}]"
        lines.append(line)
    return lines


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_arguments(argv)
    command_line.refuse_flags("config", "workdir")
    if not _BENCHMARK.value:
        raise ValueError("--benchmark is missing; e.g. --benchmark=lfw, see --help.")
    if _EMBEDDINGS.value and not _OUTPUT.value:
        raise ValueError("--embeddings are written to --output=DIR, which is missing.")
    # Before hours of work.
    output = command_line.writable("output", Path(_OUTPUT.value)) if _OUTPUT.value else None
    save_weights = _weights_target(Path(_SAVE_WEIGHTS.value)) if _SAVE_WEIGHTS.value else None
    network = trained_network.named_network().with_flip(_FLIP.value)
    from experiments.benchmark_images import load_benchmark
    from experiments.files import write_json

    benchmark = load_benchmark(
        _BENCHMARK.value,
        network.embedder.preprocessing,
        pairs=_PAIRS.value,
        aligned=_ALIGNED.value,
        trained_on=network.data,
        data_dir=command_line.DATA_DIR.value,
        manual_dir=command_line.MANUAL_DIR.value,
    )
    embedder = network.embedder
    result, embeddings = evaluate(
        network,
        benchmark,
        batch_size=embedding.BATCH_SIZE.value,
        resamples=_RESAMPLES.value,
    )
    # First, so that a full disk takes nothing away.
    print(table(result), flush=True)
    if output is not None:
        write_json(output / "result.json", result)
        print(output / "result.json")
    if output is not None and _EMBEDDINGS.value:
        path, dataset = output / "embeddings.npz", benchmark.dataset
        embedding.write_embeddings(path, embeddings, dataset.ids, embedder, labels=dataset.labels)
        print(path)
    if save_weights is not None:
        save_with_scores(embedder, benchmark, embeddings, save_weights)
        print(save_weights)


def _weights_target(path: Path) -> Path:
    """``path``, where a weight file can be written.

    Raises:
      ValueError: a directory, a place that cannot be written, or a file of another kind there.
    """
    from arcface_jax.convert.load_any import kind_of

    if importlib.util.find_spec("safetensors") is None:
        raise ValueError("--save_weights needs safetensors; pip install 'arcface_jax[export]'.")
    command_line.writable("save_weights", path.parent)
    if path.is_dir():
        raise ValueError(f"--save_weights={path} is a directory; name a file in it.")
    if path.exists() and kind_of(path) != "safetensors":
        raise ValueError(
            f"--save_weights={path} exists and is no safetensors file; choose another name."
        )
    return path


if __name__ == "__main__":
    command_line.run(main, resumes=False)
