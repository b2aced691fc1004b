"""Every margin through one table of properties, and the combined one against the golden file."""

import dataclasses
import json
import math
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from margin_table import CLOSED_FORMS

import arcface_jax as af
from arcface_jax import geometry, testing
from arcface_jax.margins import GRADIENTS, TAILS, Context

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/margin_losses.json").read_text())
CASES = {case["id"]: case for case in GOLDEN["margin_cases"]}
TOLERANCE = GOLDEN["tolerances"]["float32"]

every_closed_form = pytest.mark.parametrize("name", CLOSED_FORMS)
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


# ------------------------------------------------------------------ closed forms


@every_closed_form
def test_target_is_the_closed_form(name):
    cosines = np.linspace(-0.999, 0.999, 401)
    with jax.enable_x64(True):
        got = af.target_cosine(jnp.asarray(cosines), CLOSED_FORMS[name].margin)
        np.testing.assert_allclose(got, CLOSED_FORMS[name].reference(cosines), atol=1e-12)


@every_closed_form
def test_slope_matches_finite_differences_of_the_reference(name):
    # Off the tail's jump and psi's kinks: a step of 1e-6 must not straddle one.
    cosines = np.linspace(-0.99, 0.99, 211) + 1.234e-4
    step = 1e-6
    reference = CLOSED_FORMS[name].reference
    expected = (reference(cosines + step) - reference(cosines - step)) / (2 * step)
    with jax.enable_x64(True):
        got = slopes(CLOSED_FORMS[name].margin, jnp.asarray(cosines))
        np.testing.assert_allclose(got, expected, atol=1e-6)


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
        context = margin.observe(context)
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
        (lambda: af.combined(1.9, 0.5), r"turns the angle past 2 pi.*m1 is at most 1.841"),
        (lambda: af.magface(0.8, 0.45), r"upper_margin=0.45 lies outside \[0.8, 3.14159\)"),
        (lambda: af.magface(lower_norm=9, upper_norm=9), r"upper_norm=9 lies outside \(9, inf\)"),
        (lambda: af.magface(kind="sin"), "unknown kind 'sin'; known: arc, cos"),
        (lambda: af.adaface(3.0), r"m=3.0 lies outside \[0, 1.5708\); angles are radians"),
        (lambda: af.adaface(epsilon=0.0), r"epsilon=0.0 lies outside \(0, 0.1\)"),
        (lambda: af.curricularface(alpha=1.5), r"alpha=1.5 lies outside \[0, 1\]"),
        (lambda: af.elasticface(sigma=-0.1), r"sigma=-0.1 lies outside \[0, inf\)"),
        (lambda: af.elasticface(plus="rnk"), "Did you mean rank"),
        (lambda: af.circle_class(1.5), r"m=1.5 lies outside \[0, 1\]"),
        (lambda: af.airface(-0.1), "m=-0.1 lies outside"),
        (lambda: af.l_softmax(2.5), "must be an integer"),
        (lambda: af.sphereface_r(0.9), r"m=0.9 lies outside \[1, inf\)"),
        (lambda: af.sphereface2(power=0.5), r"power=0.5 lies outside \[1, inf\)"),
        (lambda: af.sphereface2(alpha=1.0), r"alpha=1.0 lies outside \(0, 1\)"),
        (lambda: af.sphereface2().init_params(1), "at least 2 classes"),
        (lambda: af.subcenter_arcface(k=0), "k=0 must be a Python integer"),
        (lambda: af.vpl(weight=0.5), r"weight=0.5 lies outside \[0, 0.5\)"),
        (lambda: af.vpl(margin=af.adaface()), "without a state, not AdaFace"),
        (lambda: af.vpl(margin=af.subcenter_arcface()), "take k=1"),
        (lambda: af.vpl().init_state(), r"pass init_state\(C, D\)"),
        (lambda: af.interclass_filter(threshold=2.0), r"threshold=2.0 lies outside \[0, 1\]"),
        (lambda: af.interclass_filter(af.softmax()), "is on inner products"),
        (lambda: af.adacos().init_state(2), "C >= 3 classes, got 2"),
        (lambda: af.uniface(sample_rate=0.0), r"sample_rate=0.0 lies outside \(0, 1\]"),
        (lambda: af.p2sgrad(normalization="sum"), "unknown normalization 'sum'"),
        (lambda: af.mv_softmax_arc(tau=0.0), r"tau=0.0 lies outside \(0, inf\)"),
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
    with pytest.raises(ValueError, match="Softmax has no scale to set"):
        af.margin_logits(jnp.zeros((1, 2)), jnp.array([0]), margin=af.softmax(), scale=2.0)
    np.testing.assert_array_equal(
        af.margin_logits(jnp.array([[3.0, -2.0]]), jnp.array([0]), margin=af.softmax()),
        [[3.0, -2.0]],
    )


def test_strict_dtype_promotion_holds_in_the_margins(strict_dtypes):
    for row in CLOSED_FORMS.values():
        af.target_cosine(jnp.linspace(-1.0, 1.0, 5), row.margin)
    assert geometry.angle(jnp.float32(0.0)) > 1.5


def test_magface_warns_where_longer_need_not_be_easier():
    with pytest.warns(UserWarning, match="strength=20.0 is below 22.59"):
        af.magface(strength=20.0)


LIMITS = {
    "combined without margins": (lambda: af.combined(1.0, 0.0, 0.0), af.norm_softmax),
    "arcface 0": (lambda: af.arcface(0.0), af.norm_softmax),
    "cosface 0": (lambda: af.cosface(0.0), af.norm_softmax),
    "sphereface 1": (lambda: af.sphereface(1.0), af.norm_softmax),
    "sphereface_psi 1": (
        lambda: af.sphereface_psi(1, feature_norm="hard", annealed=False),
        af.norm_softmax,
    ),
    "one sub-centre": (lambda: af.subcenter_arcface(0.4, k=1), lambda: af.arcface(0.4)),
    "elasticface arc, sigma 0": (lambda: af.elasticface(0.4, sigma=0.0), lambda: af.arcface(0.4)),
    "elasticface cos, sigma 0": (
        lambda: af.elasticface(0.3, kind="cos", sigma=0.0),
        lambda: af.cosface(0.3),
    ),
    "mv_softmax_arc, tau 1": (lambda: af.mv_softmax_arc(0.4, tau=1.0), lambda: af.arcface(0.4)),
    "mv_softmax_am, tau 1": (
        lambda: af.mv_softmax_am(0.3, tau=1.0, conditional=False),
        lambda: af.cosface(0.3),
    ),
    "vpl, weight 0": (lambda: af.vpl(0.4, weight=0.0, start=0), lambda: af.arcface(0.4)),
    "vpl before its start": (lambda: af.vpl(0.4), lambda: af.arcface(0.4)),
    "filter off": (lambda: af.interclass_filter(threshold=0.0), af.arcface),
    "magface with one margin": (
        lambda: af.magface(0.4, 0.4, strength=0.0),
        lambda: af.arcface(0.4),
    ),
    "l_softmax 1": (lambda: af.l_softmax(1), af.softmax),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_equal_the_simpler_loss_in_value_and_gradient(name):
    margin, simpler = (make() for make in LIMITS[name])
    batch = testing.make_batch(margin)
    if margin.has_scale or simpler.has_bias:
        batch = dataclasses.replace(batch, bias=None)
    got = testing.gradients(margin, batch)
    if margin.centers_per_class == 1 and batch.centers.ndim == 3:
        batch = dataclasses.replace(batch, centers=batch.centers[:, 0])
    expected = testing.gradients(simpler, batch, state=None)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=2e-5, atol=2e-5)


def test_adaface_without_concentration_is_cosface_inside_its_limits():
    batch = testing.make_batch(af.adaface())
    got = testing.gradients(af.adaface(0.3, h=0.0), batch)
    expected = testing.gradients(af.cosface(0.3), batch, state=None)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_margins_by_class_are_margins_by_row():
    batch = testing.make_batch(af.arcface())
    by_class = jnp.linspace(0.1, 0.6, testing.CLASSES)
    got = testing.gradients(af.arcface(af.ByClass(by_class)), batch)
    expected = testing.gradients(af.arcface(by_class[batch.labels]), batch)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="one number for each of 9 classes"):
        testing.evaluate(af.arcface(af.ByClass(by_class[:3])), batch)


def test_a_margin_by_row_reaches_the_wrong_classes_of_its_own_row():
    batch = testing.make_batch(af.sphereface2())
    margins = jnp.linspace(0.1, 0.6, testing.ROWS)
    got, _ = testing.evaluate(af.sphereface2(margins), batch)
    for i in range(testing.ROWS):
        alone, _ = testing.evaluate(af.sphereface2(float(margins[i])), batch)
        np.testing.assert_allclose(got[i], alone[i], rtol=1e-5)


@pytest.mark.parametrize("name", ["adaface", "curricularface", "adacos", "vpl"])
def test_states_never_carry_a_gradient(name):
    margin = af.vpl(start=0) if name == "vpl" else af.MARGINS[name]()
    batch = testing.make_batch(margin)

    def total_state(embeddings):
        _, state = testing.evaluate(margin, batch, embeddings=embeddings)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32)

    np.testing.assert_array_equal(jax.grad(total_state)(batch.embeddings), 0.0)


def test_vpl_keeps_the_last_row_of_each_class_and_forgets_after_its_window():
    margin = af.vpl(start=0, window=1)
    batch = testing.make_batch(margin, warm=False)
    twice = int(batch.labels[0])
    last = int(np.flatnonzero(np.asarray(batch.labels) == twice)[-1])
    _, state = testing.evaluate(margin, batch)
    np.testing.assert_allclose(
        state["queue"][twice], geometry.unit(batch.embeddings[last]), atol=1e-6
    )
    assert int(state["step"]) == 1
    assert int(state["seen"][twice]) == 1
    mixed = margin.prototypes(batch.centers, Context(state=state))
    assert not np.allclose(mixed[twice], batch.centers[twice])
    later = state | {"step": state["step"] + 1}
    np.testing.assert_array_equal(
        margin.prototypes(batch.centers, Context(state=later)), batch.centers
    )


def test_elasticface_is_a_function_of_its_key():
    margin = af.elasticface()
    batch = testing.make_batch(margin)
    same = [testing.evaluate(margin, batch)[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    other, _ = testing.evaluate(margin, batch, key=jax.random.key(1))
    assert not np.allclose(same[0], other)


def test_registry_says_how_to_construct_each_margin():
    entry = af.MARGINS["arcface"]
    assert entry.defaults == {"m": 0.5, "tail": "hard", "gradient": "exact"}
    assert entry(0.3) == af.arcface(0.3)
    for entry in af.MARGINS.values():
        assert entry.formula and entry.source, entry.name


def test_equal_thresholds_of_all_classes_are_one_threshold():
    shared, per_class = af.uniface(0.3), af.uniface(0.3, per_class=True)
    batch = testing.make_batch(shared)
    start = per_class.init_bias(testing.CLASSES)
    np.testing.assert_array_equal(start, np.full(testing.CLASSES, batch.params["bias"]))

    def of_shared(value):
        return testing.evaluate(shared, batch, params={"bias": value})[0].sum()

    def of_classes(values):
        return testing.evaluate(per_class, batch, params=None, bias=values)[0].sum()

    expected, by_shared = jax.value_and_grad(of_shared)(batch.params["bias"])
    got, by_class = jax.value_and_grad(of_classes)(start)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(by_class.sum(), by_shared, rtol=1e-4)
