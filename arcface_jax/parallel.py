"""Meshes, and where arrays lie on them: nothing else names a mesh axis."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

CLASSES, DATA = "classes", "data"


def make_mesh(
    classes: int | None = None, data: int = 1, *, axis_type: AxisType = AxisType.Auto
) -> Mesh:
    """Devices in a grid: batches are split along "data" and "classes", centres along "classes".

    Args:
      classes: parts that the classes are cut into; None for all devices over ``data``.
      data: groups that each hold all classes and a part of the batch.
      axis_type: `jax.sharding.AxisType`, Auto or Explicit.

    Raises:
      ValueError: there are not that many devices.

    >>> make_mesh(1).shape
    OrderedDict({'data': 1, 'classes': 1})
    """
    devices = jax.devices()
    if classes is None:
        classes = max(len(devices) // data, 1)
    if data * classes > len(devices):
        raise ValueError(
            f"a mesh of {data} x {classes} needs {data * classes} devices, there are "
            f"{len(devices)}."
        )
    return jax.make_mesh(
        (data, classes),
        (DATA, CLASSES),
        axis_types=(axis_type, axis_type),
        devices=devices[: data * classes],
    )


def row_axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes that a batch is cut along: all that have more than one device, or the classes'.

    >>> row_axes(make_mesh(1))
    ('classes',)
    """
    return (DATA, CLASSES) if mesh.shape[DATA] > 1 else (CLASSES,)


def rows_spec(mesh: Mesh) -> P:
    """Of arrays with the batch in front: cut over every device.

    >>> rows_spec(make_mesh(1)) == P("classes")
    True
    """
    return P(row_axes(mesh))


def classes_spec() -> P:
    """Of arrays with the classes in front: cut along "classes", copied along "data".

    >>> classes_spec() == P("classes")
    True
    """
    return P(CLASSES)


def parts_of(mesh: Mesh | None) -> int:
    """Parts that the classes are cut into; 1 without a mesh.

    >>> parts_of(None)
    1
    """
    return 1 if mesh is None else mesh.shape[CLASSES]


def padded(num_classes: int, mesh: Mesh | None) -> int:
    """Rows that arrays with a row per class have on a mesh: C, and as many more as divide.

    >>> padded(10, make_mesh(1))
    10
    """
    return -(-num_classes // parts_of(mesh)) * parts_of(mesh)


def place(tree: Any, mesh: Mesh, spec: P) -> Any:
    """Arrays of ``tree`` where ``spec`` says, inside compiled code or not.

    >>> place(jax.numpy.ones(2), make_mesh(1), P()).shape
    (2,)
    """
    sharding = NamedSharding(mesh, spec)
    explicit = AxisType.Explicit in mesh.axis_types

    def one(x: Array) -> Array:
        if not isinstance(x, Tracer):
            # Other processes have the same values; but a key cannot be put on their devices.
            if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
                raw = jax.device_put(jax.random.key_data(x), sharding)
                return jax.random.wrap_key_data(raw, impl=jax.random.key_impl(x))
            return jax.device_put(x, sharding)
        if explicit:
            return jax.sharding.reshard(x, sharding)
        return jax.lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(one, tree)


def on_devices(function: Callable[..., Any], mesh: Mesh, *, in_specs: Any, out_specs: Any) -> Any:
    """``function`` of each device's part of the arrays, compiled as one program.

    >>> double = on_devices(lambda x: 2 * x, make_mesh(1), in_specs=P(), out_specs=P())
    >>> double(jax.numpy.ones(2))
    Array([2., 2.], dtype=float32)
    """
    # Uncompiled, every operation would wait for all devices.
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def _axes_of(x: Array) -> frozenset[str]:
    """Mesh axes along which an array differs from device to device."""
    kind: Any = jax.typeof(x)
    # JAX 0.12 moved the set.
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def _axes(tree: Any) -> set[str]:
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, Array)]
    return {axis for array in arrays for axis in _axes_of(array)}


def _varying(tree: Any, axes: set[str]) -> Any:
    def one(x: Array) -> Array:
        missing = tuple(sorted(axes - _axes_of(x)))
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(one, tree) if axes else tree


def varying_like(tree: Any, x: Any) -> Any:
    """Arrays of ``tree`` as differing from device to device wherever ``x`` does.

    >>> varying_like(jax.numpy.ones(2), jax.numpy.ones(1)).shape
    (2,)
    """
    return _varying(tree, _axes(x))


def varying_together(tree: Any, others: Any) -> Any:
    """Arrays of ``tree`` as differing wherever one of them, or of ``others``, does.

    >>> varying_together(jax.numpy.ones(2), None).shape
    (2,)
    """
    return _varying(tree, _axes((tree, others)))
