"""A million identities on one machine: memory, and where the loss starts.

Command   python -m benchmarks.million [--classes=1000000] [--steps=200] [--rate=0.1] [--batch=128]
Prints    the peak memory of the process after each phase, the rate, and the first losses beside
          what theory says of random embeddings: s sin m + ln(r C) + s^2 / 2D

Faces are rendered as they are needed. The last phase writes a checkpoint to a temporary directory.
"""

import argparse
import resource
import tempfile
import time

from experiments.environment import prefer_fast_cpu_convolutions

prefer_fast_cpu_convolutions()

import jax  # noqa: E402
import numpy as np  # noqa: E402

import arcface_jax as af  # noqa: E402
from arcface_jax.data.faces import draw_identity, draw_nuisances, render  # noqa: E402
from arcface_jax.heads import Sampled  # noqa: E402
from arcface_jax.models import IResNetConfig  # noqa: E402
from arcface_jax.training import (  # noqa: E402
    Checkpoints,
    Hyper,
    Program,
    ProgramConfig,
    ScheduleConfig,
)

SIZE, DIM, SCALE, MARGIN = 32, 512, 64.0, 0.5
FIRST = 10


def batch_of(step: int, *, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels): faces of identities drawn from all."""
    rng = np.random.default_rng(step)
    labels = rng.integers(0, classes, rows).astype(np.int32)
    faces = [
        render(draw_identity(int(label), seed=0), draw_nuisances(rng), size=SIZE)
        for label in labels
    ]
    return np.stack(faces), labels


def peak_gb() -> float:
    """Most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    options = parser.parse_args()
    sampled = Sampled(rate=options.rate, update="sparse")
    program = Program(
        ProgramConfig(
            model=IResNetConfig(
                depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), embedding_dim=DIM, image_size=SIZE
            ),
            num_classes=options.classes,
            schedule=ScheduleConfig(
                name="constant", steps=options.steps, warmup=options.steps // 2
            ),
            head=sampled,
        )
    )
    hyper = Hyper(
        margin=af.arcface(MARGIN), scale=SCALE, learning_rate=0.1, weight_decay=5e-4
    ).traced()
    size = sampled.size(rows=options.batch, num_classes=options.classes)
    print(f"{options.classes:,} classes, {DIM} numbers each; {size:,} of them in a step")
    print(f"centres and momentum: {2 * 4 * options.classes * DIM / 1e9:.2f} GB")
    print(f"{'peak at start':32}{peak_gb():6.2f} GB", flush=True)
    state = program.init(hyper, seed=0)
    jax.block_until_ready(state)
    print(f"{'peak after initialisation':32}{peak_gb():6.2f} GB", flush=True)
    losses, seconds = [], []
    for step in range(options.steps):
        images, labels = batch_of(step, rows=options.batch, classes=options.classes)
        start = time.perf_counter()
        state, metrics = program.train_step(state, images, labels, hyper)
        losses.append(float(metrics["loss"]))
        seconds.append(time.perf_counter() - start)
        if step == 0 or (step + 1) % 20 == 0:
            print(
                f"step {step + 1:4}  loss {losses[-1]:7.3f}  theta "
                f"{float(metrics['theta_target_deg']):5.1f} deg  peak {peak_gb():5.2f} GB",
                flush=True,
            )
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        with Checkpoints(directory, every=1, program=program) as checkpoints:
            checkpoints.save(options.steps, state, None, force=True)
        print(f"{'peak after a checkpoint':32}{peak_gb():6.2f} GB, written in ", end="")
        print(f"{time.perf_counter() - start:.0f} s")
    theory = SCALE * np.sin(MARGIN) + np.log(size) + SCALE**2 / (2 * DIM)
    first = np.mean(losses[:FIRST])
    print(f"median step {np.median(seconds):.2f} s")
    print(
        f"mean loss of the first {min(FIRST, options.steps)} batches {first:.2f}; theory "
        f"{theory:.2f}; difference {100 * (first / theory - 1):+.1f} %"
    )


if __name__ == "__main__":
    main()
