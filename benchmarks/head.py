r"""Our heads beside PyTorch doing what arcface_torch does, as ratios on this machine.

Command   python -m benchmarks.head [--batch 64 128] [--classes 100000] [--dtype bfloat16]
          python -m benchmarks.head --overhead --batch 128 --classes 10000
Prints    for each size, of value and gradients to embeddings and centres: the median time over
          ROUNDS alternations, its ratio to PyTorch's in the same round, the share of the machine's
          matrix rate that three products in that time are, and the memory a step takes beyond
          parameters and their gradients; with --overhead what ArcFace costs above norm-softmax
Targets   fused on CPU at B = 64 and 128, C = 100k: at most 0.8 x PyTorch's time and 1/8 of its
          memory; on an H200 with bfloat16 products 60 % of the matrix rate; ArcFace at most
          1.02 x norm-softmax by hand
PyTorch   in .venv-peers (make peers) or the interpreter that ARCFACE_PEERS_PYTHON names

Both sides run in processes of their own, on equally many processors, one step at a time in an
order that shifts by one each round. Runs on whatever device JAX and PyTorch find.
"""

import argparse
import contextlib
import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.alternation import (
    NO_PEER,
    SQUARES,
    Step,
    alternate,
    in_megabytes,
    median_of,
    peers_python,
    print_table,
    processor_ratio,
    ratio_in_words,
    ratios,
)
from benchmarks.timed_steps import Worker

OURS, PEER = "benchmarks.head_jax", "benchmarks.head_pytorch"
LEGEND = """
x PyTorch: median of the rounds' ratios. processor time: the same ratio of the time of all
processors. floor: what the products alone take at the machine's rate, 3 of them or 4 where a
backward pass forms the logits again, as a ratio to PyTorch's time. 3 products: share of that rate,
a sampled head's of its sample. working MB: peak of memory beyond parameters and gradients, in a
process that is not timed. temporary MB: the same as the compiler plans it; the gradients are
outputs and not in it.
"""
LEAST_OVERHEAD_ROUNDS = 30
OVERHEAD = {
    "by_hand": "norm-softmax by hand",
    "dense/norm_softmax": "norm-softmax, dense",
    "dense/arcface": "ArcFace, dense",
    "fused/norm_softmax": "norm-softmax, fused",
    "fused/arcface": "ArcFace, fused",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    asked = parse(arguments)
    peer = None if asked.no_pytorch or asked.overhead else peers_python()
    if peer is None and not (asked.no_pytorch or asked.overhead):
        print(NO_PEER)
    for classes in asked.classes:
        for batch in asked.batch:
            sizes = {
                "batch": batch,
                "classes": classes,
                "dim": asked.dim,
                "dtype": asked.dtype,
                "threads": asked.threads,
            }
            print(f"\nB = {batch}, C = {classes}, D = {asked.dim}, {asked.dtype} products\n")
            if asked.overhead:
                compare_margins(sizes, asked)
            else:
                compare_heads(sizes, asked, peer)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.head",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    several: dict[str, Any] = {"nargs": "+", "metavar": "N"}
    parser.add_argument("--batch", type=int, default=[64, 128, 512], help="sizes B", **several)
    parser.add_argument(
        "--classes", type=int, default=[10_000, 100_000], help="numbers of classes C", **several
    )
    parser.add_argument("--dim", type=int, default=512, help="of the embeddings, D")
    parser.add_argument("--rounds", type=int, help="alternations (5; 30 with --overhead)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=processors, help="of either side")
    parser.add_argument("--rate", type=float, default=0.1, help="of the sampled head")
    parser.add_argument(
        "--heads",
        nargs="+",
        choices=("dense", "fused", "sampled"),
        default=["dense", "fused", "sampled"],
        help="those to measure, where memory does not allow all",
    )
    parser.add_argument("--blocks", type=int, nargs="+", default=[], help="further fused heads")
    parser.add_argument("--no_pytorch", action="store_true", help="measure ours alone")
    parser.add_argument("--overhead", action="store_true", help="ArcFace beside norm-softmax")
    asked = parser.parse_args(arguments)
    least = LEAST_OVERHEAD_ROUNDS if asked.overhead else 1
    asked.rounds = asked.rounds or max(5, least)
    if asked.overhead and asked.rounds < LEAST_OVERHEAD_ROUNDS:
        print(f"{asked.rounds} rounds: a smoke run; {LEAST_OVERHEAD_ROUNDS} are the least to quote")
    return asked


def check_losses(taken: Mapping[Step, list[dict[str, Any]]], *, dtype: str) -> None:
    """Refuses to compare programs that do not compute the same; a sample has another loss."""
    losses = {
        step: answers[0]["loss"]
        for step, answers in taken.items()
        if "sampled" not in step[1] and answers[0]["loss"] is not None
    }
    if not losses:
        return
    # Three digits are what the cosines have in bfloat16.
    tolerance = 1e-4 if dtype == "float32" else 1e-2
    if not math.isclose(min(losses.values()), max(losses.values()), rel_tol=tolerance):
        raise RuntimeError(f"the losses differ: {losses}")


def working_memory(
    python: str, module: str, settings: Mapping[str, Any], names: Sequence[str], *, fresh: bool
) -> dict[str, dict[str, Any]]:
    """What each step takes beyond parameters and gradients, measured away from the timing.

    With ``fresh`` each step has a process of its own: a GPU's peak cannot be set back.
    """
    found: dict[str, dict[str, Any]] = {}
    for together in [[name] for name in names] if fresh else [names]:
        with Worker(python, module, settings, gives_back=True) as worker:
            found |= {name: worker.ask("memory", name) for name in together}
    return found


def compare_heads(sizes: Mapping[str, Any], asked: argparse.Namespace, peer: str | None) -> None:
    """Prints the table of one size."""
    ours = {
        "dense": ["dense"],
        "fused": ["fused", *(f"fused:{block}" for block in asked.blocks)],
        "sampled": [f"sampled:{asked.rate}", f"rows/sampled:{asked.rate}"],
    }
    heads = [name for kind in asked.heads for name in ours[kind]]
    pythons = {"ours": (sys.executable, OURS)} | ({"peer": (peer, PEER)} if peer else {})
    steps = [("ours", name) for name in (*heads, "product", "square")]
    if peer:
        steps += [("peer", name) for name in ("loss", "product", "square")]
    with contextlib.ExitStack() as stack:
        workers = {
            side: stack.enter_context(Worker(*python_and_module, sizes))
            for side, python_and_module in pythons.items()
        }
        about = {side: worker.ask("about") for side, worker in workers.items()}
        backend = about["ours"]["backend"]
        square = SQUARES.get(backend, SQUARES["gpu"])
        classes = {
            name: workers["ours"].ask("sample", name)["classes"]
            for name in heads
            if "sampled" in name
        }
        taken, failed = alternate(workers, steps, rounds=asked.rounds, square=square)
    check_losses(taken, dtype=asked.dtype)

    fresh = backend != "cpu"
    done = [name for name in heads if ("ours", name) in taken]
    memory = working_memory(sys.executable, OURS, sizes, done, fresh=fresh)
    loss = ("peer", "loss")
    if peer and loss in taken:
        memory |= working_memory(peer, PEER, sizes, ["loss"], fresh=fresh)

    one_product = 2.0 * sizes["batch"] * sizes["classes"] * sizes["dim"]
    rates = {
        step: (2.0 * square**3 if step[1] == "square" else one_product) / median_of(answers)
        for step, answers in taken.items()
        if step[1] in ("product", "square")
    }
    rate = max(rates.values())

    rows = []
    for name, step in [("loss", loss), *((name, ("ours", name)) for name in heads)]:
        if step not in taken:
            continue
        product = one_product * (classes.get(name) or sizes["classes"]) / sizes["classes"]
        seconds = median_of(taken[step])
        products = 4 if "fused" in name or "sampled" in name else 3
        against = taken.get(loss)
        rows.append(
            [
                label(name),
                f"{1e3 * seconds:.1f}",
                ratio_in_words(taken[step], against),
                processor_ratio(taken[step], against) if backend == "cpu" else "-",
                f"{products * product / rate / median_of(against):.2f}" if against else "-",
                f"{100 * 3 * product / seconds / rate:.0f} %",
                in_megabytes(memory[name].get("working")),
                memory_ratio(memory[name], memory.get("loss")),
                in_megabytes(memory[name].get("temporary")),
            ]
        )
    print_table(
        [
            "head",
            "ms",
            "x PyTorch (least, most)",
            "processor time",
            "floor",
            "3 products",
            "working MB",
            "x PyTorch",
            "temporary MB",
        ],
        rows,
    )
    print(LEGEND)
    for side, facts in about.items():
        print("ours:" if side == "ours" else "peer:", ", ".join(f"{facts[key]}" for key in facts))
    if len({facts["backend"] for facts in about.values()}) > 1:
        print("The two sides ran on different kinds of device: their ratio means nothing.")
    print(
        "matrix rate, GFLOP/s: "
        + ", ".join(f"{side} {name} {value / 1e9:.1f}" for (side, name), value in rates.items())
    )
    for (side, name), why in failed.items():
        print(f"left out: {side} {name}: {why}")


def compare_margins(sizes: Mapping[str, Any], asked: argparse.Namespace) -> None:
    """Prints what ArcFace takes beside norm-softmax, in processor time where there is no GPU."""
    steps = [("ours", name) for name in OVERHEAD]
    with Worker(sys.executable, OURS, sizes) as worker:
        about = worker.ask("about")
        taken, failed = alternate({"ours": worker}, steps, rounds=asked.rounds, square=0)
        if failed:
            raise RuntimeError(f"not measured: {failed}")
        costs = {name: worker.ask("cost", name) for name in OVERHEAD}
    plain = {step: answers for step, answers in taken.items() if "arcface" not in step[1]}
    check_losses(plain, dtype=asked.dtype)
    measure = "cpu_seconds" if about["backend"] == "cpu" else "seconds"
    rows = []
    for step in taken:
        name = step[1]
        own = ("ours", f"{name.partition('/')[0]}/norm_softmax")
        rows.append(
            [
                OVERHEAD[name],
                f"{1e3 * median_of(taken[step], measure):.2f}",
                with_interval(taken[step], taken["ours", "by_hand"], measure),
                with_interval(taken[step], taken[own], measure) if "arcface" in name else "-",
                f"{costs[name]['flops'] / 1e9:.4f}",
                f"{costs[name]['bytes'] / 1e6:.2f}",
            ]
        )
    print_table(
        [
            "program",
            "processor ms" if measure == "cpu_seconds" else "ms",
            "x by hand [95 %]",
            "x same head's norm-softmax [95 %]",
            "GFLOP",
            "MB moved",
        ],
        rows,
    )
    print(f"\nours: {', '.join(map(str, about.values()))}; {asked.rounds} alternations")
    print("FLOPs and bytes are the compiler's, which counts the body of fused's loop once.")


def label(name: str) -> str:
    """What a row of the table is called."""
    if name == "loss":
        return "PyTorch"
    head = name.removeprefix("rows/").replace(":", " ")
    return f"{head}, gradient of its rows" if name.startswith("rows/") else head


def rank_of_interval(count: int) -> int | None:
    """The k for which the k-th smallest and k-th largest enclose the median with 95 %.

    Whatever the distribution: the chance that fewer than k of ``count`` lie below the median is
    at most 2.5 %. None where there are too few.
    """
    chance, k = 0.0, 0
    while (chance := chance + math.comb(count, k) / 2.0**count) <= 0.025:
        k += 1
    return k or None


def with_interval(
    answers: Sequence[Mapping[str, Any]], against: Sequence[Mapping[str, Any]], measure: str
) -> str:
    """The median of the rounds' ratios with its 95 % interval."""
    found = ratios(answers, against, measure)
    rank = rank_of_interval(len(found))
    interval = f" [{found[rank - 1]:.3f}, {found[-rank]:.3f}]" if rank else ""
    return f"{statistics.median(found):.3f}{interval}"


def memory_ratio(mine: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    """The ratio of working memory where both are known."""
    known = mine.get("working"), (other or {}).get("working")
    if known[0] is None or not known[1]:
        return "-"
    return f"{known[0] / known[1]:.3f}"


if __name__ == "__main__":
    main()
