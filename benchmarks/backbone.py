r"""Our backbones beside the same networks in PyTorch, as ratios on this machine.

Command   python -m benchmarks.backbone [--models resnet_small iresnet50] [--batch 32]
Prints    for each network the median time over ROUNDS alternations of a training step (forward,
          backward, running statistics, SGD with momentum and decay) and of inference, its ratio to
          the fastest of PyTorch's ways in the same rounds, and the share of the machine's matrix
          rate that the convolutions and products are (MFU; training counts them three times)
Targets   at least as fast as PyTorch on a CPU, 1.2 times as fast on a GPU in bfloat16
PyTorch   in .venv-peers (make peers) or the interpreter that ARCFACE_PEERS_PYTHON names; eager, in
          both memory layouts, and on a GPU compiled as well

Both sides start from the same weights and are refused where their losses differ. They run in
processes of their own, on equally many processors, one step at a time in an order that shifts by
one each round.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.alternation import (
    NO_PEER,
    SQUARES,
    Step,
    alternate,
    median_of,
    peers_python,
    print_table,
    processor_ratio,
    ratio_in_words,
)
from benchmarks.timed_steps import Worker
from experiments.environment import prefer_fast_cpu_convolutions

OURS, PEER = "benchmarks.backbone_jax", "benchmarks.backbone_pytorch"
# Images in a batch where --batch does not say.
BATCHES = {
    "cpu": {"resnet_small": 128, "mobilefacenet": 16, "iresnet18": 8, "iresnet50": 8},
    "gpu": {"iresnet18": 512, "iresnet50": 512, "mobilefacenet": 512},
}
VARIANTS = {
    "cpu": ("contiguous", "channels_last"),
    "gpu": ("channels_last", "compiled"),
}
# A training step costs about three forward passes: one, and two gradients.
PASSES = {"train": 3, "embed": 1}
# Structure that PyTorch's side builds its network from.
STRUCTURE = ("depths", "widths", "blocks", "scale", "embedding_dim", "image_size", "channels")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    asked = parse(arguments)
    peer = None if asked.no_pytorch else peers_python()
    if peer is None and not asked.no_pytorch:
        print(NO_PEER)
    prefer_fast_cpu_convolutions()
    for model in asked.models:
        compare(model, asked, peer)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backbone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        default=list(BATCHES["cpu"]),
        help="registered names of IResNets and MobileFaceNets",
    )
    parser.add_argument("--batch", type=int, help="images; without it what suits the device")
    parser.add_argument("--rounds", type=int, default=5, help="alternations")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="float32; GPU: bfloat16")
    parser.add_argument("--threads", type=int, default=processors, help="of either side")
    parser.add_argument("--steps", nargs="+", choices=tuple(PASSES), default=list(PASSES))
    parser.add_argument("--no_pytorch", action="store_true", help="measure ours alone")
    return parser.parse_args(arguments)


def described(config: Any) -> str:
    """What PyTorch's side makes the network from, as JSON."""
    fields = {name: value for name, value in vars(config).items() if name in STRUCTURE}
    return json.dumps({"type": type(config).__name__.removesuffix("Config"), **fields})


def compare(model: str, asked: argparse.Namespace, peer: str | None) -> None:
    """Prints the table of one network."""
    # Imported late: --help answers at once.
    import jax

    import arcface_jax as af

    config = af.models.configure(model)
    backend = "cpu" if jax.default_backend() == "cpu" else "gpu"
    batch = asked.batch or BATCHES[backend].get(model, 8 if backend == "cpu" else 128)
    dtype = asked.dtype or ("float32" if backend == "cpu" else "bfloat16")
    macs = af.models.count(config).macs
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        common = {
            "batch": batch,
            "dtype": dtype,
            "threads": asked.threads,
            "state": Path(folder) / "state.npz",
        }
        workers = {
            "ours": stack.enter_context(Worker(sys.executable, OURS, {"model": model, **common}))
        }
        losses = {"ours": workers["ours"].ask("check")["loss"]}
        steps: list[Step] = [("ours", name) for name in (*asked.steps, "square")]
        if peer:
            settings = {"config": described(config), **common}
            workers["peer"] = stack.enter_context(Worker(peer, PEER, settings))
            answer = workers["peer"].ask("check")
            if "error" in answer:
                raise RuntimeError(f"PyTorch cannot run {model}: {answer['error']}")
            losses["peer"] = answer["loss"]
            check_losses(losses, dtype=dtype)
            variants = [f"{name}/{way}" for name in asked.steps for way in VARIANTS[backend]]
            steps += [("peer", name) for name in (*variants, "square")]
        about = {side: worker.ask("about") for side, worker in workers.items()}
        taken, failed = alternate(workers, steps, rounds=asked.rounds, square=SQUARES[backend])
    print(f"\n{model}, {config.image_size} px, batch {batch}, {dtype}\n")
    print_rows(taken, names=asked.steps, batch=batch, macs=macs, square=SQUARES[backend])
    print()
    for side, facts in about.items():
        print(f"{side}:", ", ".join(f"{facts[key]}" for key in facts))
    if len({facts["backend"] for facts in about.values()}) > 1:
        print("The two sides ran on different kinds of device: their ratio means nothing.")
    for (side, name), why in failed.items():
        print(f"left out: {side} {name}: {why}")


def check_losses(losses: Mapping[str, float], *, dtype: str) -> None:
    """Refuses to compare networks that do not compute the same."""
    tolerance = 1e-3 if dtype == "float32" else 1e-1
    if not math.isclose(losses["ours"], losses["peer"], rel_tol=tolerance, abs_tol=tolerance):
        raise RuntimeError(f"the losses differ: {losses}")


def print_rows(
    taken: Mapping[Step, list[dict[str, Any]]],
    *,
    names: Sequence[str],
    batch: int,
    macs: int,
    square: int,
) -> None:
    """The table of one network."""
    rate = max(
        2.0 * square**3 / median_of(answers)
        for (_, name), answers in taken.items()
        if name == "square"
    )
    rows = []
    for name in names:
        ways = {s: a for s, a in taken.items() if s[1].partition("/")[0] == name}
        fastest = min(
            (step for step in ways if step[0] == "peer"),
            key=lambda step: median_of(taken[step]),
            default=None,
        )
        against = None if fastest is None else taken[fastest]
        for (side, way), answers in ways.items():
            seconds = median_of(answers)
            flops = 2.0 * macs * batch * PASSES[name]
            rows.append(
                [
                    "ours" if side == "ours" else f"PyTorch, {way.partition('/')[2]}",
                    name,
                    f"{1e3 * seconds:.1f}",
                    f"{batch / seconds:.0f}",
                    ratio_in_words(answers, against),
                    processor_ratio(answers, against),
                    f"{100 * flops / seconds / rate:.0f} %",
                ]
            )
    print_table(
        [
            "network",
            "step",
            "ms",
            "images/s",
            "x fastest PyTorch's time (least, most)",
            "processor time",
            "MFU",
        ],
        rows,
    )
    print(f"\nmatrix rate: {rate / 1e9:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
