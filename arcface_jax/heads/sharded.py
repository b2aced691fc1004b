"""The head whose classes lie on several devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.heads.batch_losses import SumsOverClasses, observed
from arcface_jax.heads.class_products import ready_rows
from arcface_jax.heads.class_sums import ClassSums, row_losses
from arcface_jax.heads.fused import Fused
from arcface_jax.margins import Context, MarginRule
from arcface_jax.parallel import (
    CLASSES,
    DATA,
    classes_spec,
    on_devices,
    padded,
    place,
    row_axes,
    rows_spec,
    varying_like,
)


def _across_classes(value: Any) -> Any:
    """Sums a value, or `ClassSums`, over the devices that hold other classes."""
    if not isinstance(value, ClassSums):
        return jax.lax.psum(value, CLASSES)
    top = jax.lax.pmax(jax.lax.stop_gradient(value.top), CLASSES)
    value = value.at(top)
    summed = jax.lax.psum((value.exponentials, value.logits, value.terms), CLASSES)
    return ClassSums(top, *summed)


def _whole(part: Array, start: ArrayLike, rows: int, axes: str | tuple[str, ...]) -> Array:
    """One number per row of the batch, the same on all devices, from those of each part."""
    empty = varying_like(jnp.zeros(rows, part.dtype), part)
    placed = jax.lax.dynamic_update_slice_in_dim(empty, part, start, 0)
    return jax.lax.psum(placed, axes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sharded:
    """Classes cut along the "classes" axis of a mesh, one part on each device.

    A step gathers the embeddings of a group of devices once, exchanges a few numbers per row, and
    scatters the embeddings' gradient back; neither logits nor centres travel. The batch is cut
    over all devices. C need not divide: centres are padded, and padding never counts.

    Args:
      mesh: from `arcface_jax.parallel.make_mesh`, Auto or Explicit.
      local: how each device sums over its classes, `Dense` or `Fused`.
      num_classes: C, where the centres that are given are padded already; None where they are not.

    >>> import arcface_jax as af
    >>> from arcface_jax.parallel import make_mesh
    >>> x, w = jnp.eye(2), jnp.eye(2)
    >>> head = Sharded(mesh=make_mesh(1))
    >>> af.margin_softmax_loss(x, w, jnp.arange(2), margin=af.cosface(1.0), scale=4.0, head=head)
    Array([0.6931472, 0.6931472], dtype=float32)
    """

    mesh: Mesh
    local: SumsOverClasses = Fused()
    num_classes: int | None = None

    @property
    def samples_classes(self) -> bool:
        """No: every class counts in every step."""
        return False

    def __call__(
        self,
        embeddings: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        bias: Array | None,
        context: Context,
        label_smoothing: ArrayLike | None,
        counts: Array | None = None,
    ) -> tuple[Array, Context]:
        """One loss per row and the context after the margin has observed the batch."""
        rows, num_classes = embeddings.shape[0], self.num_classes or centers.shape[0]
        devices = self.mesh.size
        if rows % devices:
            raise ValueError(
                f"a batch of {rows} rows does not divide over {devices} devices; pad it with "
                "rows of label -1."
            )
        short = padded(centers.shape[0], self.mesh) - centers.shape[0]
        if short:
            centers = jnp.pad(centers, [(0, short)] + [(0, 0)] * (centers.ndim - 1))
            bias = None if bias is None else jnp.pad(bias, (0, short))
            counts = None if counts is None else jnp.pad(counts, (0, short))
        if counts is None and centers.shape[0] > num_classes:
            counts = (jnp.arange(centers.shape[0]) < num_classes).astype(jnp.float32)
        # What every device needs whole is small: numbers, states, one number per row.
        whole = dataclasses.replace(
            context, norms=None, state=None if margin.state_by_class else context.state
        )
        leaves, structure = jax.tree.flatten((margin, whole, label_smoothing))
        inputs = (
            place((embeddings, labels), self.mesh, rows_spec(self.mesh)),
            place((centers, bias, counts), self.mesh, classes_spec()),
            place([jnp.asarray(leaf) for leaf in leaves], self.mesh, P()),
        )
        axes = row_axes(self.mesh)
        group = rows // self.mesh.shape[DATA]

        def on_device(by_row: Any, by_class: Any, leaves: list[Array]) -> tuple[Array, Any]:
            embeddings, labels = by_row
            centers, bias, counts = by_class
            margin, context, smoothing = jax.tree.unflatten(structure, leaves)
            first_class = jax.lax.axis_index(CLASSES) * centers.shape[0]
            first_row = jax.lax.axis_index(DATA) * group if DATA in axes else 0
            mine = first_row + jax.lax.axis_index(CLASSES) * embeddings.shape[0]
            norms = _whole(geometry.length(embeddings), mine, rows, axes)
            context = dataclasses.replace(context, norms=norms)
            asked: dict[str, Any] = {"bias": bias, "counts": counts}
            ready = ready_rows(
                jax.lax.all_gather(embeddings, CLASSES, tiled=True), normalized=margin.normalized
            )
            # The classes of other devices are outside [0, C of this one).
            labels = jax.lax.all_gather(labels, CLASSES, tiled=True) - first_class

            def of_batch(value: Any) -> Any:
                value = _across_classes(value)
                if DATA not in axes:
                    return value
                return jax.tree.map(lambda x: _whole(x, first_row, rows, DATA), value)

            def of_group(tree: Any) -> Any:
                def cut(x: Array) -> Array:
                    return jax.lax.dynamic_slice_in_dim(x, first_row, group) if x.ndim else x

                return jax.tree.map(cut, tree)

            context = observed(
                self.local,
                ready,
                centers,
                labels,
                margin=margin,
                context=context,
                across=of_batch,
                of_rows=of_group,
                **asked,
            )
            own, sums = self.local.sums(
                ready,
                centers,
                labels,
                margin=of_group(margin),
                context=context.of_rows(of_group),
                smoothed=smoothing is not None,
                **asked,
            )
            losses = row_losses(
                of_batch(own), of_batch(sums), margin, context, label_smoothing=smoothing
            )
            return losses, context.state

        losses, state = on_devices(
            on_device,
            self.mesh,
            in_specs=(rows_spec(self.mesh), classes_spec(), P()),
            out_specs=P(),
        )(*inputs)
        if margin.state_by_class:
            return losses, context
        return losses, dataclasses.replace(context, state=state)
