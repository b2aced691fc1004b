"""What a plan says, beside what the compiler does."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import arcface_jax as af
from arcface_jax.heads import Dense, Fused, Sampled, Sharded, plan
from arcface_jax.parallel import classes_spec, make_mesh, place, rows_spec
from arcface_jax.training import update_rows

GB = 10**9


def compiled_step(head, *, classes, dim, batch, per_class=1, dtype="float32"):
    """A step of SGD with momentum on the centres, compiled for shapes alone."""
    optimizer, mesh = optax.sgd(0.1, momentum=0.9), head.mesh
    sampled = isinstance(head, Sampled)

    def step(centers, state, embeddings, labels, key):
        sum_over, within, outside = head, None, None
        if sampled:
            sample = head.draw(labels, num_classes=classes, key=key)
            within, outside = (sample, None) if head.update == "dense" else (None, sample)
            sum_over = head.on(sample)

        def total(met, embeddings):
            met = met if within is None else within.take(met)
            losses = af.margin_softmax_loss(
                embeddings, met, labels, margin=af.arcface(), head=sum_over
            )
            return losses.sum()

        met = centers if outside is None else outside.take(centers)
        loss, (by_centers, by_rows) = jax.value_and_grad(total, argnums=(0, 1))(met, embeddings)
        moved = update_rows(optimizer, by_centers, state, centers, by_class=True, sample=outside)
        if mesh is not None:
            moved = jax.tree.map(lambda x: place(x, mesh, classes_spec()), moved)
        return *moved, loss, by_rows, optax.tree.norm(by_centers)

    def shape(like, spec):
        sharding = None if mesh is None else NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)

    centers = jax.ShapeDtypeStruct((classes, *(per_class,) * (per_class > 1), dim), dtype)
    by_class, by_row = classes_spec(), P() if mesh is None else rows_spec(mesh)
    state = jax.tree.map(lambda x: shape(x, by_class), jax.eval_shape(optimizer.init, centers))
    arguments = (
        shape(centers, by_class),
        state,
        shape(jax.ShapeDtypeStruct((batch, dim), dtype), by_row),
        shape(jax.ShapeDtypeStruct((batch,), jnp.int32), by_row),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    return jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile()


def on(data, parts, local):
    return Sharded(mesh=make_mesh(parts, data), local=local)


CASES = {
    "dense": (Dense(), {}),
    "fused": (Fused(), {}),
    "fused in large blocks": (Fused(block=1000), {}),
    "fused, bfloat16": (Fused(block=256), {"dtype": "bfloat16"}),
    "dense, 3 centres": (Dense(), {"per_class": 3}),
    "sharded+dense": (on(1, 4, Dense()), {}),
    "sharded+fused": (on(1, 4, Fused(block=256)), {}),
    "sharded+fused, 2 x 2": (on(2, 2, Fused(block=256)), {}),
    "sampled-dense-update": (Sampled(rate=0.1), {}),
    "sampled-sparse-update": (Sampled(rate=0.1, update="sparse"), {}),
    "sharded+sampled-sparse-update": (
        Sampled(rate=0.3, update="sparse", head=on(1, 4, Fused(block=128))),
        {},
    ),
}


def block_of(head):
    local = head.head if isinstance(head, Sampled) else head
    return getattr(getattr(local, "local", local), "block", None)


def estimate_of(case, *, classes, dim, batch):
    head, options = CASES[case]
    return plan(
        classes,
        dim,
        batch,
        mesh=head.mesh,
        dtype=options.get("dtype", "float32"),
        memory=GB,
        rate=getattr(head, "rate", 0.1),
        centers_per_class=options.get("per_class", 1),
        block=block_of(head),
    ).named(case.split(",")[0].split(" in ")[0])


@pytest.mark.parametrize("case", CASES)
def test_memory_is_what_the_compiler_assigns(case):
    size = dict(classes=8000, dim=64, batch=64)
    head, options = CASES[case]
    memory = compiled_step(head, **size, **options).memory_analysis()
    measured = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    assert 0.9 * measured <= estimate_of(case, **size).total <= 1.25 * measured


def received(text, devices):
    """Bytes that each device receives by the collectives of a program on one axis."""
    sizes = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "bf16": 2}
    # Of the array that a collective gives, in shares that travel.
    shares = {"all-gather": 1, "all-reduce": 2, "reduce-scatter": devices}
    total = 0.0
    for shapes, kind in re.findall(r"= \(?(.*?)\)? (all-reduce|all-gather|reduce-scatter)\(", text):
        for dtype, dims in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes):
            count = np.prod([int(n) for n in dims.split(",") if n])
            total += shares[kind] * sizes[dtype] * count * (devices - 1) / devices
    return total


def test_traffic_is_what_the_program_sends():
    size = dict(classes=8000, dim=64, batch=64)
    for case in ("sharded+dense", "sharded+fused"):
        text = compiled_step(CASES[case][0], **size).as_text()
        estimate = estimate_of(case, **size)
        assert estimate.received == pytest.approx(received(text, 4), rel=0.1)
        # Embeddings there, their gradient back; what else travels is small beside them.
        assert estimate.received > 2 * (64 * 64 * 4) * 3 / 4


def test_nothing_is_allocated():
    before = len(jax.live_arrays())
    print(plan(100_000_000, 512, 1024, mesh=64, memory=80 * GB))
    assert len(jax.live_arrays()) == before


def test_a_case_by_hand():
    estimate = plan(1000, 64, 32, memory=GB).named("dense")
    assert (estimate.centers, estimate.optimizer, estimate.gradient) == (256_000,) * 3
    assert estimate.flops == 3 * 2 * 32 * 1000 * 64 and estimate.received == 0
    assert plan(1000, 64, 32, memory=GB).named("fused").flops == 4 * 2 * 32 * 1000 * 64


def test_exact_heads_go_before_samples_and_samples_before_nothing():
    def choice(memory):
        return plan(1_000_000, 512, 128, memory=memory).cheapest

    assert [choice(m).name for m in (20 * GB, 8 * GB, 6 * GB)] == [
        "dense",
        "fused",
        "sampled-sparse-update",
    ]
    assert choice(2 * GB) is None
    text = str(plan(1_000_000, 512, 128, memory=2 * GB))
    assert "No head fits: sampled-sparse-update needs least" in text
    assert re.search(r"with the classes over \d+ devices of 1.86 GiB an exact head would", text)
    assert "Take sampled-sparse-update, Sampled(rate=0.1" in str(
        plan(1_000_000, 512, 128, memory=6 * GB)
    )


def test_a_head_that_cannot_fit_says_how_much_it_needs_and_which_would():
    size = plan(1_000_000, 512, 128, memory=8 * GB)
    with pytest.raises(ValueError, match="dense needs 10.0 GiB on a device that has 7.45 GiB; fus"):
        size.require("dense")
    assert size.require("fused").fits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_classes=0), "num_classes=0; there must be at least 1"),
        (dict(memory=-1.0), "memory=-1.0; it is a positive number"),
        (dict(mesh=3), "128 rows does not divide over 3 devices"),
        (dict(dtype="int32"), "dtype=int32; centres are floating-point"),
        (dict(rate=2.0), r"rate=2.0 lies outside \[0, 1\]"),
        (dict(optimizer_slots=-1), "plain SGD has 0"),
    ],
)
def test_wrong_sizes_are_refused(change, message):
    arguments = dict(num_classes=1000, embedding_dim=64, batch=128, memory=GB) | change
    data = [arguments.pop(name) for name in ("num_classes", "embedding_dim", "batch")]
    with pytest.raises(ValueError, match=message):
        plan(*data, **arguments)


def test_an_unknown_head_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean fused"):
        plan(1000, 64, 32, memory=GB).named("fusde")
