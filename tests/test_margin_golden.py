"""The margins of the golden file's worked examples, and where public code departs from a paper."""

import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af
from arcface_jax.heads.class_products import nearest_center
from arcface_jax.heads.class_sums import row_losses, sum_logits, wrong_logits
from arcface_jax.losses.labels import split_target
from arcface_jax.margins import GRADIENTS, TAILS, Context
from arcface_jax.margins.elasticface import ElasticFace, assign_margins

TESTS = pathlib.Path(__file__).parent
GOLDEN = json.loads((TESTS / "golden/margin_losses.json").read_text())
OTHER = GOLDEN["other_losses"]
BATCH = GOLDEN["batch_level"]

# The pair, centre and angular terms, with their tests.
ELSEWHERE = {
    "triplet_batch_all_angle": "test_triplet.py",
    "triplet_batch_all_squared_euclidean": "test_triplet.py",
    "triplet_batch_hard_angle": "test_triplet.py",
    "triplet_batch_hard_cosine": "test_triplet.py",
    "triplet_batch_hard_squared_euclidean": "test_triplet.py",
    "centre_loss": "test_center.py",
    "range_loss": "test_range.py",
    "intra_loss": "test_angular_terms.py",
    "inter_loss": "test_angular_terms.py",
    "circle_pair": "test_circle.py",
}


def drawn(kind):
    """ElasticFace whose draws, with no spread, are the margins of the golden file."""
    return lambda p, g: ElasticFace(
        jnp.asarray(p["margins"]), sigma=0.0, kind=kind, tail=p["tail"], gradient=g
    )


def magface(p, g):
    return af.magface(
        p["l_m"],
        p["u_m"],
        lower_norm=p["l_a"],
        upper_norm=p["u_a"],
        strength=p["lambda_g"],
        tail=p["tail"],
        gradient=g,
    )


def sphereface2(kind):
    return lambda p, g: af.sphereface2(
        p["m"], kind=kind, alpha=p["alpha"], power=p["t"], weight=p["lw"], gradient=g
    )


def sphereface_r(variant):
    # The golden loss is the cross entropy itself, without the weight lw / s.
    return lambda p, g: af.sphereface_r(p["m"], variant=variant, weight=p["s"], gradient=g)


# What each entry is in this library: functions of its numbers and the gradient convention.
FROM_COSINES = {
    "interclass_filter": [
        lambda p, g: af.interclass_filter(
            af.combined(p["m1"], p["m2"], p["m3"], tail=p["tail"]), threshold=p["threshold"]
        )
    ],
    "curricularface": [
        lambda p, g: af.curricularface(p["m"], tail=p["tail"], alpha=p["alpha"], gradient=g)
    ],
    "mv_softmax_arc": [lambda p, g: af.mv_softmax_arc(p["m"], tau=p["t"], tail="easy")],
    "mv_softmax_am": [lambda p, g: af.mv_softmax_am(p["m"], tau=p["t"])],
    "magface_easy": [magface],
    "magface_hard": [magface],
    "adaface": [
        lambda p, g: af.adaface(
            p["m"], h=p["h"], alpha=p["alpha"], epsilon=p["eps"], limited=True, gradient=g
        )
    ],
    "elastic_arc": [drawn("arc")],
    "elastic_cos": [drawn("cos")],
    "subcenter_arcface": [lambda p, g: af.subcenter_arcface(p["m"], k=p["K"], tail=p["tail"])],
    "circle_class": [lambda p, g: af.circle_class(p["m"])],
    "adacos": [lambda p, g: af.adacos()],
    "airface": [lambda p, g: af.airface(p["m"], gradient=g)],
    "p2sgrad": [lambda p, g: af.p2sgrad(normalization=p["normalization"])],
    "uniface": [
        lambda p, g: af.uniface(p["m"], weight=p["l"], clamp_arguments=p["clamp_arguments"])
    ],
    "sphereface2_C": [sphereface2("C")],
    "sphereface2_A": [sphereface2("A")],
    "sphereface2_M": [sphereface2("M")],
    "sphereface_feature_norm": [
        lambda p, g: af.sphereface_psi(p["m"], lambda_0=p["lambda"], lambda_min=p["lambda"])
    ],
    "sphereface_scaled_psi": [
        sphereface_r("v0"),
        lambda p, g: af.sphereface_psi(p["m"], feature_norm="hard", annealed=False, gradient=g),
    ],
    "sphereface_scaled_v1": [sphereface_r("v1")],
    "sphereface_scaled_v2": [sphereface_r("v2")],
}
FROM_EMBEDDINGS = {
    "l_softmax": lambda p: af.l_softmax(p["m"]),
    "vpl_arcface": lambda p: af.vpl(margin=af.arcface(p["m"], tail=p["tail"])),
}
ALONE = {"adaface_batch_of_one", "elastic_plus_assignment"}

# Running statistics, in the golden file's words and the library's.
STATES = {
    "curricularface": {"t": "t"},
    "adaface": {"mean": "mean", "std": "std"},
    "adacos": {"scale": "scale"},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One step of one entry, in one of the ways the library has for it."""

    name: str
    make: object
    numbers: dict
    inputs: dict
    expected: dict

    @property
    def scale(self):
        return next((float(self.numbers[k]) for k in ("s", "r", "gamma") if k in self.numbers), 0.0)

    @property
    def size(self):
        """The factor between cosines and logits, which the tolerances are relative to."""
        largest = max(self.inputs.get("norms", [1.0]))
        return self.scale or self.expected.get("scale_after", largest)

    @property
    def conventions(self):
        given = self.expected["grad_cos"]
        return {g: given[g] for g in GRADIENTS} if isinstance(given, dict) else {"exact": given}

    def state(self, when):
        words = STATES.get(self.name)
        return words and {ours: self.expected[f"{k}_{when}"] for k, ours in words.items()}


def cases_of(entry):
    name, inputs, expected = entry["name"], entry["inputs"], entry["expected"]
    numbers = entry["params"] | {"margins": inputs.get("margins")}
    parts = [(numbers, step) for step in expected.get("steps", [expected])]
    if name == "p2sgrad":
        parts = [
            (
                {"normalization": kind},
                {"loss": expected[f"loss_{kind}"], "grad_cos": expected[f"grad_cos_{kind}"]},
            )
            for kind in ("mse", "paper")
        ]
    return [
        Case(name=name, make=make, numbers=part[0], inputs=inputs, expected=part[1])
        for make in FROM_COSINES[name]
        for part in parts
    ]


CASES = [case for entry in OTHER if entry["name"] in FROM_COSINES for case in cases_of(entry)]
RUNNING = [entry for entry in OTHER if entry["name"] in STATES]

every_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


def read_batch(margin, cosines, labels, context):
    """``context`` after the margin has observed the batch, as the dense head lets it."""
    own, is_label = split_target(cosines, labels)
    context = dataclasses.replace(context, target_cosines=own, num_classes=cosines.shape[1])
    if margin.observes_others:
        logits = wrong_logits(cosines, margin, context)
        sums = sum_logits(logits, ~is_label, margin, context, smoothed=False)
        context = dataclasses.replace(context, others_lse=sums.lse)
    return margin.observe(context)


def losses_of_cosines(margin, cosines, labels, context):
    """(loss of each row, logits) of cosines and an observed context, as the dense head has them."""
    own, is_label = split_target(cosines, labels)
    negatives = wrong_logits(cosines, margin, context)
    sums = sum_logits(negatives, ~is_label, margin, context, smoothed=False)
    losses = row_losses(own, sums, margin, context, label_smoothing=None)
    target = margin.scales(context).astype(cosines.dtype) * margin.target(own, context)
    logits = jnp.where(is_label, target[:, None], negatives)
    return margin.finish(losses, context), logits


def run(case, gradient, dtype, leaves):
    """(losses, logits) of the case as a function of its differentiable inputs."""
    margin = case.make(case.numbers, gradient)
    labels, cosines = jnp.array(case.inputs["labels"]), leaves["cos"]
    if cosines.ndim == 3:
        rows, classes, _ = cosines.shape
        cosines = nearest_center(cosines.reshape(rows, -1), num_classes=classes)
    # A state is float32. Where nine digits are compared, the golden statistics stand in for it.
    state = case.state("after" if dtype == "float64" else "before")
    context = Context(
        scale=jnp.asarray(case.scale, dtype) if margin.has_scale else None,
        norms=leaves.get("norms"),
        params={"bias": leaves["bias"]} if "bias" in leaves else None,
        state=state and {k: jnp.asarray(v, dtype) for k, v in state.items()},
        num_classes=cosines.shape[1],
        key=jax.random.key(0) if margin.needs_key else None,
    )
    observed = read_batch(margin, cosines, labels, context)
    if dtype == "float64" and state is not None:
        observed = dataclasses.replace(observed, state=context.state)
    return losses_of_cosines(margin, cosines, labels, observed)


def leaves_of(case, dtype):
    names = ("cos", "norms", "bias")
    return {k: jnp.asarray(case.inputs[k], dtype) for k in names if k in case.inputs}


def assert_close(got, expected, dtype, *, relative, least):
    """Within the golden file's tolerance: ``relative`` and ``least`` are of its float32 one."""
    expected = np.asarray(expected)
    assert got.dtype == dtype
    assert np.isfinite(got).all()
    allowed = relative * np.maximum(np.abs(expected), least)
    if dtype == "float64":
        allowed = np.maximum(1e-9 * np.abs(expected), 1e-12)
    excess = np.abs(got - expected) - allowed
    assert (excess <= 0).all(), f"{got}\nin place of\n{expected}"


# ------------------------------------------------------------------ entries given as cosines


@pytest.mark.parametrize(
    ("case", "gradient"),
    [(case, gradient) for case in CASES for gradient in case.conventions],
    ids=lambda x: getattr(x, "name", x),
)
@every_dtype
def test_losses_and_gradients_equal_the_golden_ones(case, gradient, dtype):
    expected, size = case.expected, case.size
    # Entries without a cross entropy per row have gradients of the mean.
    mean = "ce" not in expected

    def total(leaves):
        losses, logits = run(case, gradient, dtype, leaves)
        return losses.mean() if mean else losses.sum(), (losses, logits)

    with jax.enable_x64(dtype == "float64"):
        got, (losses, logits) = jax.grad(total, has_aux=True)(leaves_of(case, dtype))
        tolerance = dict(relative=5e-6, least=0.05 * size)
        if "per_sample" in expected or "ce" in expected:
            rows = np.array(expected.get("per_sample", expected.get("ce")))
            rows = rows + case.numbers.get("lambda_g", 0.0) * np.array(expected.get("g", 0.0))
            assert_close(losses, rows, dtype, **tolerance)
        if "loss" in expected:
            assert_close(losses.mean(), expected["loss"], dtype, **tolerance)
        if "logits" in expected:
            # The arguments of binary problems have the bias in them.
            logits = logits + jnp.asarray(case.inputs.get("bias", 0.0), dtype)
            assert_close(logits, expected["logits"], dtype, relative=2e-6, least=size)
        by_cosines = case.conventions[gradient]
        assert_close(got["cos"], by_cosines, dtype, relative=2e-5, least=1e-3 * size)
        for name in set(got) - {"cos"}:
            # AdaFace lets no gradient through its norms, so the file has none.
            right = np.array(expected.get(f"grad_{name}", np.zeros_like(got[name])))
            assert_close(got[name], right, dtype, relative=2e-5, least=np.abs(right).max())


def test_filtered_classes_have_logit_zero():
    entry = next(e for e in OTHER if e["name"] == "interclass_filter")
    margin = af.interclass_filter(threshold=entry["params"]["threshold"])
    cosines = jnp.array(entry["inputs"]["cos"])
    filtered = (margin.negatives(cosines, Context()) == 0.0) & ~jnp.eye(5, dtype=bool)
    np.testing.assert_array_equal(filtered, entry["expected"]["filtered"])


@pytest.mark.parametrize("name", ["magface_easy", "magface_hard"])
def test_margins_of_magface_follow_the_norms(name):
    (case,) = (case for case in CASES if case.name == name)
    norms = jnp.array(case.inputs["norms"])
    got = case.make(case.numbers, "exact").margins(Context(norms=norms), norms)
    np.testing.assert_allclose(got, case.expected["margins"], rtol=1e-6)


# ------------------------------------------------------------------ states


@pytest.mark.parametrize("entry", RUNNING, ids=lambda entry: entry["name"])
@every_dtype
def test_states_after_each_step_equal_the_golden_ones(entry, dtype):
    with jax.enable_x64(dtype == "float64"):
        cosines = jnp.asarray(entry["inputs"]["cos"], dtype)
        labels = jnp.array(entry["inputs"]["labels"])
        norms = jnp.asarray(entry["inputs"].get("norms", [0.0]), dtype)
        cases = cases_of(entry)
        margin = cases[0].make(entry["params"], "exact")
        state = margin.init_state(cosines.shape[1])
        for case in cases:
            for name, value in case.state("before").items():
                assert float(state[name]) == pytest.approx(value, rel=3e-7)
            context = Context(norms=norms, state=state)
            state = read_batch(margin, cosines, labels, context).state
            assert {leaf.dtype for leaf in state.values()} == {np.dtype("float32")}
            for name, value in case.state("after").items():
                assert float(state[name]) == pytest.approx(value, rel=3e-7)


def test_adaface_takes_the_spread_of_a_batch_of_one_as_zero():
    (entry,) = (entry for entry in OTHER if entry["name"] == "adaface_batch_of_one")
    p, inputs, expected = entry["params"], entry["inputs"], entry["expected"]
    margin = af.adaface(p["m"], h=p["h"], alpha=p["alpha"], epsilon=p["eps"])
    before = {k: jnp.float32(inputs[f"{k}_before"]) for k in ("mean", "std")}
    context = margin.observe(Context(norms=jnp.array(inputs["norms"]), state=before))
    for name in ("mean", "std"):
        assert float(context.state[name]) == pytest.approx(expected[f"{name}_after"], rel=1e-6)
    quality = margin.quality(context, jnp.zeros(1))
    np.testing.assert_allclose(quality, expected["margin_scaler"], rtol=1e-5)


def test_quality_of_adaface_equals_the_golden_margin_scaler():
    for case in CASES:
        if case.name == "adaface":
            state = {k: jnp.float32(v) for k, v in case.state("after").items()}
            context = Context(norms=jnp.array(case.inputs["norms"]), state=state)
            got = case.make(case.numbers, "exact").quality(context, jnp.zeros(5))
            np.testing.assert_allclose(got, case.expected["margin_scaler"], rtol=1e-4)


DEFAULTS = {
    "norm_softmax": ({}, {"default_scale": 64.0}),
    "combined": ({}, {"m1": 1.0, "m2": 0.5, "m3": 0.0, "tail": "hard", "gradient": "exact"}),
    "arcface": ({}, {"m2": 0.5, "tail": "hard", "gradient": "exact"}),
    "l_softmax": ({}, {"m": 4}),
    "sphereface_psi": (
        {},
        {"m": 4, "feature_norm": "free", "lambda_0": 1000, "gamma": 0.12, "power": 1}
        | {"lambda_min": 5},
    ),
    "sphereface_r": ({}, {"m": 1.5, "weight": 50.0, "feature_norm": "hard", "default_scale": 30.0}),
    "sphereface_r-none": ({"feature_norm": "none"}, {"weight": 1.0, "increment": 0.1}),
    "sphereface_r-soft": ({"feature_norm": "soft"}, {"weight": 50.0, "pull": 0.01}),
    "sphereface2": (
        {},
        {"kind": "C", "m": 0.4, "alpha": 0.7, "power": 3.0, "weight": 50.0, "default_scale": 40.0},
    ),
    "curricularface": ({}, {"m": 0.5, "alpha": 0.01, "tail": "hard", "default_scale": 64.0}),
    "mv_softmax_arc": ({}, {"m": 0.35, "tau": 1.12, "tail": "hard", "default_scale": 32.0}),
    "mv_softmax_am": ({}, {"m": 0.35, "tau": 1.12, "conditional": True, "default_scale": 32.0}),
    "magface": (
        {},
        {"lower_norm": 10, "upper_norm": 110, "lower_margin": 0.45, "upper_margin": 0.8}
        | {"strength": 35, "tail": "hard", "default_scale": 64.0},
    ),
    "adaface": (
        {},
        {"m": 0.4, "h": 0.333, "alpha": 0.01, "epsilon": 1e-3, "default_scale": 64.0},
    ),
    "elasticface": ({}, {"m": 0.5, "sigma": 0.05, "default_scale": 64.0}),
    "elasticface-arc_plus": ({"plus": "rank"}, {"m": 0.5, "sigma": 0.0175}),
    "elasticface-cos": ({"kind": "cos"}, {"m": 0.35, "sigma": 0.05}),
    "elasticface-cos_plus": ({"kind": "cos", "plus": "official"}, {"m": 0.35, "sigma": 0.02}),
    "subcenter_arcface": ({}, {"m2": 0.5, "k": 3, "default_scale": 64.0}),
    "vpl": ({}, {"weight": 0.15, "start": 8000, "window": 200}),
    "circle_class": ({}, {"m": 0.25, "default_scale": 256.0}),
    "airface": ({}, {"m": 0.4, "all_classes": True, "default_scale": 64.0}),
    "p2sgrad": ({}, {"normalization": "mse"}),
    "uniface": (
        {},
        {"m": 0.4, "weight": 1.0, "sample_rate": 1.0, "clamp_arguments": False}
        | {"default_scale": 64.0},
    ),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_numbers_are_those_of_the_specification(name):
    options, expected = DEFAULTS[name]
    margin = af.MARGINS[name.split("-")[0]](**options)
    assert {key: getattr(margin, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("margin", "classes", "scale", "name", "expected"),
    [
        (af.sphereface2(), 10, 40.0, "bias", 12.950178),
        (af.sphereface2(), 10_572, 40.0, "bias", 5.581649),
        (af.sphereface2(), 85_742, 40.0, "bias", 3.488239),
        (af.sphereface2(0.4, kind="C"), 5, 40.0, "bias", 14.336472236621171),
        (af.sphereface2(0.5, kind="A"), 5, 40.0, "bias", 30.335847544040643),
        (af.sphereface2(1.7, kind="M"), 5, 40.0, "bias", 30.336317740691392),
        (af.uniface(), 10_572, None, "bias", 11.568549),
        (af.uniface(), 5, None, "bias", 3.912023005428146),
        (af.adacos(), 10_572, None, "scale", 13.103919),
        (af.adacos(), 5, None, "scale", 1.9605162869370945),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, af.MarginRule) else str(x),
)
def test_initial_numbers_are_those_of_the_rule(margin, classes, scale, name, expected):
    start = margin.init_params(classes, scale=scale) or margin.init_state(classes)
    assert float(start[name]) == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_initial_bias_of_sphereface2_keeps_its_digits_with_few_classes(classes):
    # With q > 1 the rule's logarithm is of a difference of nearly equal numbers.
    margin, scale = af.sphereface2(0.5, alpha=0.8), 64.0
    q = 0.8 / (0.2 * (classes - 1))
    own, other = (scale * (2.0 * 2.0**-3 - 1.0 + m) for m in (-0.5, 0.5))
    ratio = math.exp(own - other)
    root = math.hypot(1.0 - q, 2.0 * math.sqrt(q * ratio))
    expected = math.log(2.0 * q) - other - math.log(4.0 * q * ratio / (root - (1.0 - q)))
    assert float(margin.init_params(classes, scale=scale)["bias"]) == pytest.approx(expected)


# ------------------------------------------------------------------ entries given as embeddings


@pytest.mark.parametrize(
    "entry",
    [entry for entry in OTHER if entry["name"] in FROM_EMBEDDINGS],
    ids=lambda entry: f"{entry['name']}-{entry['params']['m']}",
)
@every_dtype
def test_losses_of_embeddings_equal_the_golden_values_and_gradients(entry, dtype):
    margin, expected = FROM_EMBEDDINGS[entry["name"]](entry["params"]), entry["expected"]
    state, labels = golden_queue(entry), np.array(BATCH["labels"])

    def mean(x, w):
        losses = af.margin_softmax_loss(x, w, labels, margin=margin, state=state)
        losses = losses[0] if margin.keeps_state else losses
        return losses.mean(), losses

    with jax.enable_x64(dtype == "float64"):
        x, w = (jnp.asarray(BATCH[k], dtype) for k in ("embeddings", "weights"))
        gradients, losses = jax.jit(jax.grad(mean, argnums=(0, 1), has_aux=True))(x, w)
        size = 64.0 if margin.has_scale else 1.0
        assert_close(losses, expected["ce"], dtype, relative=5e-6, least=0.05 * size)
        assert_close(losses.mean(), expected["loss"], dtype, relative=5e-6, least=0.05 * size)
        for got, name in zip(gradients, ("embeddings", "weights"), strict=True):
            right = np.array(expected[f"grad_{name}"])
            assert_close(got, right, dtype, relative=2e-5, least=np.abs(right).max())


def golden_queue(entry):
    """VPL's state in which the golden features count, and no others; None for another margin."""
    if "queue" not in entry["inputs"]:
        return None
    weights = np.array(entry["inputs"]["lambda"])
    return {
        "queue": jnp.array(entry["inputs"]["queue"]),
        "seen": jnp.where(weights > 0.0, 8900, 8700).astype(jnp.int32),
        "step": jnp.array(8999, jnp.int32),
    }


def test_prototypes_of_vpl_equal_the_golden_mixtures():
    (entry,) = (entry for entry in OTHER if entry["name"] == "vpl_arcface")
    mixed = af.vpl().prototypes(jnp.array(BATCH["weights"]), Context(state=golden_queue(entry)))
    got = mixed / jnp.linalg.norm(mixed, axis=1, keepdims=True)
    np.testing.assert_allclose(got, entry["expected"]["prototypes"], atol=3e-7)


# ------------------------------------------------------------------ two readings


def slope(margin, cosine, context=None):
    context = Context() if context is None else context
    return float(jax.grad(lambda c: margin.target(c, context)[0])(jnp.array([cosine]))[0])


def lengths_seen(margin, norms):
    context = Context(norms=jnp.asarray(norms, jnp.float32), state=margin.init_state())
    return margin.observe(context)


def test_adaface_of_the_authors_class_has_statistics_of_the_batch_alone():
    norms = np.array([12.0, 20.0, 25.0, 31.0])
    last = lengths_seen(af.adaface(alpha=1.0), norms).state
    assert float(last["mean"]) == pytest.approx(norms.mean())
    assert float(last["std"]) == pytest.approx(norms.std(ddof=1))
    slow = lengths_seen(af.adaface(), norms).state
    assert float(slow["mean"]) == pytest.approx(0.01 * norms.mean() + 0.99 * 20.0)
    assert float(slow["std"]) == pytest.approx(0.01 * norms.std(ddof=1) + 0.99 * 100.0)


def test_adaface_of_the_authors_command_line_is_cosface_whatever_the_length():
    norms, cosines = [1.0, 40.0, 90.0], jnp.array([0.5, 0.7, -0.9])
    bare = af.adaface(0.5, h=0.0)
    np.testing.assert_allclose(
        bare.target(cosines, lengths_seen(bare, norms)), cosines - 0.5, atol=1e-6
    )
    published = af.adaface(0.5, h=0.333)
    moved = published.target(cosines, lengths_seen(published, norms)) - (cosines - 0.5)
    assert np.abs(moved).min() > 1e-3


@pytest.mark.parametrize("cosine", [0.9995, -0.9995])
def test_adaface_of_cvlface_has_no_limits_and_a_straight_gradient(cosine):
    official, cvlface = af.adaface(), af.adaface(limited=False, gradient="straight_through")
    context = lengths_seen(cvlface, [20.0])
    k = float(cvlface.quality(context, jnp.zeros(1))[0])
    assert k == 0.0
    got = [float(m.target(jnp.array([cosine]), context)[0]) for m in (official, cvlface)]
    np.testing.assert_allclose(got, [math.copysign(0.999, cosine) - 0.4, cosine - 0.4], atol=1e-6)
    assert (slope(official, cosine, context), slope(cvlface, cosine, context)) == (0.0, 1.0)


@pytest.mark.parametrize("alpha", [0.01, 0.1])
def test_curricularface_follows_the_batch_as_fast_as_the_authors_or_tface(alpha):
    margin = af.curricularface() if alpha == 0.01 else af.curricularface(alpha=alpha)
    context = Context(target_cosines=jnp.array([0.5, 0.7]), state=margin.init_state())
    assert float(margin.observe(context).state["t"]) == pytest.approx(alpha * 0.6)


@pytest.mark.parametrize("tail", TAILS)
def test_curricularface_compares_with_the_bare_formula_whatever_the_tail(tail):
    # At 175 degrees cos(theta + m) is -0.916, and the hard tail's value -1.236.
    own = jnp.array([math.cos(math.radians(175.0))])
    context = Context(target_cosines=own, state={"t": jnp.float32(0.25)})
    got = af.curricularface(tail=tail).negatives(jnp.array([[-0.95, -0.9]]), context)
    np.testing.assert_allclose(got, [[-0.95, -0.9 * (0.25 - 0.9)]], rtol=1e-6)


@pytest.mark.parametrize("entry", [e for e in OTHER if e["name"] == "elastic_plus_assignment"])
@pytest.mark.parametrize("plus", ["rank", "official"])
def test_elasticface_plus_hands_margins_out_as_the_paper_and_as_its_code(entry, plus):
    cosines = jnp.array(entry["inputs"]["target_cos"])
    margins = jnp.array(entry["inputs"]["drawn_margins"])
    expected = entry["expected"][plus]
    np.testing.assert_allclose(assign_margins(margins, cosines, plus), expected, rtol=1e-6)
    drawn = ElasticFace(margins, sigma=0.0, plus=plus).draw(cosines, Context(key=jax.random.key(0)))
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    falls = np.diff(np.array(expected)[np.argsort(cosines)]) < 0
    assert falls.all() == (plus == "rank")


def test_combined_margin_keeps_all_three_where_arcface_torch_drops_two():
    theta = jnp.array([0.3, 1.0, 2.0])
    got = af.target_cosine(jnp.cos(theta), af.combined(0.9, 0.4, 0.15))
    np.testing.assert_allclose(got, jnp.cos(0.9 * theta + 0.4) - 0.15, atol=1e-6)
    # arcface_torch's CombinedMarginLoss takes m3 alone where it is above 0; here that is cosface.
    dropped = af.target_cosine(jnp.cos(theta), af.cosface(0.15))
    np.testing.assert_allclose(dropped, jnp.cos(theta) - 0.15, atol=1e-6)


def test_mv_softmax_of_facex_zoo_has_the_easy_tail():
    # 0.35 before pi: between 90 and 159.9 degrees the tails differ.
    cosine = jnp.array([-0.5])
    easy, hard = af.mv_softmax_arc(tail="easy"), af.mv_softmax_arc()
    assert float(easy.target(cosine, Context())[0]) == -0.5
    turned = math.cos(math.acos(-0.5) + 0.35)
    assert float(hard.target(cosine, Context())[0]) == pytest.approx(turned)


def test_mv_softmax_of_facex_zoo_takes_no_margin_off_poor_rows():
    cosines = jnp.array([0.25, 0.5])
    default, always = af.mv_softmax_am(), af.mv_softmax_am(conditional=False)
    np.testing.assert_allclose(default.target(cosines, Context()), [0.25, 0.5 - 0.35])
    np.testing.assert_allclose(always.target(cosines, Context()), cosines - 0.35)
    # Which wrong classes are hard does not depend on it.
    context = Context(target_cosines=cosines)
    others = jnp.array([[-0.05, -0.15], [0.1, 0.2]])
    np.testing.assert_array_equal(
        default.negatives(others, context), always.negatives(others, context)
    )


def test_magface_of_the_authors_has_the_easy_tail_without_a_gradient_to_the_length():
    def target(norm, tail, cosine):
        return af.magface(tail=tail).target(jnp.array([cosine]), Context(norms=norm[None]))[0]

    by_norm = jax.value_and_grad(target)
    for cosine in (-0.25, -0.95):
        value, slope = by_norm(jnp.float32(60.0), "easy", cosine)
        assert (float(value), float(slope)) == (pytest.approx(cosine), 0.0)
    m, growth = 0.625, 0.35 / 100.0
    value, slope = by_norm(jnp.float32(60.0), "hard", -0.25)
    turned = math.acos(-0.25) + m
    assert float(value) == pytest.approx(math.cos(turned), rel=1e-5)
    assert float(slope) == pytest.approx(-growth * math.sin(turned), rel=1e-4)
    value, slope = by_norm(jnp.float32(60.0), "hard", -0.95)
    assert float(value) == pytest.approx(-0.95 - m * math.sin(m), rel=1e-5)
    assert float(slope) == pytest.approx(-growth * (math.sin(m) + m * math.cos(m)), rel=1e-4)


def test_airface_of_keras_insightface_is_linear_for_the_true_class_alone():
    cosines = jnp.array([[0.5, -0.5]])
    paper, theirs = af.airface(), af.airface(all_classes=False)
    np.testing.assert_allclose(paper.negatives(cosines, Context()), [[1 / 3, -1 / 3]], rtol=1e-6)
    np.testing.assert_array_equal(theirs.negatives(cosines, Context()), cosines)
    own = cosines[0]
    np.testing.assert_array_equal(paper.target(own, Context()), theirs.target(own, Context()))


# ------------------------------------------------------------------ nothing is left out


def test_every_worked_example_of_the_golden_file_has_a_test():
    here = set(FROM_COSINES) | set(FROM_EMBEDDINGS) | ALONE
    assert {entry["name"] for entry in OTHER} == here | set(ELSEWHERE)
    assert not here & set(ELSEWHERE)
    for name, file in ELSEWHERE.items():
        # The triplet's names are put together there.
        stem = "triplet" if name.startswith("triplet") else name
        assert stem in (TESTS / "losses" / file).read_text(), f"{file} does not name {name}"
