"""Steps of two frameworks in turn, and the ratios of what they took."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.timed_steps import ROOT, Answering

NO_PEER = (
    "PyTorch is not measured: .venv-peers is missing. Run `make peers`, or let "
    "ARCFACE_PEERS_PYTHON name an interpreter that has torch; --no_pytorch hides this line."
)
# OpenMP's threads spin for milliseconds after a step; they should not do so in the next one.
PAUSE_SECONDS = 0.02
# Side of the square product, large enough for the machine's full rate.
SQUARES = {"cpu": 2048, "gpu": 8192}

# (side, step): all that takes part in an alternation.
Step = tuple[str, str]


def peers_python() -> str | None:
    """The interpreter that has PyTorch, or None."""
    named = os.environ.get("ARCFACE_PEERS_PYTHON")
    if named:
        return named
    if not (ROOT / ".venv-peers" / "installed").exists():
        return None
    return str(ROOT / ".venv-peers" / "bin" / "python")


def alternate(
    workers: Mapping[str, Answering], steps: Sequence[Step], *, rounds: int, square: int
) -> tuple[dict[Step, list[dict[str, Any]]], dict[Step, str]]:
    """(what each step took in each round, why a step failed), after one round that compiles."""
    taken: dict[Step, list[dict[str, Any]]] = {step: [] for step in steps}
    failed: dict[Step, str] = {}
    for number in range(rounds + 1):
        shift = number % len(steps)
        for side, name in [*steps[shift:], *steps[:shift]]:
            if (side, name) in failed:
                continue
            time.sleep(PAUSE_SECONDS)
            words = (name, str(square)) if name == "square" else (name,)
            answer = workers[side].ask("time", *words)
            if "error" in answer:
                failed[side, name] = answer["error"]
            elif number:
                taken[side, name].append(answer)
    return {step: answers for step, answers in taken.items() if step not in failed}, failed


def median_of(answers: Sequence[Mapping[str, Any]], measure: str = "seconds") -> float:
    """The median of what the rounds took."""
    return statistics.median(answer[measure] for answer in answers)


def ratios(
    answers: Sequence[Mapping[str, Any]], against: Sequence[Mapping[str, Any]], measure: str
) -> list[float]:
    """The ratio of each round, ascending: what slows the machine slows both."""
    pairs = zip(answers, against, strict=True)
    return sorted(mine[measure] / other[measure] for mine, other in pairs)


def ratio_in_words(
    answers: Sequence[Mapping[str, Any]], against: Sequence[Mapping[str, Any]] | None
) -> str:
    """The median ratio of times with the least and the most of all rounds."""
    if against is None:
        return "-"
    found = ratios(answers, against, "seconds")
    return f"{statistics.median(found):.2f} ({found[0]:.2f}, {found[-1]:.2f})"


def processor_ratio(
    answers: Sequence[Mapping[str, Any]], against: Sequence[Mapping[str, Any]] | None
) -> str:
    """The median ratio of the time of all processors, which other processes disturb less."""
    if against is None:
        return "-"
    return f"{statistics.median(ratios(answers, against, 'cpu_seconds')):.2f}"


def in_megabytes(size: int | None) -> str:
    """Bytes as 10^6 bytes."""
    return "-" if size is None else f"{size / 1e6:.1f}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints Markdown."""
    for row in (header, ["---"] + ["---:"] * (len(header) - 1), *rows):
        print(f"| {' | '.join(row)} |", flush=True)
