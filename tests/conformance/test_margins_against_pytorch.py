"""Every margin and its options beside an independent PyTorch version, in float64."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af
from arcface_jax import geometry, margins
from arcface_jax.margins import GRADIENTS, MARGINS, TAILS, Context
from arcface_jax.margins.adacos import AdaCos
from arcface_jax.margins.adaface import AdaFace
from arcface_jax.margins.airface import AirFace
from arcface_jax.margins.circle import Circle
from arcface_jax.margins.curricularface import CurricularFace
from arcface_jax.margins.elasticface import ElasticFace
from arcface_jax.margins.interclass_filter import InterclassFilter
from arcface_jax.margins.l_softmax import LSoftmax
from arcface_jax.margins.magface import MagFace
from arcface_jax.margins.mv_softmax import MVSoftmax
from arcface_jax.margins.p2sgrad import P2SGrad
from arcface_jax.margins.softmax import Softmax
from arcface_jax.margins.sphereface2 import SphereFace2
from arcface_jax.margins.sphereface_psi import PsiMargin
from arcface_jax.margins.sphereface_r import SphereFaceR
from arcface_jax.margins.subcenter import SubcenterArcFace
from arcface_jax.margins.uniface import UniFace
from arcface_jax.margins.vpl import VPL

REFERENCE = pathlib.Path(__file__).with_name("torch_margins.py")
ROWS, DIM, CLASSES = 24, 16, 11
STRAIGHT = {"gradient": "straight_through"}


def choices(name, *options, **fixed):
    """The margin with each of the options, under names that say them."""
    return {
        "-".join([name, *(f"{k}={v}" for k, v in chosen.items())]): MARGINS[name](**fixed, **chosen)
        for chosen in options
    }


def tails(*names, straight=()):
    """Each tail with its exact gradient, and some with the other convention."""
    return [{"tail": tail} for tail in names] + [{"tail": tail, **STRAIGHT} for tail in straight]


# The first of each name has the defaults, its own scale among them.
CASES = {
    **choices("softmax", {}),
    **choices("norm_softmax", {}),
    **choices("sphereface", {}, *tails("mirror", "clip", straight=["none"])),
    **choices("cosface", {}, {"m": 0.1}),
    **choices("arcface", {}, *tails(*TAILS, straight=["hard", "clip", "none"])),
    **choices(
        "combined",
        {},
        {"m1": 0.9, "m2": 0.4, "m3": 0.15},
        {"m1": 1.0, "m2": 0.3, "m3": 0.2, "tail": "facex", "tail_margin": 0.3},
        {"m1": 1.35, "m2": 0.2, "m3": -0.1, "tail": "min", **STRAIGHT},
        {"m1": 1.2, "m2": 0.4, "tail": "easy"},
    ),
    **choices("l_softmax", {}, {"m": 1}, {"m": 3}),
    **choices(
        "sphereface_psi",
        {},
        STRAIGHT,
        {"m": 3, "annealed": False},
        {"m": 1.7, "annealed": False},
        {"m": 2, "feature_norm": "hard", "annealed": False},
        {"m": 1.7, "feature_norm": "hard", "annealed": False, **STRAIGHT},
    ),
    **choices(
        "sphereface_r",
        {},
        *({"variant": v, "gradient": g} for v in ("v0", "v1", "v2") for g in GRADIENTS),
        {"variant": "v0", "feature_norm": "none"},
        {"variant": "v2", "feature_norm": "none", "weight": 0.5},
        {"variant": "v1", "feature_norm": "soft", "pull": 0.1},
        # Of three steps two lie behind.
        {"feature_norm": "soft", "steps": (50, 100, 101), **STRAIGHT},
    ),
    **choices(
        "sphereface2",
        {},
        *({"kind": kind, "gradient": g} for kind in "CAM" for g in GRADIENTS),
        {"kind": "C", "alpha": 0.8, "power": 1.0, "weight": 10.0},
    ),
    **choices("curricularface", {}, {"m": 0.3, "alpha": 0.1}, *tails("easy", straight=["mirror"])),
    **choices("mv_softmax_arc", {}, {"m": 0.5, "tau": 1.5}, *tails("easy", straight=["none"])),
    **choices("mv_softmax_am", {}, {"conditional": False, "tau": 1.5}),
    **choices(
        "magface",
        {},
        *tails("easy", "facex", straight=["hard", "easy", "min"]),
        {"kind": "cos"},
        {"kind": "cos", **STRAIGHT},
        {"upper_margin": 1.0, "lower_norm": 1.0, "upper_norm": 51.0, "strength": 5.0},
    ),
    **choices(
        "adaface",
        {},
        STRAIGHT,
        {"m": 0.5, "h": 0.0},
        {"alpha": 1.0, "h": 2.0, "epsilon": 0.01},
        {"limited": False},
        {"limited": False, **STRAIGHT},
    ),
    **choices(
        "elasticface",
        {},
        *({"kind": kind, "plus": plus} for kind in ("arc", "cos") for plus in ("rank", "official")),
        {"kind": "cos"},
        {"sigma": 0.0},
        *tails("none", straight=["mirror"]),
    ),
    **choices("subcenter_arcface", {}, {"m": 0.3, "tail": "none", **STRAIGHT}),
    **choices("vpl", {}, {"weight": 0.4}),
    "vpl-cosface": af.vpl(margin=af.cosface(0.3)),
    **choices("circle_class", {}, {"m": 0.4}),
    **choices("adacos", {}, {"dynamic": False}),
    **choices("airface", {}, {"all_classes": False}, STRAIGHT),
    **choices("p2sgrad", {}, {"normalization": "paper"}),
    **choices("uniface", {}, {"clamp_arguments": True}, {"m": 0.1, "weight": 0.25}),
    **choices("uniface", {"per_class": True}),
    **choices("interclass_filter", {}, {"threshold": 0.1}, {"threshold": 0.0}),
    "interclass_filter-cosface": af.interclass_filter(af.cosface(0.4), threshold=0.2),
}


def in_reference(margin):
    """(the reference's name for the margin, its parameters)."""

    def numbers(*names, **renamed):
        names = {name: name for name in names} | renamed
        return {theirs: getattr(margin, ours) for ours, theirs in names.items()}

    combined = ("m1", "m2", "m3", "tail", "gradient")
    match margin:
        case InterclassFilter():
            return "interclass_filter", in_reference(margin.margin)[1] | numbers("threshold")
        case VPL():
            return "vpl", in_reference(margin.margin)[1]
        case SubcenterArcFace():
            return "subcenter", numbers(*combined)
        case margins.Margin():
            return "combined", numbers(*combined, tail_margin="margin_am")
        case Softmax():
            return "softmax", {}
        case LSoftmax():
            return "l_softmax", numbers("m")
        case PsiMargin():
            annealing = float(margin.lambda_0) / (1.0 + 0.12 * STEP) ** float(margin.power)
            lam = max(float(margin.lambda_min), annealing)
            return "sphereface_psi", numbers("m", "feature_norm", "gradient") | {"lam": lam}
        case SphereFaceR():
            grown = 1.0 + margin.increment * sum(STEP > step for step in margin.steps)
            return "sphereface_r", numbers("variant", "gradient", weight="lw", pull="tau") | {
                "m": grown if margin.steps else margin.m,
                "norm": {"hard": "hfn", "none": "nfn", "soft": "sfn"}[margin.feature_norm],
            }
        case SphereFace2():
            return "sphereface2", numbers("kind", "m", "alpha", "gradient", power="t", weight="lw")
        case CurricularFace():
            return "curricularface", numbers("m", "alpha", "tail", "gradient")
        case MVSoftmax():
            return "mv_softmax", numbers("kind", "m", "tau", "tail", "conditional", "gradient")
        case MagFace():
            return "magface", numbers(
                "tail",
                "gradient",
                lower_norm="l_a",
                upper_norm="u_a",
                lower_margin="l_m",
                upper_margin="u_m",
                strength="lambda_g",
                kind="variant",
            )
        case AdaFace():
            epsilon = {"eps": margin.epsilon if margin.limited else 0.0}
            return "adaface", numbers("m", "h", "alpha", "gradient", epsilon="scaler_eps") | epsilon
        case ElasticFace():
            return "elasticface", numbers("kind", "plus", "tail", "gradient")
        case Circle():
            return "circle_class", numbers("m")
        case AdaCos():
            return "adacos", numbers("dynamic")
        case AirFace():
            return "airface", numbers("m", "all_classes", "gradient")
        case P2SGrad():
            return "p2sgrad", numbers(normalization="normalisation")
        case UniFace():
            return "uniface", numbers("m", "weight", "clamp_arguments")
    raise TypeError(margin)


# ------------------------------------------------------------------ a batch with every corner

STEP = 101  # The number of the step that is taken: 1 is the first.
SEED = 3


def make_batch(margin, rng):
    """Embeddings, centres, labels and bias, with rows at and past every end of the cosine."""
    shape = (CLASSES, DIM) if margin.centers_per_class == 1 else (CLASSES, margin.k, DIM)
    w, labels = rng.normal(size=shape), rng.integers(0, CLASSES, ROWS)
    # An axis and lengths that are powers of two make cosines of exactly 1 and -1.
    axis = np.eye(DIM)[0]
    w[3], w[7] = 2.0 * axis, 0.0
    nearest = w if w.ndim == 2 else w[:, 0]
    labels[7:12] = 3, 3, 5, 7, 2
    x = rng.normal(size=(ROWS, DIM))
    # Without limits the reference ends at 0 and pi still, so no row may go there.
    to_the_ends = not isinstance(margin, AdaFace) or margin.limited
    if to_the_ends:
        x[:7] = -nearest[labels[:7]] + 0.1 * x[:7]
        x[12:15] = nearest[labels[12:15]] + 0.3 * x[12:15]
    # Beyond the bounds of MagFace and AdaFace at both ends.
    lengths = rng.permutation(np.geomspace(4.0, 200.0, ROWS))
    x *= lengths[:, None] / np.linalg.norm(x, axis=1, keepdims=True)
    if to_the_ends:
        x[7:10] = np.array([32.0, -64.0, 128.0])[:, None] * axis
    x[11] = 0.0
    bias = 0.5 * rng.normal(size=CLASSES) if margin.has_bias else None
    return x, w, labels, bias


def state_before(margin, rng):
    """A state that is not the first one."""
    match margin:
        case VPL():
            # Both ends of the window, and a class that was never seen.
            ago = jnp.array([1, 5, 60, 199, 200, 201, 300, 9001, 9, 2, 500], jnp.int32)
            queue = jnp.asarray(rng.normal(size=(CLASSES, DIM)), jnp.float32)
            return {"queue": queue, "seen": 9001 - ago, "step": jnp.array(9000, jnp.int32)}
        case PsiMargin() | SphereFaceR():
            return {"step": jnp.array(STEP - 1, jnp.int32)}
        case CurricularFace():
            return {"t": jnp.float32(0.3)}
        case AdaFace():
            return {"mean": jnp.float32(45.0), "std": jnp.float32(30.0)}
        case AdaCos():
            return {"scale": jnp.float32(7.5)}
    return None


def state_in_reference(margin, state):
    """The reference's inputs for the same state."""
    match margin:
        case VPL():
            met = 9001 - np.asarray(state["seen"]) <= margin.window
            return {"queue": state["queue"], "lambda": np.where(met, margin.weight, 0.0)}
        case PsiMargin() | SphereFaceR():
            return {}
    return state or {}


def state_after(margin, state, theirs, x, labels):
    """What the new state has to be: the reference's, or by hand where it has none."""
    match margin:
        case VPL():
            queue, seen = np.array(state["queue"]), np.array(state["seen"])
            for row, label in zip(x, labels, strict=True):
                queue[label] = row / max(np.linalg.norm(row), 1e-12)
                seen[label] = 9001
            return {"queue": queue, "seen": seen, "step": 9001}
        case PsiMargin() | SphereFaceR():
            return {"step": STEP}
    return {k.removeprefix("state/"): v for k, v in theirs.items() if k.startswith("state/")}


class Run:
    """One case: what it gives here, and what the reference needs to compute it."""

    def __init__(self, name):
        rng = np.random.default_rng(0)
        self.name, self.margin = name, CASES[name]
        self.x, w, self.labels, bias = make_batch(self.margin, rng)
        self.scale = None
        if self.margin.has_scale:
            self.scale = self.margin.default_scale if name in MARGINS else 16.0
        self.state = state_before(self.margin, rng)
        params = self.margin.init_params(CLASSES, scale=self.scale)
        if params is not None:
            bias = np.float64(params["bias"]) + 0.5
        self.leaves = {"x": self.x, "w": w} | ({} if bias is None else {"bias": bias})

    def losses(self, leaves):
        """(losses, new state)"""
        margin, extra = self.margin, {}
        if "bias" in leaves:
            # One number for all classes is the margin's own.
            own = {"params": {"bias": leaves["bias"]}}
            extra = {"bias": leaves["bias"]} if margin.has_bias else own
        answer = af.margin_softmax_loss(
            leaves["x"],
            leaves["w"],
            self.labels,
            margin=margin,
            # The default is what a case without options is about.
            scale=None if self.name in MARGINS else self.scale,
            state=self.state,
            key=jax.random.key(SEED) if margin.needs_key else None,
            **extra,
        )
        return answer if margin.keeps_state else (answer, None)

    def ours(self):
        with jax.enable_x64(True):
            leaves = jax.tree.map(jnp.asarray, self.leaves)
            value, pull, state = jax.vjp(self.losses, leaves, has_aux=True)
            assert value.dtype == jnp.float64
            (gradients,) = pull(jnp.ones_like(value))
            return {"value": value} | gradients, state

    def question(self):
        """(the case, its arrays) for the reference."""
        name, params = in_reference(self.margin)
        arrays = self.leaves | {"labels": self.labels}
        before = state_in_reference(self.margin, self.state)
        arrays |= {f"state/{k}": np.float64(v) for k, v in before.items()}
        if isinstance(self.margin, ElasticFace):
            with jax.enable_x64(True):
                own = geometry.cosine_matrix(self.x, self.leaves["w"])
                own = own[np.arange(ROWS), self.labels]
                # Handing them out is the reference's own work.
                alone = dataclasses.replace(self.margin, plus=None)
                arrays["drawn"] = np.asarray(alone.draw(own, Context(key=jax.random.key(SEED))))
        case = {"id": self.name, "name": name, "params": params, "scale": self.scale}
        return case, {f"{self.name}/{k}": v for k, v in arrays.items()}


def tolerance(margin):
    """Nine digits, or those that a statistic keeps when it is stored in float32 before its use."""
    return 1e-6 if isinstance(margin, CurricularFace | AdaFace | AdaCos) else 1e-9


@pytest.mark.peers
@pytest.mark.slow
def test_values_gradients_and_states_equal_the_reference(peers, subtests):
    runs = [Run(name) for name in CASES]
    questions, arrays = zip(*(run.question() for run in runs), strict=True)
    arrays = {k: v for some in arrays for k, v in some.items()}
    # One process for all cases: starting PyTorch takes longer than they do.
    answers = peers(REFERENCE.read_text(), cases=json.dumps(questions), **arrays)
    for run in runs:
        with subtests.test(run.name):
            start = f"{run.name}/"
            theirs = {k.removeprefix(start): v for k, v in answers.items() if k.startswith(start)}
            ours, state = run.ours()
            rtol = tolerance(run.margin)
            np.testing.assert_allclose(
                ours["value"], theirs["value"], rtol=rtol, atol=1e-12, err_msg="value"
            )
            for leaf in run.leaves:
                largest = np.abs(theirs[leaf]).max()
                np.testing.assert_allclose(
                    ours[leaf], theirs[leaf], rtol=rtol, atol=rtol * largest, err_msg=leaf
                )
            expected = state_after(run.margin, run.state, theirs, run.x, run.labels)
            assert set(state or {}) == set(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(
                    state[name], value, rtol=1e-6, atol=1e-7, err_msg=f"new {name}"
                )


def test_every_margin_is_compared_with_the_reference():
    own = {k for k, entry in MARGINS.items() if entry.constructor.__module__.startswith("arcface")}
    assert {name.split("-")[0] for name in CASES} == own
    assert own <= set(CASES)
