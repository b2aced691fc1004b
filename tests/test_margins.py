"""Every margin through one table of properties, and the combined one against the golden file."""

import json
import math
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from margin_table import ROWS

import arcface_jax as af
from arcface_jax import geometry
from arcface_jax.margins import GRADIENTS, TAILS, Context

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/margin_losses.json").read_text())
CASES = {case["id"]: case for case in GOLDEN["margin_cases"]}
TOLERANCE = GOLDEN["tolerances"]["float32"]

every_margin = pytest.mark.parametrize("name", ROWS)
every_case = pytest.mark.parametrize("case", CASES)


def golden_margin(case, gradient="exact"):
    return af.Margin(
        case["m1"],
        case["m2"],
        case["m3"],
        tail=case["tail"],
        gradient=gradient,
        tail_margin=case["margin_am"],
    )


def slopes(margin, cosines):
    return jax.vmap(jax.grad(lambda c: af.target_cosine(c, margin)))(cosines)


# ------------------------------------------------------------------ the golden file


@every_case
def test_target_logit_equals_the_golden_value(case):
    case = CASES[case]
    rows = GOLDEN["row_sets"][case["rows"]]
    logits = af.margin_logits(
        jnp.array(rows["cos"]),
        jnp.array(rows["labels"]),
        margin=golden_margin(case),
        scale=case["s"],
    )
    own = logits[np.arange(len(rows["labels"])), rows["labels"]]
    np.testing.assert_allclose(own, case["target_logit"], rtol=0, atol=2e-6 * case["s"])


def cross_entropies(cosines, labels, margin, scale):
    logits = af.margin_logits(cosines, labels, margin=margin, scale=scale)
    is_label = labels[:, None] == jnp.arange(cosines.shape[1])[None, :]
    own = jnp.sum(jnp.where(is_label, logits, 0.0), axis=1)
    return af.losses.cross_entropy(jnp.where(is_label, -jnp.inf, logits), own)


@every_case
def test_cross_entropy_equals_the_golden_value(case):
    case = CASES[case]
    rows = GOLDEN["row_sets"][case["rows"]]
    got = cross_entropies(
        jnp.array(rows["cos"]), jnp.array(rows["labels"]), golden_margin(case), case["s"]
    )
    expected = np.array(case["ce"])
    excess = np.abs(got - expected) / np.maximum(expected, 0.05 * case["s"])
    assert excess.max() <= 5e-6, excess


@every_case
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradient_to_the_cosines_equals_the_golden_one(case, gradient):
    case = CASES[case]
    rows = GOLDEN["row_sets"][case["rows"]]
    margin = golden_margin(case, gradient)
    got = np.asarray(
        jax.grad(lambda c: cross_entropies(c, jnp.array(rows["labels"]), margin, case["s"]).sum())(
            jnp.array(rows["cos"])
        )
    )
    assert np.isfinite(got).all()
    expected = np.array(case["grad_cos"][gradient], np.float64)
    known = ~np.isnan(expected)
    allowed = 2e-5 * np.maximum(np.abs(expected), 1e-3 * case["s"])
    assert (np.abs(got - expected)[known] <= allowed[known]).all()


@every_case
def test_slope_of_the_target_is_the_floored_golden_one(case):
    case = CASES[case]
    rows = GOLDEN["row_sets"][case["rows"]]
    own = np.array(rows["cos"])[np.arange(len(rows["labels"])), rows["labels"]]
    got = slopes(golden_margin(case), jnp.asarray(own, jnp.float32))
    np.testing.assert_allclose(got, case["dtarget_dcos"]["floored"], rtol=2e-5, atol=2e-5)


CURVES = {
    "softmax": af.norm_softmax(),
    "sphereface_1.35": af.sphereface(1.35),
    "arcface": af.arcface(0.5),
    "cosface": af.cosface(0.35),
    "combined_1": af.combined(1.0, 0.3, 0.2),
    "combined_2": af.combined(0.9, 0.4, 0.15),
    "sphereface_m4_lambda5": af.sphereface_psi(4),
}


@pytest.mark.parametrize("curve", GOLDEN["target_curves"]["target_cos"])
def test_target_curves_are_those_of_the_paper(curve):
    theta = jnp.deg2rad(jnp.array(GOLDEN["target_curves"]["theta_degrees"], jnp.float32))
    got = af.target_cosine(jnp.cos(theta), CURVES[curve])
    np.testing.assert_allclose(got, GOLDEN["target_curves"]["target_cos"][curve], atol=2e-6)


OTHER = [
    case
    for case in GOLDEN["other_losses"]
    if case["name"] in ("sphereface_feature_norm", "sphereface_scaled_psi")
]


@pytest.mark.parametrize("case", OTHER, ids=lambda c: f"{c['name']}-{c['params']}")
def test_psi_margins_equal_the_golden_values_and_gradients(case):
    params, inputs = case["params"], case["inputs"]
    free = case["name"] == "sphereface_feature_norm"
    weight = params.get("lambda", 0.0)
    margin = af.sphereface_psi(
        params["m"],
        feature_norm="free" if free else "hard",
        lambda_0=weight,
        lambda_min=weight,
    )
    cosines, labels = jnp.array(inputs["cos"]), jnp.array(inputs["labels"])
    scale = jnp.array(inputs["norms"]) if free else jnp.float32(params["s"])

    def losses(cosines, scale):
        context = Context(norms=scale)
        is_label = labels[:, None] == jnp.arange(cosines.shape[1])[None, :]
        own = jnp.sum(jnp.where(is_label, cosines, 0.0), axis=1)
        scales = margin.scales(None if free else scale, context)
        logits = jnp.reshape(scales, (-1, 1)) * margin.negatives(cosines, context)
        target = scales * margin.target(own, context)
        return af.losses.cross_entropy(jnp.where(is_label, -jnp.inf, logits), target)

    got = losses(cosines, scale)
    np.testing.assert_allclose(got, case["expected"]["ce"], rtol=2e-5, atol=1e-6)
    by_cosines, by_scale = jax.grad(lambda c, s: losses(c, s).sum(), argnums=(0, 1))(cosines, scale)
    expected = case["expected"]["grad_cos"]
    expected = np.array(expected["exact"] if isinstance(expected, dict) else expected)
    np.testing.assert_allclose(by_cosines, expected, atol=3e-5 * np.abs(expected).max())
    if free:
        np.testing.assert_allclose(by_scale, case["expected"]["grad_norms"], rtol=2e-5, atol=1e-5)


# ------------------------------------------------------------------ properties of all margins


@every_margin
def test_target_is_the_closed_form(name):
    cosines = np.linspace(-0.999, 0.999, 401)
    with jax.enable_x64(True):
        got = af.target_cosine(jnp.asarray(cosines), ROWS[name].margin)
        np.testing.assert_allclose(got, ROWS[name].reference(cosines), atol=1e-12)


@every_margin
def test_slope_matches_finite_differences_of_the_reference(name):
    # Off the tail's jump and psi's kinks: a step of 1e-6 must not straddle one.
    cosines = np.linspace(-0.99, 0.99, 211) + 1.234e-4
    step = 1e-6
    reference = ROWS[name].reference
    expected = (reference(cosines + step) - reference(cosines - step)) / (2 * step)
    with jax.enable_x64(True):
        got = slopes(ROWS[name].margin, jnp.asarray(cosines))
        np.testing.assert_allclose(got, expected, atol=1e-6)


@every_margin
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_value_and_slope_are_finite_at_the_poles(name, dtype):
    cosines = jnp.array([1.0, 1.0 + 1e-3, 0.0, -1.0, -1.0 - 1e-3], dtype)
    value = af.target_cosine(cosines, ROWS[name].margin)
    slope = slopes(ROWS[name].margin, cosines)
    assert value.dtype == jnp.float32
    assert jnp.isfinite(value).all()
    assert jnp.isfinite(slope).all()


@every_margin
def test_a_larger_angle_never_gets_a_larger_target(name):
    target = af.target_cosine(jnp.cos(jnp.linspace(0.0, jnp.pi, 721)), ROWS[name].margin)
    assert (jnp.diff(target) <= 1e-6).all()


@pytest.mark.parametrize("tail", ["hard", "mirror", "clip"])
@pytest.mark.parametrize("margin", [(1.0, 0.5, 0.0), (1.35, 0.0, 0.0), (0.9, 0.4, 0.15)])
def test_monotone_tails_fall_over_the_whole_range(tail, margin):
    target = af.target_cosine(
        jnp.cos(jnp.linspace(0.0, jnp.pi, 1441)), af.combined(*margin, tail=tail)
    )
    assert (jnp.diff(target) <= 1e-6).all()


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_no_margin_is_norm_softmax_under_every_tail(tail, gradient):
    cosines = jnp.linspace(-1.0, 1.0, 101)
    margin = af.Margin(tail=tail, gradient=gradient)
    np.testing.assert_array_equal(af.target_cosine(cosines, margin), cosines)
    np.testing.assert_array_equal(slopes(margin, cosines), np.ones(101))


@pytest.mark.parametrize("tail", TAILS)
def test_straight_through_changes_the_slope_alone(tail):
    cosines = jnp.linspace(-0.99, 0.99, 101)
    exact, through = (af.arcface(0.5, tail=tail, gradient=g) for g in GRADIENTS)
    np.testing.assert_allclose(
        af.target_cosine(cosines, exact), af.target_cosine(cosines, through), atol=2e-7
    )
    np.testing.assert_array_equal(slopes(through, cosines), np.ones(101))


def test_named_losses_are_points_of_the_combined_margin():
    assert af.arcface(0.4) == af.combined(1.0, 0.4, 0.0)
    assert af.cosface(0.3) == af.combined(1.0, 0.0, 0.3)
    assert af.sphereface(1.2) == af.combined(1.2, 0.0, 0.0)
    assert af.norm_softmax() == af.combined(1.0, 0.0, 0.0)


def test_two_class_boundary_of_arcface_is_a_constant_angle():
    with jax.enable_x64(True):
        theta_1 = jnp.linspace(0.1, 2.4, 24)
        target = af.target_cosine(jnp.cos(theta_1), af.arcface(0.5))
        np.testing.assert_allclose(jnp.arccos(target) - theta_1, 0.5, atol=1e-12)


def test_one_trace_serves_a_sweep_over_scale_and_margins(rng):
    cosines = jnp.asarray(rng.uniform(-1, 1, (4, 6)), jnp.float32)
    labels = jnp.array([0, 1, 2, 3])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def logits(margin, scale):
        return af.margin_logits(cosines, labels, margin=margin, scale=scale)

    chex.clear_trace_counter()
    points = [(1.0, 0.0, 0.0, 64.0), (1.35, 0.0, 0.0, 32.0), (1.0, 0.5, 0.0, 16.0), (1, 0, 0.35, 8)]
    for m1, m2, m3, scale in points:
        margin = jax.tree.map(jnp.float32, af.Margin(m1, m2, m3))
        got = logits(margin, jnp.float32(scale))
        expected = af.margin_logits(cosines, labels, margin=af.Margin(m1, m2, m3), scale=scale)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_vmap_over_hyper_parameters_equals_a_loop(rng):
    cosines = jnp.asarray(rng.uniform(-1, 1, (4, 6)), jnp.float32)
    labels = jnp.array([0, 1, 2, 3])
    margins = af.Margin(
        jnp.array([1.0, 1.35, 0.9]), jnp.array([0.5, 0.0, 0.4]), jnp.array([0.0, 0.1, 0.15])
    )
    margins = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, 3), margins)
    scales = jnp.array([8.0, 16.0, 64.0])
    got = jax.vmap(lambda m, s: af.margin_logits(cosines, labels, margin=m, scale=s))(
        margins, scales
    )
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], margins)
        expected = af.margin_logits(cosines, labels, margin=one, scale=scales[i])
        np.testing.assert_allclose(got[i], expected, rtol=1e-6, atol=1e-5)


def test_per_row_margins_and_scales_equal_row_by_row():
    cosines, labels = jnp.array([[0.5, 0.25], [0.5, 0.25]]), jnp.array([0, 0])
    got = af.margin_logits(
        cosines, labels, margin=af.cosface(jnp.array([0.25, 0.5])), scale=jnp.array([4.0, 8.0])
    )
    np.testing.assert_allclose(got, [[1.0, 1.0], [0.0, 2.0]], atol=1e-6)


def test_hyper_parameters_have_gradients():
    grad = jax.grad(lambda m: af.target_cosine(0.3, af.Margin(m2=m)))(0.5)
    assert float(grad) == pytest.approx(-math.sin(math.acos(0.3) + 0.5), abs=1e-6)


def test_psi_annealing_follows_its_schedule():
    margin = af.sphereface_psi(4)
    context = Context(norms=jnp.ones(1), state=margin.init_state())
    weights = {1: 892.857142857, 1659: 5.0}
    for step in range(1, 1660):
        context = margin.observe(jnp.zeros(1), context)
        if step in weights:
            got = (margin.target(jnp.array([0.0]), context) * (1 + weights[step]))[0]
            # psi_4(90 degrees) = -3, so the target is -3 / (1 + lambda).
            assert float(got) == pytest.approx(-3.0, rel=1e-4)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: af.arcface(-0.1), r"m2=-0.1 lies outside \[0, 3.14159\)"),
        (lambda: af.arcface(28.6), "angles are radians"),
        (lambda: af.sphereface(0.0), r"m1=0.0 lies outside \(0, inf\)"),
        (lambda: af.cosface(float("nan")), "m3=nan lies outside"),
        (lambda: af.arcface(tail="hrad"), "unknown tail 'hrad'; known: hard, easy"),
        (lambda: af.arcface(gradient="detached"), "unknown gradient 'detached'"),
        (lambda: af.sphereface_psi(0.5), "m=0.5 must be a Python number >= 1"),
        (lambda: af.sphereface_psi(feature_norm="none"), "unknown feature_norm 'none'"),
    ],
)
def test_wrong_hyper_parameters_are_refused_with_the_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("cosines", "labels", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3), int), "argmax"),
        (np.zeros(3), np.zeros(3, int), r"expected cosines \[B, C\]"),
        (np.zeros((2, 3)), np.zeros(2), "cast with"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(cosines, labels, message):
    with pytest.raises(ValueError, match=message):
        af.margin_logits(cosines, labels, margin=af.arcface())


def test_a_row_without_a_class_gets_no_margin():
    cosines = jnp.array([[0.5, 0.25]])
    got = af.margin_logits(cosines, jnp.array([-1]), margin=af.arcface(), scale=4.0)
    np.testing.assert_array_equal(got, 4.0 * cosines)


def test_plain_softmax_has_no_scale():
    with pytest.raises(ValueError, match="softmax has no scale"):
        af.margin_logits(jnp.zeros((1, 2)), jnp.array([0]), margin=af.softmax(), scale=2.0)
    np.testing.assert_array_equal(
        af.margin_logits(jnp.array([[3.0, -2.0]]), jnp.array([0]), margin=af.softmax()),
        [[3.0, -2.0]],
    )


def test_strict_dtype_promotion_holds_in_the_margins(strict_dtypes):
    for row in ROWS.values():
        af.target_cosine(jnp.linspace(-1.0, 1.0, 5), row.margin)
    assert geometry.angle(jnp.float32(0.0)) > 1.5
