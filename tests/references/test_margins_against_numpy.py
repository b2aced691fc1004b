"""Every margin that is more than a function of one cosine, beside its NumPy reference."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af
from arcface_jax.margins import MARGINS, TAILS, MarginRule
from tests.margin_table import CLOSED_FORMS
from tests.references import numpy_margins
from tests.references.numpy_margins import REFERENCES, Answer, Batch

ROWS, DIM, CLASSES = 8, 6, 7
STRAIGHT: dict[str, Any] = {"gradient": "straight_through"}
# Relative to the length of the row that moves: rounding and curvature are equally large here.
STEP = 3e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A margin and its reference with the same hyper-parameters.

    Attributes:
      scale: s; None for the default of either side.
      state: before the first step; None for that of either side.
      rows: how many of the B rows count; the others are without a class.
      place: of the rows: "everywhere", so that every tail and limit is met; "near" their centres;
        or "opposite" all centres.
    """

    margin: MarginRule
    reference: Callable[..., Answer]
    scale: float | None = 16.0
    state: Mapping[str, Any] | None = None
    rows: int = ROWS
    place: str = "everywhere"


def case(
    name: str,
    *,
    state: Any = None,
    rows: int = ROWS,
    place: str = "everywhere",
    **options: Any,
) -> Case:
    """The margin ``name`` with ``options``; without any, on its own scale."""
    return Case(
        margin=MARGINS[name](**options),
        reference=functools.partial(REFERENCES[name], **options),
        scale=16.0 if options else None,
        state=state,
        rows=rows,
        place=place,
    )


NEVER = -(2**30)
VPL_UNSEEN = {
    "queue": np.random.default_rng(4).normal(size=(CLASSES, DIM)).astype(np.float32),
    "seen": np.full(CLASSES, NEVER, np.int32),
    "step": np.int32(0),
}
# Both ends of the window of 200 steps, and classes whose feature is too old or was never seen.
VPL_LATE = VPL_UNSEEN | {
    "seen": np.array([9000, 8801, 8800, 8700, 8990, NEVER, 8950], np.int32),
    "step": np.int32(9000),
}
# Features count after step 8000.
VPL_START = VPL_LATE | {"seen": VPL_LATE["seen"] - 1001, "step": np.int32(7999)}

CASES = {
    "curricularface": case("curricularface"),
    "curricularface-late": case("curricularface", alpha=0.9, m=0.3),
    "curricularface-easy": case("curricularface", tail="easy"),
    "curricularface-straight": case("curricularface", tail="mirror", **STRAIGHT),
    "magface": case("magface"),
    **{f"magface-{tail}": case("magface", tail=tail) for tail in TAILS},
    **{
        f"magface-{tail}-straight": case("magface", tail=tail, **STRAIGHT)
        for tail in ("hard", "easy", "none")
    },
    "magface-cos": case("magface", kind="cos"),
    "magface-cos-straight": case("magface", kind="cos", **STRAIGHT),
    "magface-tuned": case(
        "magface",
        lower_norm=1.0,
        upper_norm=51.0,
        lower_margin=0.45,
        upper_margin=1.0,
        strength=5.0,
    ),
    "adaface": case("adaface"),
    "adaface-of-the-batch": case("adaface", alpha=1.0, h=2.0),
    "adaface-cosface": case("adaface", m=0.5, h=0.0),
    "adaface-wide": case("adaface", alpha=0.5, h=1.0, epsilon=0.05),
    "adaface-one-row": case("adaface", alpha=0.5, rows=1),
    "adaface-unlimited": case("adaface", alpha=0.5, limited=False),
    "adaface-cvlface": case("adaface", alpha=0.5, limited=False, **STRAIGHT),
    "elasticface": case("elasticface"),
    **{
        f"elasticface-{kind}-{plus}": case("elasticface", kind=kind, plus=plus)
        for kind in ("arc", "cos")
        for plus in (None, "rank", "official")
    },
    "elasticface-wide": case("elasticface", m=0.4, sigma=0.2, tail="none", plus="rank"),
    # Some margins are negative, and have no turn.
    "elasticface-negative": case("elasticface", m=0.05, sigma=0.4),
    "elasticface-straight": case("elasticface", plus="official", **STRAIGHT),
    "subcenter_arcface": case("subcenter_arcface"),
    "subcenter_arcface-none": case("subcenter_arcface", m=0.3, tail="none"),
    "subcenter_arcface-straight": case("subcenter_arcface", **STRAIGHT),
    "vpl": case("vpl", state=VPL_START),
    "vpl-early": case("vpl", start=1, window=1, state=VPL_UNSEEN),
    "vpl-heavy": case("vpl", weight=0.4, state=VPL_LATE),
    "vpl-cosface": Case(
        margin=af.vpl(margin=af.cosface(0.2)),
        reference=functools.partial(numpy_margins.vpl, loss=numpy_margins.cosface, m=0.2),
        state=VPL_LATE,
    ),
    "circle_class": case("circle_class"),
    "circle_class-wide": case("circle_class", m=0.4),
    "adacos": case("adacos"),
    "adacos-near": case("adacos", place="near"),
    "adacos-near-odd": case("adacos", place="near", rows=ROWS - 1),
    # The sum over wrong classes lies below 1, and the scale stays.
    "adacos-opposite": case("adacos", place="opposite", state={"scale": np.float32(9.0)}),
    "adacos-fixed": case("adacos", dynamic=False),
    "p2sgrad": case("p2sgrad"),
    "p2sgrad-paper": case("p2sgrad", normalization="paper"),
    "sphereface2": case("sphereface2"),
    **{f"sphereface2-{kind}": case("sphereface2", kind=kind) for kind in "CAM"},
    **{
        f"sphereface2-{kind}-straight": case("sphereface2", kind=kind, **STRAIGHT) for kind in "CAM"
    },
    "sphereface2-weights": case("sphereface2", m=0.3, alpha=0.8, power=1.5, weight=10.0),
    "uniface": case("uniface"),
    "uniface-weight": case("uniface", m=0.1, weight=0.25),
    "uniface-clamped": case("uniface", clamp_arguments=True),
    "uniface-per-class": case("uniface", per_class=True),
    "uniface-per-class-clamped": case("uniface", per_class=True, clamp_arguments=True),
    "mv_softmax_arc": case("mv_softmax_arc"),
    "mv_softmax_arc-hard": case("mv_softmax_arc", m=0.5, tau=1.5),
    "mv_softmax_arc-easy": case("mv_softmax_arc", tail="easy"),
    "mv_softmax_arc-straight": case("mv_softmax_arc", tail="clip", **STRAIGHT),
    "mv_softmax_am": case("mv_softmax_am"),
    "mv_softmax_am-scaled": case("mv_softmax_am", tau=1.3),
    "mv_softmax_am-always": case("mv_softmax_am", conditional=False),
    "interclass_filter": case("interclass_filter"),
    "interclass_filter-off": case("interclass_filter", threshold=0.0),
    "interclass_filter-curricularface": Case(
        margin=af.interclass_filter(af.curricularface(), threshold=0.3),
        reference=functools.partial(
            numpy_margins.interclass_filter, loss=numpy_margins.curricularface, threshold=0.3
        ),
    ),
    "softmax": case("softmax"),
    "l_softmax": case("l_softmax"),
    "l_softmax-3": case("l_softmax", m=3),
    "airface": case("airface"),
    "airface-target": case("airface", all_classes=False),
    "airface-straight": case("airface", **STRAIGHT),
    "sphereface_r": case("sphereface_r"),
    "sphereface_r-v1": case("sphereface_r", variant="v1"),
    "sphereface_r-v2": case("sphereface_r", variant="v2"),
    "sphereface_r-v2-straight": case("sphereface_r", variant="v2", **STRAIGHT),
    "sphereface_r-none": case("sphereface_r", variant="v1", feature_norm="none"),
    # The factor grows with the second step.
    "sphereface_r-soft": case("sphereface_r", feature_norm="soft", steps=(1, 5)),
}

every_case = pytest.mark.parametrize("name", CASES)


# ------------------------------------------------------------------ both sides, step by step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a case: what it starts from, and what the library makes of it.

    Attributes:
      batch: as the reference takes it.
      losses: float64[B].
      gradients: of the sum of the losses.
      state: after the step; None where there is none.
    """

    batch: Batch
    losses: np.ndarray
    gradients: dict[str, np.ndarray]
    state: dict[str, Any] | None


def make_batch(chosen, rng):
    """(embeddings, centres, labels)"""
    margin = chosen.margin
    k = margin.centers_per_class
    w = rng.normal(size=(CLASSES, DIM) if k == 1 else (CLASSES, k, DIM))
    x, labels = rng.normal(size=(ROWS, DIM)), rng.integers(0, CLASSES, ROWS)
    first = w if k == 1 else w[:, 0]
    if chosen.place == "everywhere":
        # Opposite their centre, next to it, next to another one, near it; and wherever they are.
        ends = [(-1.0, 0.2, 0), (-1.0, 0.01, 0), (1.0, 0.01, 0), (1.0, 0.01, 1), (1.0, 0.5, 0)]
        for i, (sign, noise, shift) in enumerate(ends):
            x[i] = sign * first[(labels[i] + shift) % CLASSES] + noise * x[i]
    elif chosen.place == "near":
        x = w[labels] + 0.5 * x
    elif chosen.place == "opposite":
        w, x = 0.3 * w - 1.0, 0.3 * x + 1.0
    # Within the bounds of MagFace and AdaFace, and outside.
    sizes = np.array([4.0, 8.0, 200.0, 60.0, 30.0, 15.0, 90.0, 11.0])
    if not margin.normalized:
        sizes = sizes / 20.0
    return numpy_margins.normalize(x) * sizes[:, None], w, labels


def as_wide(state):
    """A state of the library for NumPy, in which nothing overflows or rounds."""
    kinds = {"f": np.float64, "i": np.int64}
    return {k: np.asarray(v).astype(kinds[np.asarray(v).dtype.kind]) for k, v in state.items()}


def take_step(chosen, number, state):
    """(the step ``number`` from a state, or None for the first one; the library's next state)."""
    margin, rng, key = chosen.margin, np.random.default_rng(number), jax.random.key(number)
    x, w, labels = make_batch(chosen, rng)
    counted = np.arange(ROWS) < chosen.rows
    batch = Batch(
        embeddings=x[counted],
        centers=w,
        labels=labels[counted],
        bias=rng.normal(size=CLASSES) if margin.has_bias else 1.5,
        state=None if state is None else as_wide(state),
        noise=np.asarray(jax.random.normal(key, (ROWS,)), np.float64)[counted],
    )
    has_params = margin.init_params(CLASSES) is not None
    arrays = {"embeddings": x, "centers": w}
    if margin.has_bias or has_params:
        arrays["bias"] = batch.bias

    def total(leaves):
        bias = leaves.get("bias")
        answer = af.margin_softmax_loss(
            leaves["embeddings"],
            leaves["centers"],
            np.where(counted, labels, -1),
            margin=margin,
            scale=chosen.scale if margin.has_scale else None,
            bias=bias if margin.has_bias else None,
            params={"bias": bias} if has_params else None,
            state=margin.init_state(CLASSES, DIM) if state is None else state,
            key=key if margin.needs_key else None,
        )
        losses, after = answer if margin.keeps_state else (answer, None)
        return jnp.sum(losses), (losses, after)

    with jax.enable_x64(True):
        leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
        gradients, (losses, after) = jax.grad(total, has_aux=True)(leaves)
        assert losses.dtype == jnp.float64
    by_row = (losses, gradients["embeddings"])
    assert not any(np.any(array[~counted]) for array in by_row)
    losses, gradients["embeddings"] = (array[counted] for array in by_row)
    step = Step(
        batch=batch,
        losses=np.asarray(losses),
        gradients={name: np.asarray(gradient) for name, gradient in gradients.items()},
        state=None if after is None else as_wide(after),
    )
    return step, after


@functools.cache
def steps(name):
    """Two steps of the library where it keeps a state, and one where it does not."""
    chosen = CASES[name]
    done, state = [], chosen.state
    for number in range(2 if chosen.margin.keeps_state else 1):
        step, state = take_step(chosen, number, state)
        done.append(step)
    return done


def reference_of(name):
    chosen = CASES[name]
    if chosen.scale is None or not chosen.margin.has_scale:
        return chosen.reference
    return functools.partial(chosen.reference, s=chosen.scale)


def answer_of(name, step):
    """The reference's answer with the statistics that the library has rounded to float32."""
    reference = reference_of(name)
    computed = reference(step.batch).constants
    stored = {k: v for k, v in (step.state or {}).items() if k in computed}
    return reference(step.batch, stored)


def sizes_of(array):
    """What a gradient is multiplied by so that it is the same at any length."""
    return np.linalg.norm(array, axis=-1, keepdims=True) if np.ndim(array) > 1 else 1.0


def finite_differences(reference, batch, constants, name):
    """Central differences of the summed losses by an array, for moves as long as its rows."""
    array = np.asarray(getattr(batch, name))
    slopes = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        move = np.zeros(array.shape)
        move[index] = STEP
        move = move * sizes_of(array)
        after, before = (
            reference(dataclasses.replace(batch, **{name: moved}), constants).losses
            for moved in (array + move, array - move)
        )
        slopes[index] = (after - before).sum() / (2.0 * STEP)
    return slopes


# ------------------------------------------------------------------ the comparison


@every_case
def test_losses_equal_the_reference(name):
    for step in steps(name):
        expected = answer_of(name, step).losses
        np.testing.assert_allclose(step.losses, expected, rtol=1e-9, atol=0.0)


@every_case
def test_gradients_equal_finite_differences_of_the_reference(name):
    for step in steps(name):
        constants = answer_of(name, step).constants
        for array, gradient in step.gradients.items():
            expected = finite_differences(reference_of(name), step.batch, constants, array)
            got = gradient * sizes_of(getattr(step.batch, array))
            np.testing.assert_allclose(
                got, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max(), err_msg=array
            )


@pytest.mark.parametrize("name", [name for name, row in CASES.items() if row.margin.keeps_state])
def test_each_state_equals_the_reference(name):
    for step in steps(name):
        expected = reference_of(name)(step.batch).state
        assert step.state is not None and expected is not None
        assert step.state.keys() == expected.keys()
        for key, value in expected.items():
            # States are float32, and moved in it.
            np.testing.assert_allclose(step.state[key], value, rtol=3e-7, atol=1e-7, err_msg=key)


def test_every_margin_has_a_reference():
    assert set(MARGINS) == set(REFERENCES) | (set(CLOSED_FORMS) & set(MARGINS))
    assert {name.split("-")[0] for name in CASES} == set(REFERENCES)
