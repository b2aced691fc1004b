"""The same backbone in PyTorch, for backbone.py: the networks that the tests compare ours with."""

import json
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.timed_steps import keep_to, serve, settings_of_worker, timed
from tests.conformance.torch_backbones import build

RATE, MOMENTUM, DECAY = 1e-3, 0.9, 5e-4


def main() -> None:
    """Serves ``square``, ``train/WAY`` and ``embed/WAY``: contiguous, channels_last, compiled."""
    settings = settings_of_worker(config=str, batch=int, dtype=str, threads=int, state=str)
    keep_to(settings.threads)
    torch.set_num_threads(settings.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, settings.dtype)
    config = json.loads(settings.config)
    with np.load(settings.state) as file:
        state = {f"state/{key}": file[key] for key in file.files}
    rng = np.random.default_rng(0)
    side = config["image_size"]
    images = rng.uniform(-1.0, 1.0, (settings.batch, side, side, config["channels"]))
    images = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    weights = rng.standard_normal((settings.batch, config["embedding_dim"]), np.float32)
    weights = torch.from_numpy(weights).to(device)
    made: dict[str, tuple[Any, Any, Any]] = {}
    squares: dict[int, torch.Tensor] = {}

    def network(variant: str) -> tuple[Any, Any, Any]:
        """(network, its optimiser, images), made when first asked for."""
        if variant not in made:
            layout = torch.contiguous_format if variant == "contiguous" else torch.channels_last
            model = build({"config": settings.config, **state}).to(device, memory_format=layout)
            optimizer = torch.optim.SGD(
                model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
            )
            runs = torch.compile(model) if variant == "compiled" else model
            made[variant] = runs, optimizer, images.to(device, memory_format=layout)
        return made[variant]

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def loss(model: Any, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            embeddings = model(images)
        return (embeddings.float() * weights).sum() / settings.batch

    def train(variant: str) -> None:
        model, optimizer, images = network(variant)
        optimizer.zero_grad(set_to_none=True)
        loss(model.train(), images).backward()
        optimizer.step()
        wait()

    @torch.no_grad()
    def embed(variant: str) -> None:
        model, _, images = network(variant)
        loss(model.eval(), images)
        wait()

    @torch.no_grad()
    def square(size: int) -> None:
        if size not in squares:
            squares[size] = torch.randn(size, size, device=device).to(dtype)
        torch.matmul(squares[size], squares[size])
        wait()

    def time(name: str, size: str = "0") -> dict[str, Any]:
        step, _, variant = name.partition("/")
        steps = {
            "train": lambda: train(variant),
            "embed": lambda: embed(variant),
            "square": lambda: square(int(size)),
        }
        return timed(steps[step])[1]

    @torch.no_grad()
    def check() -> dict[str, Any]:
        model, _, images = network("contiguous")
        return {"loss": float(loss(model.train(), images))}

    def about() -> dict[str, Any]:
        on_gpu = device.type == "cuda"
        return {
            "version": f"torch {torch.__version__}",
            "backend": "gpu" if on_gpu else "cpu",
            "device": torch.cuda.get_device_name() if on_gpu else "CPU",
            "threads": torch.get_num_threads(),
        }

    serve({"time": time, "check": check, "about": about})


if __name__ == "__main__":
    main()
