"""The margin softmax loss in PyTorch, as arcface_torch computes it on one device, for head.py.

Normalise, linear, clamp, the margin in place on the true class's logit, times 64, cross entropy,
backward. In place and outside autograd is their way: it saves a copy of the logits, and the
gradient then leaves the margin's slope out.
"""

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.timed_steps import keep_to, resident_growth, serve, settings_of_worker, timed

MARGIN, SCALE = 0.5, 64.0


def main() -> None:
    """Serves the steps ``loss``, ``product`` and ``square``."""
    settings = settings_of_worker(batch=int, classes=int, dim=int, threads=int, dtype=str)
    keep_to(settings.threads)
    torch.set_num_threads(settings.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, settings.dtype)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)

    x = normal(settings.batch, settings.dim).requires_grad_()
    w = normal(settings.classes, settings.dim).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, settings.classes, settings.batch)).to(device)
    rows = torch.arange(settings.batch, device=device)
    squares: dict[int, torch.Tensor] = {}

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def loss() -> torch.Tensor:
        units = functional.normalize(x).to(dtype), functional.normalize(w).to(dtype)
        logits = functional.linear(*units).float().clamp(-1.0, 1.0)
        with torch.no_grad():
            logits[rows, labels] = torch.cos(torch.arccos(logits[rows, labels]) + MARGIN)
        value = functional.cross_entropy(logits * SCALE, labels)
        value.backward()
        wait()
        return value.detach()

    @torch.no_grad()
    def product() -> None:
        torch.matmul(x.to(dtype), w.to(dtype).T)
        wait()

    @torch.no_grad()
    def square(size: int) -> None:
        if size not in squares:
            squares[size] = torch.randn(size, size, device=device).to(dtype)
        torch.matmul(squares[size], squares[size])
        wait()

    def time(name: str, size: str = "0") -> dict[str, Any]:
        steps = {"loss": loss, "product": product, "square": lambda: square(int(size))}
        value, taken = timed(steps[name])
        x.grad = w.grad = None
        return taken | {"loss": None if value is None else float(value)}

    def memory(name: str) -> dict[str, Any]:
        time(name)
        gradients = 4 * (x.numel() + w.numel())
        if device.type == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            loss()
            return {"working": torch.cuda.max_memory_allocated() - before - gradients}
        growth = resident_growth(loss)
        return {"working": None if growth is None else growth - gradients}

    def about() -> dict[str, Any]:
        on_gpu = device.type == "cuda"
        return {
            "version": f"torch {torch.__version__}",
            "backend": "gpu" if on_gpu else "cpu",
            "device": torch.cuda.get_device_name() if on_gpu else "CPU",
            "threads": torch.get_num_threads(),
        }

    serve({"time": time, "memory": memory, "about": about})


if __name__ == "__main__":
    main()
