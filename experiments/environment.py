"""Settings of the process that must stand before JAX starts; this module imports no JAX."""

import importlib.metadata
import os
from pathlib import Path

# An unknown name in XLA_FLAGS ends the process, so only versions that were tried get it.
_KNOW_THE_FLAG = {(0, 11), (0, 12)}


def prefer_fast_cpu_convolutions() -> None:
    """Switches off an XLA fusion that makes a convolution's weight gradient slow on CPU.

    An ``XLA_FLAGS`` that is set already is left as it is. XLA reads the variable when its first
    operation runs. Results differ in the last digits, so runs record the value.
    """
    version = importlib.metadata.version("jaxlib")
    if tuple(int(part) for part in version.split(".")[:2]) in _KNOW_THE_FLAG:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")


def keep_compiled_programs() -> None:
    """Lets later processes reuse what XLA compiles, from ``~/.cache/arcface_jax/xla``.

    A ``JAX_COMPILATION_CACHE_DIR`` that is set already is left as it is. JAX reads the variable
    when it is imported. The directory holds code that will be run: keep it to yourself.
    """
    cache = Path("~/.cache/arcface_jax/xla").expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
