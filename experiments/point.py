"""One point of a sweep: train, evaluate on unseen identities, leave the record behind."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from arcface_jax.analysis import (
    angle_histogram,
    angle_statistics,
    dominant_centers,
    target_angles,
)
from arcface_jax.data import Dataset
from arcface_jax.data.pipeline import batches, evaluation_batches
from arcface_jax.evaluation import evaluate_open_set
from arcface_jax.margins import MarginRule, target_cosine
from arcface_jax.models import Preprocessing
from arcface_jax.training import (
    Checkpoints,
    Diverged,
    JsonLines,
    Program,
    ProgramConfig,
    TrainState,
    read_json_lines,
    train,
)
from arcface_jax.training.records import Progress
from experiments.files import write_arrays, write_json
from experiments.finite import refuse_unfinite
from experiments.images import Images, listed_pairs
from experiments.initial_weights import initial_weights
from experiments.provenance import now, provenance
from experiments.settings import Settings


class Programs:
    """Compiled programs by what is fixed in them, shared by the points of a sweep."""

    def __init__(self):
        """Empty."""
        self._programs: dict[ProgramConfig, Program] = {}

    def find(self, config: ProgramConfig) -> Program:
        """The program for ``config``, the same one each time."""
        if config not in self._programs:
            self._programs[config] = Program(config)
        return self._programs[config]

    @property
    def train_step_compilations(self) -> int:
        """How often a train step was compiled so far."""
        return sum(program.traces["train_step"] for program in self._programs.values())


def program_config(
    settings: Settings, *, num_classes: int, preprocessing: Preprocessing
) -> ProgramConfig:
    """What a point compiles for."""
    return ProgramConfig(
        model=settings.model,
        num_classes=num_classes,
        preprocessing=preprocessing,
        frozen=settings.freeze_backbone,
        schedule=settings.schedule,
        momentum=settings.momentum,
        head=settings.head.make(),
    )


def embed_dataset(
    program: Program,
    state: TrainState,
    dataset: Dataset,
    *,
    batch_size: int,
) -> Any:
    """float32[N, D] embeddings of every image in order, not normalised.

    Raises:
      ValueError: an embedding is not finite; its image is named.
    """
    parts = [
        np.asarray(program.embed(state, batch["image"]))
        for batch in evaluation_batches(dataset, batch_size=batch_size)
    ]
    embeddings = np.concatenate(parts)[: len(dataset)]
    refuse_unfinite(
        embeddings, dataset.ids, cause=f"the network has diverged (images of {dataset.name})"
    )
    return embeddings


def run_point(
    settings: Settings,
    config: dict[str, Any],
    directory: Path,
    *,
    images: Images,
    programs: Programs,
    title: str,
    manual_dir: str | None = None,
) -> dict[str, Any]:
    """Trains and evaluates; returns what ``result.json`` holds.

    Args:
      settings: the checked experiment.
      config: the same as plain values, for the record.
      directory: where everything is written; a killed run goes on from its last checkpoint.
      images: of both sides.
      programs: shared by the sweep.
      title: of the progress line.
      manual_dir: where pair lists lie.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config)
    started, clock = now(), time.perf_counter()
    compiled = programs.train_step_compilations
    program = programs.find(
        program_config(
            settings,
            num_classes=images.train.num_classes,
            preprocessing=settings.contract(aligned=images.train.aligned),
        )
    )
    pairs = listed_pairs(settings.evaluation.pairs, images.test, manual_dir=manual_dir)
    histograms = _Histograms(settings, directory / "angles.npz", program, images.train)

    stream = batches(
        images.train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augmentation=settings.augmentation,
        workers=settings.data.workers,
    )
    result: dict[str, Any] = {"status": "finished"}
    try:
        with Checkpoints(
            directory / "checkpoints", every=settings.checkpoint_every, program=program
        ) as checkpoints:
            state = checkpoints.restore(program.shapes(settings.hyper), stream)
            state = state or program.init(
                settings.hyper, seed=settings.seed, backbone=_first_weights(settings)
            )
            done = int(state.step)
            histograms.at_step(done, state)
            with JsonLines(directory / "metrics.jsonl", keep_until=done + 1) as metrics:
                state = train(
                    program,
                    state,
                    stream,
                    settings.hyper,
                    steps=settings.steps,
                    log_every=settings.log_every,
                    metrics=metrics,
                    progress=Progress(title, settings.steps),
                    checkpoints=checkpoints,
                    at_step=histograms.at_step,
                )
            checkpoints.save(settings.steps, state, stream, force=True)
        result |= _evaluate(settings, program, state, images, pairs, histograms)
    except Diverged as error:
        result |= {"status": "diverged", "reason": str(error), "metrics": {}, "intervals": {}}
    finally:
        stream.close()
    compilations = programs.train_step_compilations - compiled
    seconds = time.perf_counter() - clock
    result |= {"target": _target_curve(settings.margin), "compilations": compilations}
    write_json(
        directory / "run.json",
        {
            **provenance(),
            "started": started,
            "finished": now(),
            "seconds": round(seconds, 1),
            "compilations": {"train_step": compilations},
            "preprocessing": program.config.contract.to_json(),
            "dataset": images.describe(),
        },
    )
    write_json(directory / "result.json", result)
    return result


def _first_weights(settings: Settings) -> Any:
    return initial_weights(settings.init_from).model if settings.init_from else None


def _evaluate(
    settings: Settings,
    program: Program,
    state: TrainState,
    images: Images,
    pairs: Any,
    histograms: "_Histograms",
) -> dict[str, Any]:
    evaluation = settings.evaluation
    trained, unseen = (
        embed_dataset(program, state, dataset, batch_size=evaluation.batch_size)
        for dataset in images
    )
    open_set = evaluate_open_set(
        unseen,
        images.test.labels,
        pairs=pairs,
        max_images_per_identity=evaluation.max_images_per_identity or None,
        resamples=evaluation.resamples,
        seed=0,
    )
    histograms.add_pairs(open_set.pair_angles_deg)
    centers = dominant_centers(trained, images.train.labels, program.centers(state))
    angles: dict[str, float | None] = {}
    for suffix, least in (("", 1), ("_min2", 2)):
        on_train = angle_statistics(trained, images.train.labels, centers, min_images=least)
        on_test = angle_statistics(unseen, images.test.labels, min_images=least)
        angles |= {
            f"w_ec{suffix}": on_train.w_ec,
            f"w_inter{suffix}": on_train.w_inter,
            f"intra_train{suffix}": on_train.intra,
            f"inter_train{suffix}": on_train.inter,
            f"intra_test{suffix}": on_test.intra,
            f"inter_test{suffix}": on_test.inter,
        }
    return {
        "metrics": _finite(open_set.metrics),
        "intervals": {name: list(interval) for name, interval in open_set.intervals.items()},
        "angles": _finite(angles),
        "notes": open_set.notes,
        "pairs": {"genuine": open_set.genuine_pairs, "impostor": open_set.impostor_pairs},
        **_last_record(histograms.path.with_name("metrics.jsonl")),
    }


def _finite(values: dict[str, Any]) -> dict[str, float | None]:
    return {
        name: None if value is None or not math.isfinite(value) else float(value)
        for name, value in values.items()
    }


def _last_record(path: Path) -> dict[str, Any]:
    records = read_json_lines(path)
    rates = [record["images_per_second"] for record in records[1:]]
    return {
        "final_loss": records[-1]["loss"],
        "final_theta_target_deg": records[-1]["theta_target_deg"],
        "images_per_second": float(np.median(rates)) if rates else None,
    }


def _target_curve(margin: MarginRule) -> dict[str, list[float]]:
    """The target cosine over [0, 180] degrees, without the scale."""
    theta = np.arange(181.0)
    target = target_cosine(np.cos(np.deg2rad(theta)), margin)
    return {"theta_deg": theta.tolist(), "logit": np.asarray(target, np.float64).tolist()}


@dataclasses.dataclass
class _Histograms:
    """Angles to the true and to the nearest wrong class at start, middle and end of training."""

    settings: Settings
    path: Path
    program: Program
    train: Dataset

    def __post_init__(self):
        steps = self.settings.steps
        self._phase_at = {0: "start", steps // 2: "middle", steps: "end"}
        count = min(self.settings.evaluation.angle_images, len(self.train))
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.train))[:count])
        # Labels must stay those of the centres, so the images are picked, not the data set cut.
        self._images = self.train.images(chosen)
        self._labels = self.train.labels[chosen]
        self._arrays: dict[str, Any] = {}
        if self.path.exists():
            with np.load(self.path) as saved:
                self._arrays = dict(saved)
        self._arrays |= {"edges": np.arange(181.0), "steps": np.asarray([0, steps // 2, steps])}

    def at_step(self, step: int, state: TrainState) -> None:
        """Adds and saves the histograms if a phase begins at this step."""
        phase = self._phase_at.get(step)
        if phase is None or f"theta_y_{phase}" in self._arrays:
            return
        size = self.settings.evaluation.batch_size
        # Running statistics mean nothing before training; a batch's own do.
        own = [
            self.program.embed(
                state, self._images[start : start + size], batch_statistics=phase == "start"
            )
            for start in range(0, len(self._images), size)
        ]
        embeddings = np.concatenate([np.asarray(part) for part in own])
        centers = dominant_centers(embeddings, self._labels, self.program.centers(state))
        theta, nearest = target_angles(embeddings, self._labels, centers)
        self._arrays[f"theta_y_{phase}"] = angle_histogram(theta)
        self._arrays[f"nearest_wrong_{phase}"] = angle_histogram(nearest)
        write_arrays(self.path, self._arrays)

    def add_pairs(self, pair_angles: dict[str, Any]) -> None:
        """Adds and saves the histograms of held-out pairs."""
        self._arrays |= {f"pairs_{kind}": counts for kind, counts in pair_angles.items()}
        write_arrays(self.path, self._arrays)
