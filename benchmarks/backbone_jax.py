"""Training and inference of a backbone, as steps for backbone.py."""

import os
from typing import Any

from benchmarks.timed_steps import keep_to, serve, settings_of_worker, timed
from experiments.environment import keep_freed_memory, prefer_fast_cpu_convolutions

SETTINGS = settings_of_worker(model=str, batch=int, dtype=str, threads=int, state=str)
# Before JAX counts the processors. PyTorch may want the rest of a GPU's memory.
keep_to(SETTINGS.threads)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
prefer_fast_cpu_convolutions()
keep_freed_memory()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402

import arcface_jax as af  # noqa: E402

RATE, MOMENTUM, DECAY = 1e-3, 0.9, 5e-4


def main() -> None:
    """Serves the steps ``train``, ``embed`` and ``square``."""
    config = af.models.configure(SETTINGS.model, dtype=jnp.dtype(SETTINGS.dtype))
    model = config.build(rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    fixed = nnx.graphdef(nnx.view(model, use_running_average=True, deterministic=True))
    optimizer = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM))
    rng = np.random.default_rng(0)
    shape = (SETTINGS.batch, config.image_size, config.image_size, config.channels)
    images = jax.device_put(rng.uniform(-1.0, 1.0, shape).astype(np.float32))
    weights = jax.device_put(
        rng.standard_normal((SETTINGS.batch, config.embedding_dim), np.float32)
    )
    squares: dict[int, jax.Array] = {}

    def loss(params: Any, rest: Any) -> tuple[jax.Array, Any]:
        network = nnx.merge(graphdef, params, rest, copy=True)
        value = jnp.sum(network(images) * weights) / SETTINGS.batch
        return value, nnx.state(network, nnx.Not(nnx.Param))

    def train(state: Any) -> tuple[Any, jax.Array]:
        params, rest, moments = state
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params, rest)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), rest, moments), value

    step = jax.jit(train, donate_argnums=0)
    embed = jax.jit(lambda params, rest: nnx.merge(fixed, params, rest)(images))
    multiply = jax.jit(lambda a: jnp.matmul(a, a))
    held = {"state": (params, rest, optimizer.init(params))}

    def run_square(size: int) -> None:
        if size not in squares:
            squares[size] = jax.random.normal(jax.random.key(1), (size, size), SETTINGS.dtype)
        multiply(squares[size]).block_until_ready()

    def run_train() -> None:
        held["state"], value = step(held["state"])
        value.block_until_ready()

    def time(name: str, size: str = "0") -> dict[str, Any]:
        steps = {
            "train": run_train,
            "embed": lambda: embed(*held["state"][:2]).block_until_ready(),
            "square": lambda: run_square(int(size)),
        }
        return timed(steps[name])[1]

    def check() -> dict[str, Any]:
        """Leaves the state for the peer and tells the loss in it."""
        np.savez(SETTINGS.state, **af.convert.to_state_dict(model))
        return {"loss": float(jax.jit(loss)(params, rest)[0])}

    def about() -> dict[str, Any]:
        device = jax.devices()[0]
        return {
            "version": f"jax {jax.__version__}",
            "backend": jax.default_backend(),
            "device": device.device_kind,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
        }

    serve({"time": time, "check": check, "about": about})


if __name__ == "__main__":
    main()
