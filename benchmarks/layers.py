"""Our layers beside XLA's own way, as time ratios on this machine.

Command   python -m benchmarks.layers
Prints    for each shape the median time of both over ROUNDS alternations, and their ratio
"""

import statistics
import time
from collections.abc import Callable

from experiments.environment import prefer_fast_cpu_convolutions

prefer_fast_cpu_convolutions()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from arcface_jax.models.normalization import sum_rows  # noqa: E402
from arcface_jax.models.strided import halving_convolution  # noqa: E402

BATCH = 128
ROUNDS = 15
# Feature maps of resnet_small at 32 px: side and channels before each halving.
SHAPES = ((32, 16), (16, 32), (8, 64), (4, 128))


def plain_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same convolution with the gradients that XLA derives."""
    layout = ("NHWC", "HWIO", "NHWC")
    pads = ((1, 1), (1, 1))
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), pads, dimension_numbers=layout)


def input_gradient(convolution: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The compiled gradient to the input, given that to the output."""
    return jax.jit(lambda x, kernel, g: jax.vjp(lambda x: convolution(x, kernel), x)[1](g)[0])


def alternate(ours: Callable[[], jax.Array], theirs: Callable[[], jax.Array]) -> tuple[float, ...]:
    """Median seconds of both, run in turn after one call that compiles."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 1):
        for function, seconds in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            function().block_until_ready()
            if round_number:
                seconds.append(time.perf_counter() - start)
    return tuple(map(statistics.median, times))


def main() -> None:
    """Prints the table."""
    ours = input_gradient(lambda x, kernel: halving_convolution(x, kernel, 1))
    theirs = input_gradient(plain_convolution)
    row_sums = jax.jit(lambda x: jnp.sum(x, axis=(0, 1, 2)))
    our_row_sums = jax.jit(sum_rows)
    print(f"{'':34}{'ours, ms':>10}{'XLA, ms':>10}{'XLA / ours':>12}")
    for side, channels in SHAPES:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (BATCH, side, side, channels))
        kernel = jax.random.normal(keys[1], (3, 3, channels, channels))
        g = jax.random.normal(keys[2], (BATCH, side // 2, side // 2, channels))
        shape = f"{side} x {side} x {channels}"
        for name, pair in {
            f"stride-2 input gradient {shape}": (
                lambda x=x, kernel=kernel, g=g: ours(x, kernel, g),
                lambda x=x, kernel=kernel, g=g: theirs(x, kernel, g),
            ),
            f"sum over rows {shape}": (lambda x=x: our_row_sums(x), lambda x=x: row_sums(x)),
        }.items():
            mine, other = alternate(*pair)
            print(f"{name:34}{1e3 * mine:10.2f}{1e3 * other:10.2f}{other / mine:12.1f}")


if __name__ == "__main__":
    main()
