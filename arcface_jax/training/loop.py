"""The loop around the compiled step."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from arcface_jax.training.checkpoints import Checkpoints
from arcface_jax.training.program import Program
from arcface_jax.training.records import JsonLines, Progress
from arcface_jax.training.state import Hyper, TrainState


class Diverged(ArithmeticError):
    """Loss or gradient stopped being finite; the step is in the message.

    >>> raise Diverged("step 3")
    Traceback (most recent call last):
    arcface_jax.training.loop.Diverged: step 3
    """


def train(
    program: Program,
    state: TrainState,
    batches: Iterator[dict[str, np.ndarray]],
    hyper: Hyper,
    *,
    steps: int,
    log_every: int = 20,
    metrics: JsonLines | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    at_step: Callable[[int, TrainState], None] | None = None,
) -> TrainState:
    """Trains until ``state.step`` is ``steps``.

    Args:
      program: the compiled functions.
      state: given up; the returned one replaces it.
      batches: yields ``{"image": uint8[B, H, W, c], "label": int32[B]}``; its position is saved.
      hyper: traced numbers.
      steps: of the whole training, those already done included.
      log_every: steps between two records.
      metrics: where records go.
      progress: what a watcher sees.
      checkpoints: saved as their own policy says.
      at_step: called with the number of steps done and the state, after each step.

    Returns:
      The state after the last step.

    Raises:
      Diverged: at the first record whose loss or gradient norm is not finite.
    """
    hyper = hyper.traced()
    done = int(state.step)
    pending: tuple[int, int, float, dict[str, Any]] | None = None
    started, since = time.perf_counter(), done

    def record(step: int, batch_size: int, rate: float, values: dict[str, Any]) -> None:
        numbers = {name: float(value) for name, value in jax.device_get(values).items()}
        if metrics is not None:
            metrics.write({"step": step, **numbers, "images_per_second": rate})
        for name in ("loss", "grad_norm"):
            if not math.isfinite(numbers[name]):
                raise Diverged(
                    f"{name} is {numbers[name]} at step {step}; lower the learning rate or the "
                    "margin, raise the warm-up, or look for broken images in that batch."
                )
        if progress is not None:
            progress.show(
                step,
                rate=rate,
                batch_size=batch_size,
                loss=numbers["loss"],
                theta=numbers["theta_target_deg"],
            )

    while done < steps:
        batch = next(batches)
        state, values = program.train_step(state, batch["image"], batch["label"], hyper)
        done += 1
        if pending is not None:
            # One step late: the device works on the next step while this one is written.
            record(*pending)
            pending = None
        if done % log_every == 0 or done in (1, steps):
            batch_size = len(batch["label"])
            now = time.perf_counter()
            rate = batch_size * (done - since) / max(now - started, 1e-9)
            started, since = now, done
            pending = (done, batch_size, rate, values)
        if checkpoints is not None:
            checkpoints.save(done, state, batches)
        if at_step is not None:
            at_step(done, state)
    if pending is not None:
        record(*pending)
    if progress is not None:
        progress.close()
    return state
