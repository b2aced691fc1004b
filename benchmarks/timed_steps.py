"""Steps that another process runs, one when it is asked: both ends of the pipe.

Two frameworks that run in turn must not share a process: they need different interpreters, and
the memory of one is not to be counted for the other. Imports neither JAX nor PyTorch, since both
interpreters run it.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

ROOT = Path(__file__).parents[1]

# Buffers from this size on come from the system and go back to it when they are freed, so that a
# peak of resident memory shows what is in use and not what the allocator keeps.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}


class Answering(Protocol):
    """What can be asked to run its steps."""

    def ask(self, question: str, *words: str) -> dict[str, Any]:
        """The answer."""
        ...


class Worker:
    """A process that answers questions, one line each, until the ``with`` block ends."""

    def __init__(
        self, python: str, module: str, settings: Mapping[str, Any], *, gives_back: bool = False
    ):
        words = [f"--{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            [python, "-m", module, *words],
            cwd=ROOT,
            env=os.environ | (GIVE_BACK if gives_back else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._module = module

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, question: str, *words: str) -> dict[str, Any]:
        """The answer, or ``{"error": why}`` where the step failed.

        Raises:
          RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(" ".join((question, *words)) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.close()
            raise RuntimeError(
                f"{self._module} ended with status {self._process.returncode} at {question} "
                f"{' '.join(words)}; -9 is what too little memory gives: take fewer --classes or "
                "leave --heads out."
            )
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def serve(answers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answers the lines of standard input until it ends; nothing else may print there."""
    for line in sys.stdin:
        question, *words = line.split()
        try:
            answer = answers[question](*words)
        except Exception as error:  # The other steps of this process can still be asked for.
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps(answer), flush=True)


def settings_of_worker(**types: Callable[[str], Any]) -> argparse.Namespace:
    """What both sides are given on their command line, by name and type."""
    parser = argparse.ArgumentParser()
    for name, kind in types.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    return parser.parse_args()


def keep_to(threads: int) -> None:
    """Keeps this process to so many processors; before a framework counts them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def timed(step: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """(what the step gives, seconds on the clock and of all processors)."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = step()
    return result, {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
    }


def resident_growth(step: Callable[[], Any]) -> int | None:
    """Bytes by which resident memory grew at most during a step; None where Linux is not."""
    # What earlier steps gave may still be held by a thread of the framework.
    gc.collect()
    time.sleep(0.2)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")
