"""Our layers beside XLA's own way, as time ratios on this machine.

Command   python -m benchmarks.layers
Prints    for each layer and shape the median time of both over ROUNDS alternations, and XLA's time
          as a multiple of ours
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from experiments.environment import prefer_fast_cpu_convolutions

prefer_fast_cpu_convolutions()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from arcface_jax.models.convolution import by_xla, convolution  # noqa: E402
from arcface_jax.models.grouped import grouped_convolution  # noqa: E402
from arcface_jax.models.normalization import sum_rows  # noqa: E402

ROUNDS = 15
# (images, side, channels): feature maps of resnet_small at 32 px and of MobileFaceNet at 112 px.
DENSE = ((128, 32, 16), (128, 16, 32), (128, 8, 64), (128, 4, 128))
DEPTHWISE = ((16, 56, 64), (16, 28, 128), (16, 14, 256))


def gradients(convolve: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The compiled gradients to input and kernel, given that to the output."""
    return jax.jit(lambda x, kernel, grad: jax.vjp(convolve, x, kernel)[1](grad))


def compare(name: str, ours: Callable[..., Any], theirs: Callable[..., Any], *inputs: Any) -> None:
    """Prints the median times of both, run in turn after one call that compiles."""
    taken: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 1):
        for function, seconds in zip((ours, theirs), taken, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*inputs))
            if round_number:
                seconds.append(time.perf_counter() - start)
    mine, other = map(statistics.median, taken)
    print(f"{name:44}{1e3 * mine:10.2f}{1e3 * other:10.2f}{other / mine:12.1f}", flush=True)


def compare_convolutions(shape: tuple[int, int, int], *, stride: int, grouped: bool) -> None:
    """Gradients of 3 x 3 convolutions, and the grouped ones themselves."""
    images, side, channels = shape
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (images, side, side, channels))
    kernel = jax.random.normal(keys[1], (3, 3, 1 if grouped else channels, channels))
    convolve = grouped_convolution if grouped else convolution

    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(x, kernel, stride, 1)

    groups = channels if grouped else 1
    theirs = functools.partial(by_xla, stride=stride, padding=1, groups=groups)
    name = "depthwise" if grouped else "dense"
    label = f"{name}, stride {stride}, {side} x {side} x {channels}"
    if grouped:
        compare(label, jax.jit(ours), jax.jit(theirs), x, kernel)
    grad = jax.random.normal(keys[2], jax.eval_shape(theirs, x, kernel).shape)
    compare(f"{label}, gradients", gradients(ours), gradients(theirs), x, kernel, grad)


def main() -> None:
    """Prints the table."""
    print(f"{'':44}{'ours, ms':>10}{'XLA, ms':>10}{'XLA / ours':>12}")
    for shape in DENSE:
        compare_convolutions(shape, stride=2, grouped=False)
    for shape in DEPTHWISE:
        for stride in (1, 2):
            compare_convolutions(shape, stride=stride, grouped=True)
    row_sums = jax.jit(lambda x: jnp.sum(x, axis=(0, 1, 2)))
    our_row_sums = jax.jit(lambda x: sum_rows(lambda part: part, x))
    for images, side, channels in DENSE:
        x = jax.random.normal(jax.random.key(0), (images, side, side, channels))
        compare(f"sum over rows, {side} x {side} x {channels}", our_row_sums, row_sums, x)


if __name__ == "__main__":
    main()
