"""What each head would need, before anything is allocated.

Memory is that of a training step which gives its arrays up to the next: centres, optimiser,
gradient, and what the compiler holds in between. The last was read off XLA's buffer assignment for
CPUs, and tests hold it there; other backends fuse differently. The backbone is not counted.
"""

import dataclasses
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from arcface_jax.heads.fused import Fused, default_block
from arcface_jax.heads.sampled import UPDATES, Sampled
from arcface_jax.known_names import unknown_name
from arcface_jax.parallel import CLASSES, DATA

# Of embeddings and centres, forward and backward; a fused head forms the logits twice.
DENSE_PRODUCTS, FUSED_PRODUCTS = 3, 4

FEWEST = "of the exact heads that fit it takes the fewest operations, then the least memory"
SAMPLE = "no exact head fits, and a sample changes the loss"

# Arrays with one number per row, and bytes per class while classes are drawn.
NUMBERS_PER_ROW, DRAWING = 32, 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one head needs on each device, in bytes, and does in a step.

    Attributes:
      name: as `Plan.require` takes it.
      code: that makes the head.
      exact: whether every class counts in every step; a sample changes the loss.
      centers: the parameters.
      optimizer: its slots, each as large as the centres.
      gradient: of the centres, or of the sampled ones where no others move.
      blocks: logits and what else lives between the products, copies of sampled rows.
      batch: embeddings and their gradient, the device's own and the gathered ones.
      received: by collectives in a step, where each device passes on as little as it can.
      flops: of the products in a step.
      available: bytes that a device has.

    >>> plan(1000, 64, 32, memory=2**30).named("dense").centers
    256000
    """

    name: str
    code: str
    exact: bool
    centers: int
    optimizer: int
    gradient: int
    blocks: int
    batch: int
    received: int
    flops: int
    available: int

    @property
    def total(self) -> int:
        """Bytes on each device."""
        return self.centers + self.optimizer + self.gradient + self.blocks + self.batch

    @property
    def fits(self) -> bool:
        """Whether a device has as much."""
        return self.total <= self.available


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Estimates of all heads for one size; prints as a table. From `plan`.

    Attributes:
      estimates: one per head, on one device first.
      title: the size.
      enough_devices: where nothing fits, on how many devices of this memory an exact head does, or
        None.

    >>> plan(1000, 64, 32, memory=2**30).cheapest.name
    'dense'
    """

    estimates: tuple[Estimate, ...]
    title: str
    enough_devices: int | None

    @property
    def cheapest(self) -> Estimate | None:
        """Of the heads that fit the one with the fewest operations, then the least memory, or None.

        Sampled heads change the loss: they come after every head that does not.
        """
        fitting = [estimate for estimate in self.estimates if estimate.fits]
        return min(fitting, key=lambda x: (not x.exact, x.flops, x.total), default=None)

    def named(self, name: str) -> Estimate:
        """The estimate of one head.

        Raises:
          ValueError: no head here has that name.
        """
        known = {estimate.name: estimate for estimate in self.estimates}
        if name not in known:
            raise unknown_name("head", name, known)
        return known[name]

    def require(self, name: str) -> Estimate:
        """The estimate of a head that has to fit.

        Raises:
          ValueError: it does not, or no head here has that name.

        >>> plan(1_000_000, 512, 128, memory=8e9).require("dense")
        Traceback (most recent call last):
        ValueError: dense needs 10.0 GiB on a device that has 7.45 GiB; fused fits, with 5.73 GiB.
        """
        estimate = self.named(name)
        if estimate.fits:
            return estimate
        has = f"{name} needs {in_bytes(estimate.total)} on a device that has "
        raise ValueError(f"{has}{in_bytes(estimate.available)}; {self._instead()}")

    def _instead(self) -> str:
        """What fits."""
        best = self.cheapest
        if best is None:
            return self._nothing()
        fits = f"{best.name} fits, with {in_bytes(best.total)}"
        return fits + (
            "." if best.exact else "; no exact head does, and a sample changes the loss."
        )

    def _nothing(self) -> str:
        """What would have to be so that something fits."""
        least = min(self.estimates, key=lambda x: x.total)
        text = f"no head fits: {least.name} needs least, {in_bytes(least.total)}"
        if self.enough_devices is None:
            return f"{text}, and no number of devices up to the rows of the batch would do."
        count, each = self.enough_devices, in_bytes(least.available)
        return f"{text}; with the classes over {count:,} devices of {each} an exact head would."

    def __str__(self) -> str:
        """A table of all heads, and which to take."""
        parts = ("centers", "optimizer", "gradient", "blocks", "batch", "total", "received")
        table = [["head", *parts, "products", "fits"]]
        for estimate in self.estimates:
            sizes = [in_bytes(getattr(estimate, part)) for part in parts]
            fits = "yes" if estimate.fits else "no"
            table.append([estimate.name, *sizes, in_flops(estimate.flops), fits])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            )
            for row in table
        ]
        return "\n".join([self.title, "", *lines, "", self._choice()])

    def _choice(self) -> str:
        best = self.cheapest
        if best is None:
            nothing = self._nothing()
            return nothing[0].upper() + nothing[1:]
        why = FEWEST if best.exact else SAMPLE
        return f"Take {best.name}, {best.code}: {why}."


def in_bytes(count: int) -> str:
    """A number of bytes to three digits.

    >>> in_bytes(1536), in_bytes(200 * 2**20)
    ('1.50 KiB', '200 MiB')
    """
    return _short(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def in_flops(count: int) -> str:
    """A number of floating-point operations to three digits.

    >>> in_flops(393_216_000_000)
    '393 GFLOP'
    """
    return _short(count, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def _short(count: float, step: int, units: tuple[str, ...]) -> str:
    place = 0
    # 999.5 would be printed as 1000, and is followed by 1.00 of the next unit.
    while count >= step * (1 - 0.5 / 1000) and place + 1 < len(units):
        count, place = count / step, place + 1
    if place == 0:
        return f"{count:.0f} {units[0]}"
    digits = max(0, 2 - math.floor(math.log10(count)))
    return f"{count:.{digits}f} {units[place]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Size:
    """What is asked for, on a grid of ``data`` groups of ``parts`` devices; None for one device."""

    num_classes: int
    dim: int
    batch: int
    per_class: int
    stored: int  # bytes of a number of the centres
    computed: int  # of a number in between
    slots: int
    rate: float
    block: int | None
    available: int
    parts: int = 1
    data: int = 1

    @property
    def devices(self) -> int:
        """Of the grid."""
        return self.parts * self.data

    @property
    def rows(self) -> int:
        """Embeddings that each device takes products of."""
        return self.batch // self.data

    @property
    def held(self) -> int:
        """Classes of each device."""
        return -(-self.num_classes // self.parts)

    def numbers(self, classes: int) -> int:
        """Of the centres of as many classes."""
        return classes * self.per_class * self.dim

    def operations(self, classes: int, *, products: int) -> int:
        """Multiplications and additions of as many products of the rows with the centres."""
        return 2 * products * self.rows * self.numbers(classes)

    def at_once(self, classes: int, *, looped: bool = False) -> int:
        """Most numbers alive between the products with as many classes."""
        products, copy = self.rows * classes * self.per_class, self.numbers(classes)
        # Of several centres a class which is the nearest: indices to gather and scatter by.
        nearest = 9 * self.rows * classes if self.per_class > 1 else 0
        beside = 0 if looped and self.per_class == 1 else copy
        # Two matrices of products beside the unit centres, or one beside two copies of them.
        most = max(2 * products + beside, products + 2 * copy) + nearest
        return most + 5 * classes * self.per_class + 3 * self.rows * self.dim

    def in_blocks(self, classes: int) -> tuple[int, bool]:
        """(most numbers alive where classes come a block at a time, whether they need a loop)."""
        block = min(self.block or default_block(self.rows, self.dim), classes)
        whole, rest = divmod(classes, block)
        if whole == 1:
            # Without a loop the compiler keeps forward's products for the way back.
            return self.at_once(classes) + (0 if rest else self.rows * classes), False
        loop = self.at_once(block, looped=True) + 5 * block * self.per_class
        # Where XLA's fusions for CPUs are off, as training has them, more blocks of logits stay.
        loop += 5 * self.rows * block * self.per_class
        # The last, shorter block is not looped over: its products and unit centres stay.
        return loop + (self.rows + 2 * self.dim + 5) * self.per_class * rest, True

    def dense_bytes(self) -> int:
        """Between the products of a dense head."""
        most = self.at_once(self.held)
        if self.stored < self.computed:
            most += self.numbers(self.held)
        return self.computed * most

    def fused_bytes(self, classes: int) -> int:
        """Between the products of a fused head over as many classes."""
        most, looped = self.in_blocks(classes)
        # The centres and their gradient as wide as what is computed; the gradient again before it
        # is summed over the groups.
        wide = (2 if looped else 1) if self.stored < self.computed else 0
        copies = max(wide, 1 if self.data > 1 else 0)
        return self.computed * (most + copies * self.numbers(classes))

    def batch_bytes(self) -> int:
        """Of embeddings, gradient and labels: the device's own, and what it gathers."""
        own, gathered = self.batch // self.devices, self.rows if self.devices > 1 else 0
        return (
            own * (2 * self.dim * self.stored + 4)
            + gathered * (2 * self.dim * self.computed + 4)
            + NUMBERS_PER_ROW * self.batch * self.computed
        )

    def received(self, *, moved: int, sampled: bool = False) -> int:
        """Bytes that a device receives, of which its own share never travels.

        Args:
          moved: centres whose gradient groups add up.
          sampled: whether every device draws its classes from the labels of the whole batch.
        """
        parts, data, devices = self.parts, self.data, self.devices

        def gather(whole: int, over: int) -> int:
            return whole - whole // over

        # Embeddings and labels; the embeddings' gradient is scattered as they were gathered.
        embeddings = self.rows * self.dim * self.stored
        count = 2 * gather(embeddings, parts) + gather(4 * self.rows, parts)
        # Largest logit, sum of exponentials, product with the row's own class. A sum is scattered
        # and gathered.
        count += 2 * gather(3 * self.rows * self.computed, parts)
        if data > 1:
            count += 2 * gather(3 * self.batch * self.computed, data)
            count += 2 * gather(self.numbers(moved) * self.computed, data)
        # Which rows count, and the losses' weights.
        count += gather(self.batch, devices) + gather(self.batch * self.computed, devices)
        if sampled:
            # Labels, and the place of each row's class in the sample.
            count += gather(4 * self.batch, devices) + 2 * gather(4 * self.batch, parts)
        return count

    def estimate(self, name: str, code: str, **changed: Any) -> Estimate:
        """Of a head that moves all centres; ``changed`` says the rest, and what is otherwise."""
        held = self.stored * self.numbers(self.held)
        several = self.devices > 1
        values: dict[str, Any] = {
            "exact": True,
            "centers": held,
            "optimizer": self.slots * held,
            "gradient": held,
            "batch": self.batch_bytes(),
            "received": self.received(moved=self.held) if several else 0,
            "available": self.available,
            **changed,
        }
        return Estimate(name=f"sharded+{name}" if several else name, code=code, **values)

    def estimates(self) -> list[Estimate]:
        """Of all heads on these devices."""
        # A step that combines several slots is formed before it is added.
        step = self.stored * self.numbers(self.held) if self.slots > 1 else 0
        fused = "Fused()" if self.block is None else f"Fused(block={self.block})"
        dense = "Dense()"
        if self.devices > 1:
            dense, fused = (f"Sharded(mesh=mesh, local={local})" for local in (dense, fused))
        return [
            self.estimate(
                "dense",
                dense,
                blocks=max(self.dense_bytes(), step),
                flops=self.operations(self.held, products=DENSE_PRODUCTS),
            ),
            self.estimate(
                "fused",
                fused,
                blocks=self.fused_bytes(self.held) + step,
                flops=self.operations(self.held, products=FUSED_PRODUCTS),
            ),
            *(self.sampled(update, fused, step=step) for update in UPDATES),
        ]

    def sampled(self, update: str, local: str, *, step: int) -> Estimate:
        """Of a sampled head whose sample a fused one takes."""
        met = Sampled(rate=self.rate).size(rows=self.batch, num_classes=self.held)
        rows = self.stored * self.numbers(met)
        changed: dict[str, Any] = {}
        if update == "sparse":
            # Copies of the centres and slots, and the new ones in the end.
            copies = (1 + self.slots) * rows
            blocks = copies + max(self.fused_bytes(met), copies)
            changed["gradient"] = rows
        else:
            # A copy of the centres, and of their gradient before and after it is whole.
            blocks = 2 * rows + max(self.fused_bytes(met), rows)
            if self.stored < self.computed:
                # It is put in place as wide as it was computed.
                blocks += self.computed * self.numbers(self.held)
            blocks = max(blocks, step)
        if self.devices > 1:
            changed["received"] = self.received(moved=met, sampled=True)
        return self.estimate(
            f"sampled-{update}-update",
            f'Sampled(rate={self.rate:g}, update="{update}", head={local})',
            exact=False,
            blocks=max(blocks, DRAWING * self.held),
            flops=self.operations(met, products=FUSED_PRODUCTS),
            **changed,
        )

    def enough_devices(self) -> int | None:
        """How many devices let an exact head fit, at most one for each row of the batch.

        The batch is padded to divide over them.
        """

        def fits(devices: int) -> bool:
            batch = -(-self.batch // devices) * devices
            size = dataclasses.replace(self, batch=batch, parts=devices, data=1)
            return any(estimate.fits for estimate in size.estimates() if estimate.exact)

        return next((count for count in range(2, self.batch + 1) if fits(count)), None)


def _grid(mesh: Mesh | int | None) -> tuple[int, int]:
    """(parts of the classes, groups of the batch)."""
    if mesh is None or isinstance(mesh, int):
        return 1 if mesh is None else mesh, 1
    if CLASSES not in mesh.shape or DATA not in mesh.shape:
        raise ValueError(
            f"the mesh has axes {mesh.axis_names}; take one from arcface_jax.parallel.make_mesh."
        )
    return mesh.shape[CLASSES], mesh.shape[DATA]


def device_memory(devices: int = 1) -> int:
    """Bytes that JAX reports for a device, or a share of the memory that a CPU has available.

    Args:
      devices: that share it on a CPU.

    Raises:
      ValueError: the system does not say.

    >>> device_memory() > 0
    True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    try:
        with open("/proc/meminfo") as lines:
            sizes = dict(line.split(":", 1) for line in lines)
        return int(sizes["MemAvailable"].split()[0]) * 1024 // devices
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // devices
    except (AttributeError, ValueError, OSError):
        raise ValueError("this system does not say how much memory it has; pass memory=.") from None


def plan(
    num_classes: int,
    embedding_dim: int,
    batch: int,
    *,
    mesh: Mesh | int | None = None,
    dtype: DTypeLike = jnp.float32,
    memory: float | None = None,
    rate: float = 0.1,
    centers_per_class: int = 1,
    optimizer_slots: int = 1,
    block: int | None = None,
) -> Plan:
    """Memory on each device, bytes sent and products of a step for every head; allocates nothing.

    Args:
      num_classes: C.
      embedding_dim: D.
      batch: B, rows of the whole batch.
      mesh: from `arcface_jax.parallel.make_mesh`, or on how many devices the classes are cut;
        heads on one device are listed too.
      dtype: of embeddings and centres; logits are float32, or float64 where these are.
      memory: bytes of each device that the head may use: what the backbone and its activations
        leave. None for all that `device_memory` finds.
      rate: of the classes that sampled heads meet.
      centers_per_class: K.
      optimizer_slots: arrays of the centres' size that the optimiser keeps: 1 for momentum, 2 for
        Adam.
      block: of fused heads; None for the backend's default.

    Raises:
      ValueError: a size below 1, a memory that is not positive, a batch that does not divide over
        the devices, a dtype that is not floating, a rate outside [0, 1].

    A margin that observes the logits of other classes, bias and state are not counted. On a mesh C
    is taken as padded to divide, as `arcface_jax.training.Program` does.

    >>> chosen = plan(1_000_000, 512, 128, memory=6e9).cheapest
    >>> chosen.name, chosen.exact
    ('sampled-sparse-update', False)
    >>> print(plan(100_000, 512, 128, mesh=8, memory=100 * 2**20).named("sharded+fused").fits)
    True
    """
    parts, data = _grid(mesh)
    sizes = {"num_classes": num_classes, "embedding_dim": embedding_dim, "batch": batch}
    sizes |= {"mesh": parts, "centers_per_class": centers_per_class}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value}; there must be at least 1.")
    if optimizer_slots < 0:
        raise ValueError(f"optimizer_slots={optimizer_slots}; plain SGD has 0, momentum 1.")
    if memory is not None and not memory > 0:
        raise ValueError(f"memory={memory}; it is a positive number of bytes on each device.")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype={jnp.dtype(dtype).name}; centres are floating-point numbers.")
    Sampled(rate=rate)
    Fused(block=block)
    devices = parts * data
    if batch % devices:
        raise ValueError(
            f"a batch of {batch} rows does not divide over {devices} devices; pad it with rows of "
            "label -1."
        )
    stored = jnp.dtype(dtype).itemsize
    one = _Size(
        num_classes=num_classes,
        dim=embedding_dim,
        batch=batch,
        per_class=centers_per_class,
        stored=stored,
        computed=max(stored, 4),
        slots=optimizer_slots,
        rate=rate,
        block=block,
        available=int(device_memory(devices) if memory is None else memory),
    )
    estimates = one.estimates()
    if devices > 1:
        estimates += dataclasses.replace(one, parts=parts, data=data).estimates()
    centers = f"{num_classes:,} classes x {embedding_dim:,}"
    if centers_per_class > 1:
        centers = f"{num_classes:,} classes x {centers_per_class} centers x {embedding_dim:,}"
    slots = f"{optimizer_slots} optimizer slot{'' if optimizer_slots == 1 else 's'}"
    where = "1 device" if devices == 1 else f"each of {devices:,} devices"
    return Plan(
        estimates=tuple(estimates),
        title=(
            f"{centers}, batch {batch:,}, {jnp.dtype(dtype).name}, {slots}; "
            f"{in_bytes(one.available)} on {where}"
        ),
        enough_devices=None if any(x.fits for x in estimates) else one.enough_devices(),
    )
