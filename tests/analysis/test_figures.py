import subprocess
import sys
import xml.etree.ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from arcface_jax.analysis import figures

EDGES = np.arange(181.0)
ANGLES = np.linspace(0.0, 180.0, 91)


def counts(mean, size=1000, seed=0):
    rng = np.random.default_rng(seed)
    return np.histogram(rng.normal(mean, 6.0, size), EDGES)[0]


def theta_point(end=30.0):
    return figures.ThetaHistograms(
        edges_deg=EDGES,
        target={"start": counts(90), "middle": counts(60), "end": counts(end)},
        nearest_wrong={"start": counts(70), "middle": counts(66), "end": counts(68)},
    )


def pair_point():
    return figures.PairHistograms(edges_deg=EDGES, genuine=counts(40), impostor=counts(85))


def subcenter_point():
    return figures.SubcenterHistograms(
        edges_deg=EDGES, on_dominant=counts(40, size=3000), on_other=counts(85)
    )


def curves(names):
    return {name: (ANGLES, np.cos(np.radians(ANGLES)) - 0.1 * k) for k, name in enumerate(names)}


EVERY_FIGURE = {
    "target_logit_curves": lambda: figures.target_logit_curves(curves(["arcface", "cosface"])),
    "loss_curves": lambda: figures.loss_curves({"arcface": ([1, 2, 3], [9.0, 3.0, 1.0])}),
    "target_angle_curves": lambda: figures.target_angle_curves({"arcface": ([1, 2], [90.0, 40.0])}),
    "theta_histograms": lambda: figures.theta_histograms(theta_point(), title="arcface"),
    "theta_histogram_grid": lambda: figures.theta_histogram_grid(
        {"arcface m=0.5": theta_point(), "a setting with a rather long label": theta_point(50)}
    ),
    "pair_angle_histograms": lambda: figures.pair_angle_histograms(
        {f"point {k}": pair_point() for k in range(4)}
    ),
    "subcenter_histograms": lambda: figures.subcenter_histograms(subcenter_point()),
}
every_figure = pytest.mark.parametrize("name", EVERY_FIGURE)


@every_figure
def test_png_and_svg_are_well_formed_and_reproducible(name):
    figure, again = EVERY_FIGURE[name](), EVERY_FIGURE[name]()
    assert figures.png(figure).startswith(b"\x89PNG")
    xml.etree.ElementTree.fromstring(figures.svg(figure))
    assert figures.svg(figure) == figures.svg(again)
    assert figures.png(figure) == figures.png(again)


@every_figure
def test_the_callers_settings_neither_change_nor_matter(name):
    reference = figures.svg(EVERY_FIGURE[name]())
    with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "text.color": "red"}):
        before = dict(matplotlib.rcParams)
        assert figures.svg(EVERY_FIGURE[name]()) == reference
        assert dict(matplotlib.rcParams) == before


@every_figure
def test_every_axis_is_labelled_and_no_legend_covers_data(name):
    figure = EVERY_FIGURE[name]()
    texts = [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
    assert any("degrees" in text or "step" in text for text in texts)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    assert figure.legends, "the figure has no legend"
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0 + 1 and box.x1 <= figure.bbox.x1 + 1
        for axes in figure.axes:
            assert not box.overlaps(axes.get_window_extent(renderer))


def test_no_pyplot_is_imported():
    code = (
        "import sys; from arcface_jax.analysis import figures as f;"
        "f.png(f.loss_curves({'a': ([1, 2], [2.0, 1.0])}));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_a_margin_has_one_colour_in_every_figure():
    logit = figures.target_logit_curves(curves(["cosface", "arcface"])).axes[0]
    loss = figures.loss_curves({"run 7": ([1, 2], [2.0, 1.0])}, margins={"run 7": "arcface"}).axes[
        0
    ]
    expected = figures.margin_color("arcface")
    assert logit.lines[1].get_color() == to_rgb(expected)
    assert loss.lines[-1].get_color() == to_rgb(expected)


def test_named_margins_have_different_colours():
    assert len(set(figures.MARGIN_COLORS.values())) == len(figures.MARGIN_COLORS)
    assert figures.margin_color("new_margin") == figures.margin_color("new_margin")


def test_curves_of_one_margin_differ_in_dash_or_tint():
    names = [f"arcface m={k}" for k in range(9)]
    axes = figures.target_logit_curves(curves(names), margins=dict.fromkeys(names, "arcface")).axes[
        0
    ]
    looks = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines}
    assert len({color for color, _ in looks}) == 9
    assert len({dash for _, dash in looks}) > 1


def test_target_curves_show_the_given_numbers_in_the_given_range():
    given = curves(["arcface"])
    axes = figures.target_logit_curves(given, theta_range_deg=(0.0, 180.0)).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), given["arcface"][1])
    assert axes.get_xlim() == (0.0, 180.0)
    assert axes.get_ylim()[0] < -1.0 and axes.get_ylim()[1] > 1.0
    assert figures.target_logit_curves(given).axes[0].get_xlim() == (20.0, 100.0)


def test_histograms_are_shares_that_add_up_to_one():
    axes = figures.pair_angle_histograms({"arcface": pair_point()}).axes[0]
    for patch in axes.patches:
        values, edges, _ = patch.get_data()  # type: ignore[attr-defined]
        assert np.sum(values * np.diff(edges)) == pytest.approx(100.0)


@pytest.mark.parametrize("threshold", [70.0, 75.0, 77.0])
def test_subcenter_panels_share_a_total_and_no_bar_crosses_the_threshold(threshold):
    figure = figures.subcenter_histograms(subcenter_point(), threshold_deg=threshold)
    total = 0.0
    for axes in figure.axes:
        values, edges, _ = axes.patches[0].get_data()  # type: ignore[attr-defined]
        assert threshold in edges
        total += np.sum(values * np.diff(edges))
    assert total == pytest.approx(100.0)
    assert [axes.get_title(loc="left").split(": ")[1] for axes in figure.axes] == [
        "3,000 images, 75 %",
        "1,000 images, 25 %",
    ]


def test_subcenter_panels_may_be_empty():
    nothing = np.zeros(180)
    point = figures.SubcenterHistograms(edges_deg=EDGES, on_dominant=nothing, on_other=nothing)
    figures.png(figures.subcenter_histograms(point, title="nobody"))


def test_a_few_outliers_do_not_widen_the_axis():
    values = counts(60, size=100_000)
    values[178] += 3
    point = figures.PairHistograms(edges_deg=EDGES, genuine=values, impostor=values)
    assert figures.pair_angle_histograms({"a": point}).axes[0].get_xlim() == (0.0, 120.0)


def test_a_loss_that_stops_being_finite_is_marked():
    loss = [4.0, 3.0, float("nan"), float("inf")]
    axes = figures.loss_curves({"arcface": ([1, 2, 3, 4], loss)}).axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == 1 and np.asarray(crosses[0].get_xydata()).tolist() == [[2.0, 3.0]]


def test_smoothing_keeps_a_straight_line_straight():
    x = np.arange(1000.0)
    axes = figures.loss_curves({"arcface": (x, 5000.0 - 2.0 * x)}).axes[0]
    smooth = np.asarray(axes.lines[-1].get_ydata(), float)
    np.testing.assert_allclose(smooth, 5000.0 - 2.0 * x, rtol=1e-12)


def test_empty_histograms_and_missing_phases_are_drawn():
    empty = figures.ThetaHistograms(
        edges_deg=EDGES, target={"start": np.zeros(180)}, nearest_wrong={}
    )
    figure = figures.theta_histogram_grid({"a": empty, "b": theta_point()})
    assert len(figure.axes) == 6
    figures.png(figure)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.loss_curves({}), "no curve"),
        (lambda: figures.loss_curves({"a": ([1, 2], [1.0])}), r"a: x and y .* \(2,\) and \(1,\)"),
        (
            lambda: figures.target_logit_curves(curves(["a"]), theta_range_deg=(100.0, 20.0)),
            "low < high",
        ),
        (lambda: figures.theta_histogram_grid({}), "no point"),
        (lambda: figures.pair_angle_histograms({}), "no point"),
        (lambda: figures.pair_angle_histograms({"a": pair_point()}, columns=0), "columns"),
        (
            lambda: figures.pair_angle_histograms(
                {"a": figures.PairHistograms(edges_deg=EDGES, genuine=[1], impostor=[1])}
            ),
            r"181 edges need counts of shape \(180,\)",
        ),
        (
            lambda: figures.theta_histograms(
                figures.ThetaHistograms(edges_deg=EDGES, target={}, nearest_wrong={})
            ),
            "no phase",
        ),
        (
            lambda: figures.theta_histograms(
                figures.ThetaHistograms(edges_deg=[1, 0], target={"a": [1]}, nearest_wrong={})
            ),
            "ascending",
        ),
    ],
)
def test_wrong_input_says_what_was_wanted(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
