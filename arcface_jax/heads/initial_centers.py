"""Centres before the first step: a block at a time, where they will lie."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from arcface_jax.parallel import CLASSES, classes_spec, on_devices, padded, parts_of, varying_like

# Of the normal distribution, as in arcface_torch and the MXNet code.
STD = 0.01


def initial_centers(
    key: Array,
    num_classes: int,
    embedding_dim: int,
    *,
    centers_per_class: int = 1,
    mesh: Mesh | None = None,
    block: int = 4096,
) -> Array:
    """Normal centres of standard deviation 0.01, float[C, D], or float[C, K, D] for K a class.

    A row depends on the key and on its class alone: the same on any mesh and for any block. No more
    than one block exists besides the result.

    Args:
      key: random key.
      num_classes: C.
      embedding_dim: D.
      centers_per_class: K.
      mesh: devices that the classes are cut over; C is then padded with rows of 0 to divide.
      block: classes at a time.

    >>> initial_centers(jax.random.key(0), 3, 2).shape
    (3, 2)
    """
    held = padded(num_classes, mesh) // parts_of(mesh)
    shape = (embedding_dim,) if centers_per_class == 1 else (centers_per_class, embedding_dim)
    block = min(block, held)

    def rows(key: Array, first: ArrayLike) -> Array:
        classes = first + jnp.arange(block)
        drawn = jax.vmap(
            lambda c: jax.random.normal(jax.random.fold_in(key, c), shape, jnp.float32)
        )(classes)
        exists = (classes < num_classes).reshape(-1, *(1 for _ in shape))
        return jnp.where(exists, STD * drawn, 0.0)

    def part(key: Array, first: ArrayLike) -> Array:
        def fill(i: Array, centers: Array) -> Array:
            # The last block starts early enough to be whole; it draws some rows again.
            start = jnp.minimum(i * block, held - block)
            new = rows(key, first + start).astype(centers.dtype)
            return jax.lax.dynamic_update_slice_in_dim(centers, new, start, 0)

        empty = varying_like(jnp.zeros((held, *shape), jnp.float32), first)
        return jax.lax.fori_loop(0, -(-held // block), fill, empty)

    if mesh is None:
        return jax.jit(functools.partial(part, first=0))(key)

    def on_device(key: Array) -> Array:
        return part(key, jax.lax.axis_index(CLASSES) * held)

    return on_devices(on_device, mesh, in_specs=P(), out_specs=classes_spec())(key)
