"""Properties that every margin keeps; run them over a margin of one's own.

Each check takes a margin and raises AssertionError where it fails. `CHECKS` names them all:

>>> import arcface_jax as af
>>> CHECKS["all_masked"](af.cosface(0.25))
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from arcface_jax import geometry
from arcface_jax.heads import HEADS, Head, margin_softmax_loss
from arcface_jax.margins import Context, MarginRule, target_cosine
from arcface_jax.margins.wrapper import Wrapper

ROWS, CLASSES, DIM = 6, 9, 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What a margin is checked on.

    Attributes:
      embeddings: float[B, D], of lengths from about 1 to 60.
      centers: float[C, D] or float[C, K, D].
      labels: int[B], one class twice.
      scale: s, or None where the margin sets it.
      bias, params, state, key: what the margin asks for.
    """

    embeddings: Array
    centers: Array
    labels: Array
    scale: float | None
    bias: Array | None
    params: Any
    state: Any
    key: Array


def make_batch(
    margin: MarginRule,
    *,
    rows: int = ROWS,
    classes: int = CLASSES,
    dtype: DTypeLike = jnp.float32,
    warm: bool = True,
) -> Batch:
    """A small batch from a fixed seed.

    Args:
      margin: decides on the shape of the centres and on everything it asks for.
      rows: B.
      classes: C.
      dtype: of embeddings and centres.
      warm: whether a running state has seen another batch already.

    >>> import arcface_jax as af
    >>> make_batch(af.subcenter_arcface(k=2)).centers.shape
    (9, 2, 5)
    """
    rng = np.random.default_rng(0)
    k = margin.centers_per_class
    lengths = np.geomspace(1.0, 60.0, rows)[:, None] / DIM**0.5
    batch = Batch(
        embeddings=jnp.asarray(rng.normal(size=(rows, DIM)) * lengths, dtype),
        centers=jnp.asarray(
            rng.normal(size=(classes, DIM) if k == 1 else (classes, k, DIM)), dtype
        ),
        labels=jnp.asarray(np.concatenate([[0], np.arange(rows - 1)]) % classes, jnp.int32),
        scale=8.0 if margin.has_scale else None,
        bias=jnp.asarray(rng.normal(size=classes), dtype) if margin.has_bias else None,
        params=margin.init_params(classes, scale=8.0),
        state=margin.init_state(classes, DIM) if margin.keeps_state else None,
        key=jax.random.key(0),
    )
    if not (warm and margin.keeps_state):
        return batch
    seen = dataclasses.replace(batch, embeddings=batch.embeddings[::-1])
    return dataclasses.replace(batch, state=evaluate(margin, seen)[1])


def evaluate(
    margin: MarginRule, batch: Batch, *, head: str | Head = "dense", **changed: Any
) -> tuple[Array, Any]:
    """(losses, next state or None) of a batch; ``changed`` replaces its arrays or adds options.

    >>> import arcface_jax as af
    >>> evaluate(af.arcface(), make_batch(af.arcface()))[0].shape
    (6,)
    """
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    options = fields | changed
    data = [options.pop(name) for name in ("embeddings", "centers", "labels")]
    result = margin_softmax_loss(*data, margin=margin, head=head, **options)
    return result if margin.keeps_state else (result, None)


def gradients(margin: MarginRule, batch: Batch, **changed: Any) -> tuple[Array, Array, Array]:
    """(losses, gradient of their sum to the embeddings, to the centres)."""

    def total(embeddings: Array, centers: Array) -> tuple[Array, Array]:
        arrays: dict[str, Any] = {"embeddings": embeddings, "centers": centers}
        losses, _ = evaluate(margin, batch, **arrays, **changed)
        return jnp.sum(losses), losses

    arrays = (
        changed.pop("embeddings", batch.embeddings),
        changed.pop("centers", batch.centers),
    )
    grads, losses = jax.grad(total, argnums=(0, 1), has_aux=True)(*arrays)
    return losses, *grads


def _close(got: Any, expected: Any, *, tolerance: float) -> None:
    expected = np.asarray(expected, np.float64)
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(
        np.asarray(got, np.float64), expected, rtol=0.0, atol=tolerance * max(largest, 1e-3)
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Frozen(Wrapper):
    """The margin with statistics that no longer move, as its gradient takes them."""

    @property
    def observes_others(self) -> bool:
        return False

    def observe(self, context: Context) -> Context:
        return context


def finite_differences(margin: MarginRule) -> None:
    """Gradients to embeddings and centres are those of float64 finite differences.

    Statistics, and lengths where they are constants, are held. Not for a margin whose definition
    holds other quantities constant, such as Circle loss.
    """
    with jax.enable_x64(True):
        batch = make_batch(margin, dtype=jnp.float64)
        _, state = evaluate(margin, batch)
        frozen = _Frozen(margin)
        batch = dataclasses.replace(batch, state=state)
        _, *grads = gradients(frozen, batch)
        rng = np.random.default_rng(1)
        for name, grad in zip(("embeddings", "centers"), grads, strict=True):
            array = np.asarray(getattr(batch, name))
            direction = rng.normal(size=array.shape)
            if margin.normalized and name == "embeddings":
                # Along the sphere: a length is a constant in some margins.
                unit = np.asarray(geometry.unit(array))
                direction -= unit * (direction * unit).sum(-1, keepdims=True)
            step = 1e-6
            ends = []
            for moved in (array + step * direction, array - step * direction):
                change: dict[str, Any] = {name: jnp.asarray(moved)}
                ends.append(float(evaluate(frozen, batch, **change)[0].sum()))
            slope = float((np.asarray(grad) * direction).sum())
            expected = (ends[0] - ends[1]) / (2 * step)
            assert abs(slope - expected) <= 2e-6 * max(abs(expected), 1.0), (slope, expected)


def finite_everywhere(margin: MarginRule) -> None:
    """Value and gradient are finite at any length and alignment, in any float type.

    Centres next to, opposite to and at right angles to the embedding, one centre zero, lengths from
    0 to 1e4; float32, bfloat16 and float16.
    """
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        batch = make_batch(margin, classes=4, rows=16, dtype=dtype)
        centers = batch.centers.at[3].set(0.0)
        own = centers if centers.ndim == 2 else centers[:, 0]
        across = jnp.roll(own[2], 1) * jnp.asarray([1, -1, 1, -1, 0], dtype)
        directions = jnp.stack([own[0], -own[1], across, own[2]]).astype(jnp.float32)
        # Gradients grow as 1 / length, or as length where nothing is normalised: further out they
        # leave float16's range.
        longest = 1e4 if margin.normalized else 1e2
        sized = [directions * size for size in (0.0, 1e-2, 1.0, longest)]
        labels = jnp.tile(jnp.arange(4), 4)
        losses, *grads = gradients(
            margin,
            batch,
            embeddings=jnp.concatenate(sized).astype(dtype),
            centers=centers,
            labels=labels,
        )
        assert losses.dtype == jnp.float32, losses.dtype
        assert bool(jnp.isfinite(losses).all()), losses
        for grad in grads:
            assert grad.dtype == dtype, grad.dtype
            assert bool(jnp.isfinite(grad).all()), grad
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        poles = jnp.asarray([1.0, 1.01, 0.0, -1.0, -1.01], dtype)
        slope = jax.vmap(jax.grad(lambda c: target_cosine(c, margin)))(poles)
        assert bool(jnp.isfinite(target_cosine(poles, margin)).all())
        assert bool(jnp.isfinite(slope).all()), slope


def float64_stays(margin: MarginRule) -> None:
    """float64 input gives float64 losses, so that values can be checked against references."""
    with jax.enable_x64(True):
        batch = make_batch(margin, dtype=jnp.float64)
        wide = evaluate(margin, batch)[0]
        assert wide.dtype == jnp.float64, wide.dtype
        narrow = evaluate(
            margin,
            batch,
            embeddings=batch.embeddings.astype(jnp.float32),
            centers=batch.centers.astype(jnp.float32),
        )[0]
        assert narrow.dtype == jnp.float32, narrow.dtype
        _close(narrow, wide, tolerance=1e-4)


def masked_is_sliced(margin: MarginRule) -> None:
    """Rows left out by ``where`` or label -1 change nothing: loss, gradients, next state."""
    if margin.needs_key:
        # Draws have the shape of the batch, so a shorter one draws other numbers.
        margin = dataclasses.replace(margin, sigma=0.0)  # pyright: ignore
    batch = make_batch(margin)
    kept = np.array([True, False, True, True, False, True])
    sliced: dict[str, Any] = {
        "embeddings": batch.embeddings[kept],
        "labels": batch.labels[kept],
    }
    expected, by_x, by_w = gradients(margin, batch, **sliced)
    _, expected_state = evaluate(margin, batch, **sliced)
    changes: tuple[dict[str, Any], ...] = (
        {"where": jnp.asarray(kept)},
        {"labels": jnp.where(jnp.asarray(kept), batch.labels, -1)},
    )
    for change in changes:
        losses, got_x, got_w = gradients(margin, batch, **change)
        _close(losses[kept], expected, tolerance=1e-5)
        assert float(jnp.abs(losses[~kept]).max()) == 0.0
        _close(got_x[kept], by_x, tolerance=2e-5)
        assert float(jnp.abs(got_x[~kept]).max()) == 0.0
        _close(got_w, by_w, tolerance=2e-5)
        _, state = evaluate(margin, batch, **change)
        jax.tree.map(lambda a, b: _close(a, b, tolerance=1e-5), state, expected_state)


def all_masked(margin: MarginRule) -> None:
    """With no row left, losses and gradients are 0 and statistics stay as they were."""
    batch = make_batch(margin)
    losses, *grads = gradients(margin, batch, where=jnp.zeros(ROWS, bool))
    assert float(jnp.abs(losses).max()) == 0.0
    assert all(float(jnp.abs(grad).max()) == 0.0 for grad in grads)
    _, state = evaluate(margin, batch, where=jnp.zeros(ROWS, bool))
    if state is not None:
        # A count of steps counts this one too.
        for name, before in batch.state.items():
            if name != "step":
                np.testing.assert_array_equal(state[name], before, err_msg=name)


def one_row(margin: MarginRule) -> None:
    """A batch of one row is finite, and without batch statistics equals its row in a batch."""
    batch = make_batch(margin)
    whole, _ = evaluate(margin, batch)
    for i in range(ROWS):
        cut: dict[str, Any] = {
            "embeddings": batch.embeddings[i : i + 1],
            "labels": batch.labels[i : i + 1],
        }
        losses, *grads = gradients(margin, batch, **cut)
        assert bool(jnp.isfinite(losses).all())
        assert all(bool(jnp.isfinite(grad).all()) for grad in grads)
        if not (margin.keeps_state or margin.needs_key):
            _close(losses, whole[i : i + 1], tolerance=2e-5)


def one_class(margin: MarginRule) -> None:
    """With one class a softmax has nothing to lose; a margin that needs more refuses."""
    try:
        batch = make_batch(margin, classes=1)
    except ValueError as error:
        assert "classes" in str(error), error
        return
    losses, *grads = gradients(margin, batch)
    assert bool(jnp.isfinite(losses).all())
    assert all(bool(jnp.isfinite(grad).all()) for grad in grads)
    if margin.link == "softmax" and type(margin).finish is MarginRule.finish:
        assert float(jnp.abs(losses).max()) == 0.0
        assert all(float(jnp.abs(grad).max()) == 0.0 for grad in grads)


def rotation(margin: MarginRule) -> None:
    """Turning embeddings and centres together changes nothing."""
    batch = make_batch(margin, warm=False)
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))
    q = jnp.asarray(q, jnp.float32)
    turned, _ = evaluate(margin, batch, embeddings=batch.embeddings @ q, centers=batch.centers @ q)
    _close(turned, evaluate(margin, batch)[0], tolerance=1e-4)


def lengths(margin: MarginRule) -> None:
    """Cosines know no length: scaling changes nothing and gradients lie along the sphere."""
    if not margin.normalized:
        return
    batch = make_batch(margin)
    losses, by_x, by_w = gradients(margin, batch)
    _close(evaluate(margin, batch, centers=7.0 * batch.centers)[0], losses, tolerance=2e-5)
    size = float(jnp.abs(by_w).max())
    assert float(jnp.abs(jnp.sum(batch.centers * by_w, axis=-1)).max()) <= 5e-5 * max(size, 1.0)
    if margin.needs_norms:
        return
    _close(evaluate(margin, batch, embeddings=7.0 * batch.embeddings)[0], losses, tolerance=2e-5)
    own = jnp.abs(jnp.sum(batch.embeddings * by_x, axis=-1)).max()
    largest = jnp.abs(batch.embeddings).max() * jnp.abs(by_x).max()
    assert float(own) <= 5e-5 * float(jnp.maximum(largest, 1.0))


def permutations(margin: MarginRule) -> None:
    """The order of rows and classes does not matter."""
    if margin.needs_key:
        margin = dataclasses.replace(margin, sigma=0.0)  # pyright: ignore
    batch = make_batch(margin, warm=False)
    rng = np.random.default_rng(3)
    rows, classes = rng.permutation(ROWS), rng.permutation(CLASSES)
    expected, _ = evaluate(margin, batch)
    shuffled: dict[str, Any] = {"embeddings": batch.embeddings[rows], "labels": batch.labels[rows]}
    _close(evaluate(margin, batch, **shuffled)[0], expected[rows], tolerance=2e-5)
    renamed: dict[str, Any] = {
        "centers": batch.centers[classes],
        "labels": jnp.asarray(np.argsort(classes), jnp.int32)[batch.labels],
        "bias": None if batch.bias is None else batch.bias[classes],
    }
    _close(evaluate(margin, batch, **renamed)[0], expected, tolerance=2e-5)


def compiled_is_eager(margin: MarginRule) -> None:
    """One compiled program serves every value of the hyper-parameters, and gives the same."""
    batch = make_batch(margin)
    traces = 0

    @jax.jit
    def compiled(margin: MarginRule, scale: Any) -> Any:
        nonlocal traces
        traces += 1
        return evaluate(margin, batch, scale=scale)

    def traced(margin: MarginRule, factor: float) -> MarginRule:
        return jax.tree.map(lambda leaf: jnp.float32(factor * leaf), margin)

    for factor in (1.0, 0.95):
        changed = traced(margin, factor)
        scale = None if batch.scale is None else jnp.float32(factor * batch.scale)
        got = compiled(changed, scale)
        expected = evaluate(changed, batch, scale=scale)
        jax.tree.map(lambda a, b: _close(a, b, tolerance=2e-5), got, expected)
    assert traces == 1, f"compiled {traces} times"
    _close(evaluate(traced(margin, 1.0), batch)[0], evaluate(margin, batch)[0], tolerance=2e-5)


def vmap_is_a_loop(margin: MarginRule) -> None:
    """Hyper-parameters can be mapped over."""
    batch = make_batch(margin)
    factors = jnp.asarray([1.0, 0.95])
    margins = jax.tree.map(lambda leaf: factors * leaf, margin)

    def losses(margin: MarginRule, factor: Array) -> Array:
        scale = None if batch.scale is None else factor * batch.scale
        return evaluate(margin, batch, scale=scale)[0]

    got = jax.vmap(losses)(margins, factors)
    for i, factor in enumerate(factors):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], margins)
        _close(got[i], losses(one, factor), tolerance=2e-5)


def heads_agree(margin: MarginRule) -> None:
    """Every registered head gives the dense head's losses, gradients and next state."""
    batch = make_batch(margin)
    expected = gradients(margin, batch)
    _, expected_state = evaluate(margin, batch)
    for name, head in HEADS.items():
        if head.samples_classes and margin.needs_all_classes:
            continue
        got = gradients(margin, batch, head=name)
        for a, b in zip(got, expected, strict=True):
            _close(a, b, tolerance=2e-5)
        _, state = evaluate(margin, batch, head=name)
        jax.tree.map(lambda a, b: _close(a, b, tolerance=1e-5), state, expected_state)


CHECKS: dict[str, Callable[[MarginRule], None]] = {
    check.__name__: check
    for check in (
        finite_differences,
        finite_everywhere,
        float64_stays,
        masked_is_sliced,
        all_masked,
        one_row,
        one_class,
        rotation,
        lengths,
        permutations,
        compiled_is_eager,
        vmap_is_a_loop,
        heads_agree,
    )
}


def monotone(margin: MarginRule) -> None:
    """A larger angle never gets a larger target; not every margin promises this."""
    target = target_cosine(jnp.cos(jnp.linspace(0.0, jnp.pi, 721)), margin)
    assert bool((jnp.diff(target) <= 1e-6).all())
