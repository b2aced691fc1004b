"""Our heads, and norm-softmax written by hand, as steps for head.py."""

import os
from collections.abc import Callable
from typing import Any

from benchmarks.timed_steps import keep_to, resident_growth, serve, settings_of_worker, timed
from experiments.environment import prefer_fast_cpu_convolutions

SETTINGS = settings_of_worker(batch=int, classes=int, dim=int, threads=int, dtype=str)
# Before JAX counts the processors. PyTorch may want the rest of a GPU's memory.
keep_to(SETTINGS.threads)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
prefer_fast_cpu_convolutions()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import Array  # noqa: E402

import arcface_jax as af  # noqa: E402

# What PyTorch's float32 is too; in bfloat16 sums are still float32. XLA's CPU ignores the latter.
PRECISIONS = {
    "float32": jax.lax.Precision.HIGHEST,
    "bfloat16": jax.lax.DotAlgorithmPreset.BF16_BF16_F32,
}
PRECISION = PRECISIONS[SETTINGS.dtype]
SCALE = 64.0
MARGINS = {"arcface": af.arcface(0.5), "norm_softmax": af.norm_softmax()}

Loss = Callable[[Array, Array, Array, Array], Array]


def norm_softmax_by_hand(x: Array, w: Array, labels: Array, key: Array) -> Array:
    """Cross entropy of scaled cosines, with no margin anywhere in the code."""
    del key
    x = x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=1, keepdims=True))
    w = w * jax.lax.rsqrt(jnp.sum(jnp.square(w), axis=1, keepdims=True))
    logits = SCALE * jnp.matmul(x, w.T, precision=PRECISION)
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - own)


def loss_on(head: Any, margin: str) -> Loss:
    """The mean loss of a margin on a head."""

    def loss(x: Array, w: Array, labels: Array, key: Array) -> Array:
        drawn = key if head.samples_classes else None
        return jnp.mean(
            af.margin_softmax_loss(
                x, w, labels, margin=MARGINS[margin], scale=SCALE, head=head, key=drawn
            )
        )

    return loss


def head_named(name: str) -> Any:
    """``dense``, ``fused``, ``fused:BLOCK`` or ``sampled:RATE``."""
    kind, _, number = name.partition(":")
    if kind == "dense":
        return af.heads.Dense(precision=PRECISION)
    if kind == "fused":
        return af.heads.Fused(block=int(number) if number else None, precision=PRECISION)
    if kind == "sampled":
        return af.heads.Sampled(rate=float(number), head=af.heads.Fused(precision=PRECISION))
    raise ValueError(f"unknown head {name!r}")


def program(name: str) -> Callable[..., Any]:
    """The function to compile: value and gradients, or a product.

    Names: a head, a head and a margin (``dense/norm_softmax``), ``by_hand``, ``rows/sampled:RATE``
    for the gradient to the sampled rows alone, ``product``, ``square``.
    """
    if name == "product":
        return lambda x, w, labels, key: jnp.matmul(x, w.T, precision=PRECISION)
    if name == "square":
        return lambda a: jnp.matmul(a, a, precision=PRECISION)
    if name == "by_hand":
        return jax.value_and_grad(norm_softmax_by_hand, argnums=(0, 1))
    if name.startswith("rows/"):
        head = head_named(name.removeprefix("rows/"))

        def on_sample(x: Array, w: Array, labels: Array, key: Array) -> Any:
            sample = head.draw(labels, num_classes=w.shape[0], key=key)
            step = jax.value_and_grad(loss_on(head.on(sample), "arcface"), argnums=(0, 1))
            return step(x, sample.take(w), labels, key)

        return on_sample
    head, _, margin = name.partition("/")
    return jax.value_and_grad(loss_on(head_named(head), margin or "arcface"), argnums=(0, 1))


def main() -> None:
    """Serves the steps."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SETTINGS.batch, SETTINGS.dim), np.float32)
    w = rng.standard_normal((SETTINGS.classes, SETTINGS.dim), np.float32)
    labels = rng.integers(0, SETTINGS.classes, SETTINGS.batch).astype(np.int32)
    device = jax.devices()[0]
    inputs = jax.device_put((x, w, labels, jax.random.key(0)), device)
    del x, w, labels
    squares: dict[str, Array] = {}
    compiled: dict[str, Any] = {}

    def arguments(name: str) -> tuple[Any, ...]:
        return (squares[name],) if name in squares else inputs

    def ready(name: str, size: str = "0") -> Any:
        if name == "square" and name not in squares:
            squares[name] = jax.random.normal(jax.random.key(1), (int(size), int(size)))
        if name not in compiled:
            compiled[name] = jax.jit(program(name)).lower(*arguments(name)).compile()
        return compiled[name]

    def time(name: str, size: str = "0") -> dict[str, Any]:
        step = ready(name, size)
        result, taken = timed(lambda: jax.block_until_ready(step(*arguments(name))))
        return taken | {"loss": float(result[0]) if isinstance(result, tuple) else None}

    def memory(name: str) -> dict[str, Any]:
        step = ready(name)
        analysis = step.memory_analysis()
        held = sum(leaf.nbytes for leaf in inputs)
        time(name)
        if device.platform == "cpu":
            peak = resident_growth(lambda: jax.block_until_ready(step(*inputs)))
        else:
            peak = device.memory_stats()["peak_bytes_in_use"] - held
        return {
            "working": None if peak is None else peak - analysis.output_size_in_bytes,
            "temporary": analysis.temp_size_in_bytes,
        }

    def cost(name: str) -> dict[str, Any]:
        costs = ready(name).cost_analysis()
        return {"flops": costs["flops"], "bytes": costs["bytes accessed"]}

    def sample(name: str) -> dict[str, Any]:
        head = head_named(name.removeprefix("rows/"))
        return {"classes": head.size(rows=SETTINGS.batch, num_classes=SETTINGS.classes)}

    def about() -> dict[str, Any]:
        return {
            "version": f"jax {jax.__version__}",
            "backend": jax.default_backend(),
            "device": device.device_kind,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
        }

    serve({"time": time, "memory": memory, "cost": cost, "sample": sample, "about": about})


if __name__ == "__main__":
    main()
