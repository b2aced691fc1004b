"""Two real processes with two devices each train as one does, and write one checkpoint."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STEPS, CLASSES = 4, 21


def main(port, index, directory):
    """One of the processes; the batch's rows are shared out in order."""
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    assert (jax.device_count(), jax.local_device_count()) == (4, 2)

    from device_runs import ROWS, Batches, hyper, make_program, on

    from arcface_jax.training import Checkpoints

    program, arc = make_program(CLASSES, on(4)), hyper()
    state, stream = program.init(arc, seed=0), Batches(CLASSES)
    mine = slice(index * ROWS // 2, (index + 1) * ROWS // 2)
    losses = []
    for _ in range(STEPS):
        batch = next(stream)
        images, labels = batch["image"][mine], batch["label"][mine]
        state, metrics = program.train_step(state, images, labels, arc)
        losses.append(float(metrics["loss"]))
    centers = program.centers(state)
    with Checkpoints(Path(directory) / "checkpoints", every=1, program=program) as checkpoints:
        checkpoints.save(STEPS, state, stream, force=True)
    answer = {"losses": losses, "centers": centers.tolist()}
    (Path(directory) / f"{index}.json").write_text(json.dumps(answer))


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    import numpy as np
    from device_runs import Batches, assert_equal_but_for_rounding, hyper, make_program

    from arcface_jax.training import Checkpoints

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, HERE.parent))),
    }
    with contextlib.ExitStack() as running:
        processes, logs = [], []
        for index in range(2):
            logs.append(running.enter_context((tmp_path / f"{index}.log").open("w+")))
            command = [sys.executable, __file__, str(port), str(index), str(tmp_path)]
            process = subprocess.Popen(
                command, stdout=logs[-1], stderr=subprocess.STDOUT, env=environment
            )
            processes.append(running.enter_context(process))
            running.callback(process.kill)
        for process, log in zip(processes, logs, strict=True):
            code = process.wait(timeout=200)
            log.seek(0)
            assert code == 0, log.read()

    program, arc, stream = make_program(CLASSES, "dense"), hyper(), Batches(CLASSES)
    state, losses = program.init(arc, seed=0), []
    for _ in range(STEPS):
        state, metrics = program.train_step(state, *next(stream).values(), arc)
        losses.append(float(metrics["loss"]))
    for index in range(2):
        answer = json.loads((tmp_path / f"{index}.json").read_text())
        np.testing.assert_allclose(answer["losses"], losses, rtol=1e-5)
        np.testing.assert_allclose(answer["centers"], program.centers(state), rtol=1e-4, atol=1e-4)
    with Checkpoints(tmp_path / "checkpoints", every=1, program=program) as checkpoints:
        restored = checkpoints.restore(program.shapes(arc), stream)
    assert_equal_but_for_rounding((program, restored), (program, state))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
