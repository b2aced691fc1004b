"""A sweep as an array of Slurm jobs, each of which runs one point and can be resumed."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.provenance import arguments


def submit(points: int, *, workdir: Path, options: Sequence[str], cluster: str = "slurm") -> Any:
    """Submits one job per point through submitit and prints their ids.

    Args:
      points: number of points of the sweep.
      workdir: of the sweep; job logs go to its directory ``jobs``.
      options: ``NAME=VALUE`` pairs of submitit's executor, e.g. ``slurm_partition=gpu``.
      cluster: where submitit runs; "local" starts subprocesses.

    Raises:
      ValueError: submitit is not installed, or an option is not ``NAME=VALUE``.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(
            "--launcher=slurm needs submitit; install it with: pip install 'arcface_jax[slurm]'"
        ) from None
    executor = submitit.AutoExecutor(folder=workdir / "jobs", cluster=cluster)
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"--slurm={option} is not NAME=VALUE, e.g. slurm_partition=gpu.")
        executor.update_parameters(**{name: int(value) if value.isdigit() else value})
    # The last flag of a name holds, so each job's own launcher and index win.
    command = [sys.executable, "-m", "experiments.sweep", *arguments(), "--launcher=local"]
    jobs = executor.map_array(
        lambda index: submitit.helpers.CommandFunction([*command, f"--index={index}"])(),
        range(points),
    )
    print("\n".join(f"{job.job_id}  point {index}" for index, job in enumerate(jobs)))
    return jobs
