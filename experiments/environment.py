"""Settings of the process that must stand before JAX starts; this module imports no JAX."""

import ctypes
import importlib.metadata
import os
from pathlib import Path

# An unknown name in XLA_FLAGS ends the process, so only versions that were tried get it.
_KNOW_THE_FLAG = {(0, 11), (0, 12)}

# glibc's numbers for mallopt: freed memory that is kept, the size from which an allocation gets
# pages of its own, and how many heaps there are (all but the first hold 64 MB at most).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 2**30


def prefer_fast_cpu_convolutions() -> None:
    """Switches off an XLA fusion that makes a convolution's weight gradient slow on CPU.

    An ``XLA_FLAGS`` that is set already is left as it is. XLA reads the variable when its first
    operation runs. Results differ in the last digits, so runs record the value.
    """
    version = importlib.metadata.version("jaxlib")
    if tuple(int(part) for part in version.split(".")[:2]) in _KNOW_THE_FLAG:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")


def keep_freed_memory() -> None:
    """Lets this process keep up to 1 GiB of freed memory for its next allocation.

    XLA's CPU backend allocates the temporary memory of every step anew. Given back in between, each
    page of it is cleared by the kernel again, which costs a small network a quarter of its step
    (``python -m benchmarks.backbone --models resnet_small``, with ``MALLOC_TRIM_THRESHOLD_=131072``
    and without). Some steps still get new pages, for what was freed may be in pieces. Where libc is
    not glibc, or its variables are set already, nothing is changed.
    """
    set_already = any(name.startswith("MALLOC_") for name in os.environ)
    if set_already or "GLIBC_TUNABLES" in os.environ or not _is_glibc():
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_ARENA_MAX, 1)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False


def keep_compiled_programs() -> None:
    """Lets later processes reuse what XLA compiles, from ``~/.cache/arcface_jax/xla``.

    A ``JAX_COMPILATION_CACHE_DIR`` that is set already is left as it is. JAX reads the variable
    when it is imported. The directory holds code that will be run: keep it to yourself.
    """
    cache = Path("~/.cache/arcface_jax/xla").expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
