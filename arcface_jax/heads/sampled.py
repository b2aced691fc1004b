"""Partial FC: a step meets its own classes and a random sample of the others."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from arcface_jax.heads.fused import Fused
from arcface_jax.heads.head import Head
from arcface_jax.heads.sharded import Sharded
from arcface_jax.known_names import unknown_name
from arcface_jax.margins import Context, MarginRule
from arcface_jax.parallel import CLASSES, classes_spec, on_devices, padded, parts_of, place

UPDATES = ("dense", "sparse")
OVERFLOWS = ("error", "drop")

# Folded into the step's key, so that a margin that draws from the same key draws something else.
SAMPLING = 0x5A3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """The classes of one step; part by part where the classes lie on several devices.

    Attributes:
      classes: int32[S], the class of each sampled row, ascending within a part.
      labels: int32[B], the sampled row of each example's class, or -1.
      counts: float32[S], classes that each row stands for, 0 for padding; None for one each.
      kept: bool[B], whether an example's class is among them.
      num_classes: C.
      met: classes of the sample that exist.
      mesh: of the devices that hold the classes, or None.
    """

    classes: Array
    labels: Array
    counts: Array | None
    kept: Array
    num_classes: int = dataclasses.field(metadata={"static": True})
    met: int = dataclasses.field(metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(metadata={"static": True})

    def _per_part(self, function: Any, *arrays: Array) -> Array:
        """``function(classes, *arrays)`` of each part, with classes counted from its first."""
        if self.mesh is None:
            return function(self.classes, *arrays)

        def on_device(classes: Array, values: Array, *others: Array) -> Array:
            first = jax.lax.axis_index(CLASSES) * values.shape[0]
            return function(classes - first, values, *others)

        inputs = place((self.classes, *arrays), self.mesh, classes_spec())
        return on_devices(on_device, self.mesh, in_specs=classes_spec(), out_specs=classes_spec())(
            *inputs
        )

    def _padded(self, values: Array) -> Array:
        short = padded(values.shape[0], self.mesh) - values.shape[0]
        return jnp.pad(values, [(0, short)] + [(0, 0)] * (values.ndim - 1)) if short else values

    def take(self, values: Array) -> Array:
        """The sampled rows of an array with a row per class, [S, ...]."""

        def rows(classes: Array, values: Array) -> Array:
            return values.at[classes].get(indices_are_sorted=True, unique_indices=True)

        return self._per_part(rows, self._padded(values))

    def put(self, values: Array, rows: Array) -> Array:
        """``values`` with its sampled rows replaced; a row per class, padding included."""

        def replaced(classes: Array, values: Array, rows: Array) -> Array:
            return values.at[classes].set(rows, indices_are_sorted=True, unique_indices=True)

        return self._per_part(replaced, values, rows)


def choose_classes(uniforms: Array, present: Array, *, size: int, real: ArrayLike) -> Array:
    """The ``size`` classes of highest priority, ascending, int32[size].

    Args:
      uniforms: float[C], drawn from [0, 1).
      present: bool[C], classes of the batch; they go before all others.
      size: classes wanted.
      real: number of classes that exist; those beyond go last.

    >>> choose_classes(jnp.array([0.1, 0.9, 0.5]), jnp.array([True, False, False]), size=2, real=3)
    Array([0, 1], dtype=int32)
    """
    exists = jnp.arange(uniforms.shape[0]) < real
    priority = jnp.where(exists, uniforms + 2.0 * present, -1.0)
    return jnp.sort(jax.lax.top_k(priority, size)[1].astype(jnp.int32))


def rows_of(classes: Array, labels: Array) -> Array:
    """The place of each label in the ascending ``classes``, or -1, int32[B].

    >>> rows_of(jnp.array([2, 5]), jnp.array([5, 3, -1]))
    Array([ 1, -1, -1], dtype=int32)
    """
    place = jnp.searchsorted(classes, labels).astype(jnp.int32)
    found = classes[jnp.minimum(place, classes.shape[0] - 1)] == labels
    return jnp.where(found & (labels >= 0), place, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampled:
    """The classes of a batch and a random share of the others; a draw per step and device.

    Over C_k classes of a device a step meets ``min(C_k, max(floor(rate C_k), min(B, C_k)))``, so
    that the classes of the batch always fit. The sum over classes is that of the sample: no logit
    is corrected unless ``log_q`` asks for it. Evaluate with all classes.

    Args:
      rate: share of the classes, [0, 1].
      head: that sums over the sample: `Dense`, `Fused` or `Sharded`.
      update: how training moves the other classes: ``"dense"``, by momentum and decay as if their
        gradient were 0; ``"sparse"``, not at all, which saves the gradient of all classes too.
      log_q: weigh the classes drawn by one over their probability of being drawn, so that sums
        over the sample are those over all classes on average.
      max_sampled: most classes of a device, or None; may be fewer than the batch has.
      overflow: what happens when the classes of a batch might not fit: ``"error"``, or ``"drop"``:
        examples whose class is left out lose nothing and count for nothing, see `Sample.kept`.

    Raises:
      ValueError: a rate outside [0, 1], an unknown word, or a batch that might not fit.

    Source: An et al., Partial FC (ICCVW 2021 and CVPR 2022).

    >>> import arcface_jax as af
    >>> x, w = jnp.eye(2), jnp.eye(4, 2)
    >>> losses = af.margin_softmax_loss(
    ...     x, w, jnp.arange(2), margin=af.cosface(1.0), scale=4.0, head=Sampled(rate=0.5),
    ...     key=jax.random.key(0),
    ... )
    >>> losses
    Array([0.6931472, 0.6931472], dtype=float32)
    """

    rate: float = 0.1
    head: Head = Fused()
    update: str = "dense"
    log_q: bool = False
    max_sampled: int | None = None
    overflow: str = "error"

    def __post_init__(self):
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate={self.rate} lies outside [0, 1].")
        for name, known in (("update", UPDATES), ("overflow", OVERFLOWS)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        if self.max_sampled is not None and self.max_sampled < 1:
            raise ValueError(f"max_sampled={self.max_sampled}; a step meets at least 1 class.")
        if self.head.samples_classes:
            raise ValueError("a sampled head sums over its sample with a head that takes it whole.")

    @property
    def samples_classes(self) -> bool:
        """Yes."""
        return True

    @property
    def num_classes(self) -> int | None:
        """As the head for the sample says."""
        return self.head.num_classes

    @property
    def mesh(self) -> Mesh | None:
        """As the head for the sample says."""
        return self.head.mesh

    def size(self, *, rows: int, num_classes: int) -> int:
        """Classes that each device meets in a step of ``rows`` examples.

        >>> Sampled(rate=0.1).size(rows=128, num_classes=10_000)
        1000
        >>> Sampled(rate=0.1).size(rows=128, num_classes=500)
        128
        """
        held = padded(num_classes, self.mesh) // parts_of(self.mesh)
        fits = min(rows, held)
        wanted = min(held, max(int(self.rate * held), fits))
        size = wanted if self.max_sampled is None else min(wanted, self.max_sampled)
        if size < fits and self.overflow == "error":
            raise ValueError(
                f"a batch of {rows} can have {fits} classes on one device and max_sampled="
                f'{self.max_sampled} keeps {size}; raise it, or take overflow="drop", which leaves '
                "examples out."
            )
        return size

    def draw(self, labels: Array, *, num_classes: int, key: Array) -> Sample:
        """The sample of a step; equal keys give equal samples.

        Args:
          labels: int[B] of the whole batch; numbers outside [0, C) have no class.
          num_classes: C.
          key: random key of the step.

        >>> sample = Sampled(rate=0.5).draw(jnp.array([3]), num_classes=4, key=jax.random.key(0))
        >>> sample.take(jnp.arange(4.0))[sample.labels]
        Array([3.], dtype=float32)
        """
        mesh, parts = self.mesh, parts_of(self.mesh)
        held = padded(num_classes, mesh) // parts
        size = self.size(rows=labels.shape[0], num_classes=num_classes)

        def of_part(labels: Array, key: Array, part: ArrayLike) -> tuple[Array, Array, Array]:
            first = part * held
            real = jnp.clip(num_classes - first, 0, held)
            mine = (labels >= first) & (labels < first + real)
            local = jnp.where(mine, labels - first, -1)
            # One place more, for labels of other devices.
            present = jnp.zeros(held + 1, bool).at[jnp.where(mine, local, held)].set(True)[:held]
            uniforms = jax.random.uniform(jax.random.fold_in(key, part), (held,), jnp.float32)
            classes = choose_classes(uniforms, present, size=size, real=real)
            drawn = ~present[classes] & (classes < real)
            weight = jnp.float32(1.0)
            if self.log_q:
                kept = jnp.sum(present[classes])
                weight = (real - kept) / jnp.maximum(jnp.sum(drawn), 1)
            counts = jnp.where(classes < real, jnp.where(drawn, weight, 1.0), 0.0)
            place = rows_of(classes, local)
            return classes + first, counts, jnp.where(place >= 0, part * size + place + 1, 0)

        key = jax.random.fold_in(key, SAMPLING)
        if mesh is None:
            classes, counts, places = of_part(labels, key, 0)
        else:

            def on_device(labels: Array, key: Array) -> tuple[Array, Array, Array]:
                classes, counts, places = of_part(labels, key, jax.lax.axis_index(CLASSES))
                return classes, counts, jax.lax.psum(places, CLASSES)

            classes, counts, places = on_devices(
                on_device,
                mesh,
                in_specs=P(),
                out_specs=(classes_spec(), classes_spec(), P()),
            )(*place((labels, key), mesh, P()))
        met = sum(min(size, max(num_classes - part * held, 0)) for part in range(parts))
        return Sample(
            classes=classes,
            labels=places - 1,
            counts=counts if self.log_q or met < parts * size else None,
            kept=places > 0,
            num_classes=num_classes,
            met=met,
            mesh=mesh,
        )

    def on(self, sample: Sample) -> "OnSample":
        """The head that takes the rows of ``sample`` in place of all centres."""
        head = self.head
        if isinstance(head, Sharded):
            head = dataclasses.replace(head, num_classes=None)
        return OnSample(head=head, sample=sample)

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
        del counts
        if context.key is None:
            raise ValueError("a sampled head draws classes; pass key=jax.random.key(step).")
        assert context.num_classes is not None
        sample = self.draw(labels, num_classes=context.num_classes, key=context.key)
        return self.on(sample)(
            embeddings,
            sample.take(centers),
            labels,
            margin=margin,
            bias=None if bias is None else sample.take(bias),
            context=context,
            label_smoothing=label_smoothing,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnSample:
    """A head over the rows of a sample that is drawn already; from `Sampled.on`.

    What is differentiated and moved is then no larger than the sample:

    >>> import arcface_jax as af
    >>> labels, centers = jnp.array([3, 1]), jnp.eye(4, 2)
    >>> sampled = Sampled(rate=0.5)
    >>> sample = sampled.draw(labels, num_classes=4, key=jax.random.key(0))
    >>> af.margin_softmax_loss(
    ...     jnp.eye(2), sample.take(centers), labels, margin=af.arcface(), head=sampled.on(sample)
    ... ).shape
    (2,)

    Args:
      head: sums over the rows.
      sample: which classes they are.
    """

    head: Head
    sample: Sample

    @property
    def samples_classes(self) -> bool:
        """Yes."""
        return True

    @property
    def mesh(self) -> Mesh | None:
        """Of the sample."""
        return self.sample.mesh

    @property
    def num_classes(self) -> int | None:
        """C, of which the sample is a part."""
        return self.sample.num_classes

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
        del labels, counts
        where = self.sample.kept if context.where is None else context.where & self.sample.kept
        losses, after = self.head(
            embeddings,
            centers,
            self.sample.labels,
            margin=margin,
            bias=bias,
            context=dataclasses.replace(context, where=where, num_classes=self.sample.met),
            label_smoothing=label_smoothing,
            counts=self.sample.counts,
        )
        return losses, dataclasses.replace(after, num_classes=context.num_classes)
