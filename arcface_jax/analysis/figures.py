"""Figures of the paper's angle analysis, drawn without pyplot, a display or global state.

Every function takes plain arrays and returns a ``matplotlib.figure.Figure``; :func:`png` and
:func:`svg` turn one into bytes or text. Angles are in degrees. A margin name has the same colour
in every figure (the Okabe-Ito palette, which colour-blind readers can tell apart); several curves
of one margin also differ in dash and tint.
"""

import functools
import io
import math
import textwrap
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

INK = "#24292f"
RULE = "#d8dee4"
PAPER = "#ffffff"
OWN = "#d55e00"
"""Colour of the own class and of genuine pairs (red in the paper's Fig. 6)."""
OTHER = "#0072b2"
"""Colour of other classes and of impostor pairs (blue in the paper's Fig. 6)."""

MARGIN_COLORS: Mapping[str, str] = MappingProxyType(
    {
        "softmax": "#7a7a7a",
        "norm_softmax": INK,
        "sphereface": "#e69f00",
        "sphereface_psi": "#8c5a00",
        "sphereface2": "#b8860b",
        "arcface": "#0072b2",
        "cosface": "#d55e00",
        "combined": "#009e73",
        "adaface": "#cc79a7",
        "magface": "#56b4e9",
        "curricularface": "#7b3294",
        "elasticface": "#4d9221",
    }
)
"""Margin name -> colour; other names get a fixed colour of the same palette."""

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "mathtext.fontset": "dejavusans",
    "figure.dpi": 100.0,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "grid.linestyle": "-",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    # Glyphs as outlines look the same everywhere; a fixed salt gives the same file every time.
    "svg.fonttype": "path",
    "svg.hashsalt": "arcface_jax",
}
_DASHES = ("-", (0, (5, 1.6)), (0, (1, 1.4)), (0, (6, 1.6, 1, 1.6)))
_PHASE_COLORS = ("#9aa0a6", "#56b4e9", "#d55e00")
_WIDTH = 8.0  # inches, about the width of a README column


@dataclass(frozen=True, kw_only=True)
class ThetaHistograms:
    """Histograms of one run's angles to the class centres, one per phase of the training.

    Attributes:
      edges_deg: float[K + 1], ascending bin edges in degrees.
      target: phase name -> number[K], counts of theta_y, the angle to the own class centre.
      nearest_wrong: phase name -> number[K], counts of the angle to the nearest other centre.
    """

    edges_deg: ArrayLike
    target: Mapping[str, ArrayLike]
    nearest_wrong: Mapping[str, ArrayLike]


@dataclass(frozen=True, kw_only=True)
class PairHistograms:
    """Histograms of the angles between two embeddings of a pair.

    Attributes:
      edges_deg: float[K + 1], ascending bin edges in degrees.
      genuine: number[K], counts of pairs of the same identity.
      impostor: number[K], counts of pairs of different identities.
    """

    edges_deg: ArrayLike
    genuine: ArrayLike
    impostor: ArrayLike


@dataclass(frozen=True, kw_only=True)
class SubcenterHistograms:
    """Histograms of the angles of images to the dominant one of their class's several centres.

    Attributes:
      edges_deg: float[K + 1], ascending bin edges in degrees.
      on_dominant: number[K], counts of images that are nearest to the dominant centre.
      on_other: number[K], counts of images that are nearest to another centre of their class.
    """

    edges_deg: ArrayLike
    on_dominant: ArrayLike
    on_other: ArrayLike


def margin_color(name: str) -> str:
    """Colour of a margin, the same in every figure.

    >>> margin_color("arcface")
    '#0072b2'
    """
    if name in MARGIN_COLORS:
        return MARGIN_COLORS[name]
    # zlib.crc32 and not hash(): the latter differs from process to process.
    palette = tuple(MARGIN_COLORS.values())
    return palette[zlib.crc32(name.encode()) % len(palette)]


def _styled[**P](draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The drawing function under this module's style, whatever the caller's rcParams are."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            figure = draw(*args, **kwargs)
            # Tick labels are made by the first draw and keep the style in force then.
            figure.draw_without_rendering()
            # The layout is found by now; finding it again for every format would be slow.
            figure.set_layout_engine("none")
        return figure

    return styled


@_styled
def target_logit_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    margins: Mapping[str, str] | None = None,
    theta_range_deg: tuple[float, float] = (20.0, 100.0),
) -> Figure:
    """Target cosine after the margin against the angle theta, one curve per label.

    Args:
      curves: label -> (theta_deg float[K], target float[K]); the target is without the scale s.
      margins: label -> margin name, which chooses the colour; a missing label is its own name.
      theta_range_deg: shown angles; (20, 100) is the paper's range, (0, 180) shows the tail.

    Returns:
      A figure of 8 x 4 inches.

    Raises:
      ValueError: no curve, or the two arrays of a curve differ in length.

    Source: Deng et al., ArcFace (CVPR 2019), Fig. 4(b).

    >>> target_logit_curves({"norm_softmax": ([0.0, 90.0, 180.0], [1.0, 0.0, -1.0])})
    <Figure size 800x400 with 1 Axes>
    """
    low, high = theta_range_deg
    if not low < high:
        raise ValueError(f"theta_range_deg must be (low, high) with low < high, got {(low, high)}.")
    figure, axes = _figure(height=4.0)
    drawn = _draw_curves(axes, curves, margins=margins)
    shown = [y[(x >= low) & (x <= high)] for x, y in drawn.values()]
    values = np.concatenate(shown) if shown else np.zeros(0)
    values = values[np.isfinite(values)]
    axes.set_xlim(low, high)
    if values.size:
        pad = 0.04 * max(float(np.ptp(values)), 0.5)
        axes.set_ylim(float(values.min()) - pad, float(values.max()) + pad)
    axes.set_xticks(np.arange(math.ceil(low / 10) * 10, high + 1, 10 if high - low <= 100 else 30))
    axes.set_xlabel(r"angle $\theta_y$ to the own class centre (degrees)")
    axes.set_ylabel(r"target cosine (target logit / $s$)")
    _legend_beside(figure)
    return figure


@_styled
def loss_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    margins: Mapping[str, str] | None = None,
) -> Figure:
    """Training loss against the step, smoothed, over the raw values in a faint tint.

    Values that are not finite are left out and the last finite one is marked with a cross.

    Args:
      curves: label -> (step number[K], loss float[K]).
      margins: label -> margin name, which chooses the colour; a missing label is its own name.

    Returns:
      A figure of 8 x 4 inches; the loss axis is logarithmic where it spans more than a factor 20.

    Raises:
      ValueError: no curve, or the two arrays of a curve differ in length.

    >>> loss_curves({"arcface": ([1, 2, 3], [8.0, 4.0, 2.0])})
    <Figure size 800x400 with 1 Axes>
    """
    figure, axes = _figure(height=4.0)
    drawn = _draw_curves(axes, curves, margins=margins, smooth=True)
    finite = np.concatenate([y[np.isfinite(y)] for _, y in drawn.values()])
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("training loss (nats)")
    _legend_beside(figure)
    return figure


@_styled
def target_angle_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    margins: Mapping[str, str] | None = None,
) -> Figure:
    """Mean theta_y of the training batches against the step, smoothed.

    Unlike the loss it has the same unit for every margin and scale, so runs can be compared.

    Args:
      curves: label -> (step number[K], theta_deg float[K]).
      margins: label -> margin name, which chooses the colour; a missing label is its own name.

    Raises:
      ValueError: no curve, or the two arrays of a curve differ in length.

    >>> target_angle_curves({"arcface": ([1, 2], [90.0, 45.0])})
    <Figure size 800x400 with 1 Axes>
    """
    figure, axes = _figure(height=4.0)
    _draw_curves(axes, curves, margins=margins, smooth=True)
    axes.set_xlabel("training step")
    axes.set_ylabel(r"mean angle $\theta_y$ (degrees)")
    _legend_beside(figure)
    return figure


@_styled
def theta_histograms(histograms: ThetaHistograms, *, title: str = "") -> Figure:
    """Histograms of theta_y (above) and of the nearest wrong class (below), phases overlaid.

    Raises:
      ValueError: no phase, or counts that do not fit the edges.

    Source: Deng et al., ArcFace (CVPR 2019), Fig. 4(a).

    >>> theta_histograms(ThetaHistograms(
    ...     edges_deg=[0.0, 90.0, 180.0], target={"end": [3, 1]}, nearest_wrong={"end": [0, 4]}))
    <Figure size 800x500 with 2 Axes>
    """
    _check_phases("the point", histograms)
    figure = _new_figure(_WIDTH, 5.0)
    rows: Any = figure.subplots(2, 1, sharex=True)
    parts = (
        (rows[0], histograms.target, r"$\theta_y$, own class"),
        (rows[1], histograms.nearest_wrong, "nearest wrong class"),
    )
    for axes, counts, name in parts:
        for k, (phase, values) in enumerate(counts.items()):
            color = _PHASE_COLORS[k % len(_PHASE_COLORS)]
            share, edges = _share(values, histograms.edges_deg)
            axes.stairs(share, edges, fill=True, color=color, alpha=0.45)
            axes.stairs(share, edges, color=color, linewidth=1.4, label=phase)
        axes.set_ylim(bottom=0.0)
        axes.set_ylabel("samples (% per degree)")
        axes.set_title(name, loc="left")
    rows[0].set_xlim(*_angle_range([histograms]))
    rows[1].set_xlabel("angle to a class centre (degrees)")
    if title:
        figure.suptitle(title, fontweight="bold", fontsize=10)
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="training")
    return figure


@_styled
def theta_histogram_grid(points: Mapping[str, ThetaHistograms]) -> Figure:
    """Angle histograms of several runs: a row per run, a column per phase of the training.

    Each panel is scaled to its own peak, because at the start all angles lie within few degrees
    of 90 and later ones would be flat beside them; the means stand above each panel.

    Args:
      points: label -> its histograms; a phase a run lacks leaves its panel empty.

    Raises:
      ValueError: no point, no phase, or counts that do not fit the edges.

    >>> point = ThetaHistograms(
    ...     edges_deg=[0.0, 90.0, 180.0], target={"start": [0, 4], "end": [3, 1]},
    ...     nearest_wrong={"start": [0, 4], "end": [0, 4]})
    >>> theta_histogram_grid({"arcface": point, "cosface": point})
    <Figure size 800x330 with 4 Axes>
    """
    if not points:
        raise ValueError("no point to draw; give at least one label -> ThetaHistograms.")
    for label, point in points.items():
        _check_phases(label, point)
    phases = list(dict.fromkeys(phase for point in points.values() for phase in point.target))
    figure = _new_figure(_WIDTH, 1.0 + 1.15 * len(points))
    grid: Any = figure.subplots(len(points), len(phases), sharex=True, squeeze=False)
    for row, (label, point) in zip(grid, points.items(), strict=True):
        for axes, phase in zip(row, phases, strict=True):
            means = _draw_two(
                axes,
                point.edges_deg,
                own=point.target.get(phase),
                other=point.nearest_wrong.get(phase),
                normalise=True,
            )
            for x, side, mean, color in ((0.0, "left", *means[0]), (1.0, "right", *means[1])):
                if mean is not None:
                    axes.text(
                        x,
                        1.02,
                        f"mean {mean:.0f}°",
                        color=color,
                        ha=side,
                        va="bottom",
                        fontsize=7.5,
                        transform=axes.transAxes,
                    )
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_ylim(0.0, 1.08)
        row[0].set_ylabel(
            _wrapped(label, 16), rotation=0, ha="right", va="center", labelpad=8, fontsize=8.5
        )
    for axes, phase in zip(grid[0], phases, strict=True):
        axes.set_title(phase, fontweight="bold", pad=16)
    for axes in grid[-1]:
        axes.set_xlabel("angle (degrees)")
    grid[0, 0].set_xlim(*_angle_range(points.values()))
    grid[0, 0].set_xticks(np.arange(0, grid[0, 0].get_xlim()[1] + 1, 30))
    _legend_above(figure, own=r"$\theta_y$, own class centre", other="nearest wrong class centre")
    return figure


@_styled
def pair_angle_histograms(points: Mapping[str, PairHistograms], *, columns: int = 3) -> Figure:
    """Histograms of genuine and impostor pair angles, a panel per run on common axes.

    Args:
      points: label -> its histograms; the label is the panel's title.
      columns: panels in a row, at least 1.

    Raises:
      ValueError: no point, ``columns`` below 1, or counts that do not fit the edges.

    Source: Deng et al., ArcFace (CVPR 2019), Figs. 6 and 7.

    >>> pair_angle_histograms({"arcface": PairHistograms(
    ...     edges_deg=[0.0, 90.0, 180.0], genuine=[3, 1], impostor=[1, 3])})
    <Figure size 800x350 with 1 Axes>
    """
    if not points:
        raise ValueError("no point to draw; give at least one label -> PairHistograms.")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}.")
    columns = min(columns, len(points))
    count = math.ceil(len(points) / columns)
    height = 3.5 if count == 1 and columns == 1 else 0.8 + 1.9 * count
    figure = _new_figure(_WIDTH, height)
    grid: Any = figure.subplots(count, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (label, point) in zip(grid.flat, points.items(), strict=False):
        _check_counts(label, point.edges_deg, point.genuine, point.impostor)
        _draw_two(axes, point.edges_deg, own=point.genuine, other=point.impostor)
        axes.set_title(_wrapped(label, 111 // columns), loc="left", fontsize=8.5)
    for axes in grid.flat[len(points) :]:
        axes.remove()
    for column in range(columns):
        lowest = grid[(len(points) - 1 - column) // columns, column]
        lowest.set_xlabel("pair angle (degrees)")
        lowest.tick_params(labelbottom=True)
    figure.supylabel("pairs (% per degree)", fontsize=9)
    grid[0, 0].set_xlim(*_angle_range(points.values()))
    grid[0, 0].set_ylim(bottom=0.0)
    grid[0, 0].set_xticks(np.arange(0, grid[0, 0].get_xlim()[1] + 1, 30))
    _legend_above(figure, own="genuine pairs", other="impostor pairs")
    return figure


@_styled
def subcenter_histograms(
    histograms: SubcenterHistograms, *, threshold_deg: float = 75.0, title: str = ""
) -> Figure:
    """Angles to the dominant centre of images on it (above) and on other centres (below).

    Both panels show shares of all images, each scaled to its own peak; what lies to the right of
    the dashed line is dropped by `arcface_jax.analysis.drop_rule`.

    Raises:
      ValueError: counts that do not fit the edges.

    Source: Deng et al., Sub-center ArcFace (ECCV 2020), section 3.3.

    >>> subcenter_histograms(SubcenterHistograms(
    ...     edges_deg=[0.0, 75.0, 180.0], on_dominant=[6, 1], on_other=[1, 2]))
    <Figure size 800x450 with 2 Axes>
    """
    counts = (histograms.on_dominant, histograms.on_other)
    _check_counts("the images", histograms.edges_deg, *counts)
    total = float(np.sum(np.asarray(counts, np.float64))) or 1.0
    figure = _new_figure(_WIDTH, 4.5)
    rows: Any = figure.subplots(2, 1, sharex=True)
    names = ("the dominant centre", "another centre of the class")
    # No bar lies on both sides of the threshold.
    width = next((degrees for degrees in (2.0, 3.0) if threshold_deg % degrees == 0), 1.0)
    for axes, values, name, color in zip(rows, counts, names, (OWN, OTHER), strict=True):
        share, edges = _share(values, histograms.edges_deg, width_deg=width)
        images = float(np.sum(np.asarray(values, np.float64)))
        share *= images / total
        axes.stairs(share, edges, fill=True, color=color, alpha=0.45)
        axes.stairs(share, edges, color=color, linewidth=1.4)
        axes.axvspan(threshold_deg, 180.0, color=RULE, alpha=0.5, zorder=0.5, linewidth=0)
        axes.axvline(threshold_deg, color=INK, linewidth=1.2, linestyle=_DASHES[1])
        axes.set_ylim(bottom=0.0)
        axes.set_title(
            f"nearest to {name}: {images:,.0f} images, {100 * images / total:.3g} %", loc="left"
        )
    figure.supylabel("all images (% per degree)", fontsize=9)
    rows[0].set_xlim(*_angle_range([histograms]))
    rows[1].set_xticks(np.arange(0, rows[0].get_xlim()[1] + 1, 15))
    rows[1].set_xlabel("angle to the dominant centre (degrees)")
    if title:
        figure.suptitle(title, fontweight="bold", fontsize=10)
    dropped = Patch(color=RULE, alpha=0.5, label=f"dropped: {threshold_deg:g}° and more")
    figure.legend(handles=[dropped], loc="outside upper right")
    return figure


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG file's bytes; the same figure gives the same bytes.

    >>> png(loss_curves({"arcface": ([1, 2], [4.0, 2.0])}))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text.

    >>> svg(loss_curves({"arcface": ([1, 2], [4.0, 2.0])})).startswith("<?xml")
    True
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(*, height: float) -> tuple[Figure, Axes]:
    figure = _new_figure(_WIDTH, height)
    return figure, figure.subplots()


def _tint(color: str, amount: float) -> tuple[float, float, float]:
    red, green, blue = (c + (1.0 - c) * amount for c in colors.to_rgb(color))
    return red, green, blue


def _line_styles(labels: list[str], margins: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Colour by margin; curves that share a colour differ in dash, and in tint by their rank."""
    base = {label: margin_color(margins.get(label, label)) for label in labels}
    total, seen, styles = Counter(base.values()), Counter(), {}
    for label, color in base.items():
        rank = seen[color]
        seen[color] += 1
        tint = 0.45 * rank / max(total[color] - 1, 1) if total[color] > 1 else 0.0
        styles[label] = {
            "color": _tint(color, tint),
            "linestyle": _DASHES[rank % len(_DASHES)],
        }
    return styles


def _draw_curves(
    axes: Axes,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    margins: Mapping[str, str] | None,
    smooth: bool = False,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not curves:
        raise ValueError("no curve to draw; give at least one label -> (x, y).")
    styles = _line_styles(list(curves), margins or {})
    drawn = {}
    for label, (x, y) in curves.items():
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(
                f"{label}: x and y must be one-dimensional and of one length, got shapes "
                f"{x.shape} and {y.shape}."
            )
        finite = np.isfinite(y)
        if smooth:
            color = styles[label]["color"]
            axes.plot(x[finite], y[finite], color=color, linewidth=0.7, alpha=0.25)
            axes.plot(
                x[finite], _running_mean(y[finite]), label=_wrapped(label, 26), **styles[label]
            )
            if not finite.all() and finite.any():
                axes.plot(x[finite][-1:], y[finite][-1:], "x", color=color, markersize=7)
        else:
            axes.plot(x, y, label=_wrapped(label, 26), **styles[label])
        drawn[label] = (x, y)
    axes.margins(x=0.01)
    return drawn


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over about a fortieth of the curve, over fewer values near its ends."""
    half = values.size // 80
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(values.size)
    # The same number on both sides, or the ends of a steep curve would be pulled inwards.
    reach = np.minimum(half, np.minimum(at, values.size - 1 - at))
    return (total[at + reach + 1] - total[at - reach]) / (2 * reach + 1)


def _check_counts(label: str, edges_deg: ArrayLike, *counts: ArrayLike) -> None:
    edges = np.asarray(edges_deg, np.float64)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"{label}: edges_deg must be at least two ascending angles in degrees.")
    for values in counts:
        if np.shape(values) != (edges.size - 1,):
            raise ValueError(
                f"{label}: {edges.size} edges need counts of shape ({edges.size - 1},), got "
                f"{np.shape(values)}."
            )


def _check_phases(label: str, histograms: ThetaHistograms) -> None:
    if not histograms.target:
        raise ValueError(f"{label}: no phase to draw; target needs at least one phase -> counts.")
    counts = (*histograms.target.values(), *histograms.nearest_wrong.values())
    _check_counts(label, histograms.edges_deg, *counts)


def _share(
    counts: ArrayLike, edges_deg: ArrayLike, *, width_deg: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Per cent of the samples per degree, in bins of about ``width_deg``, and their edges."""
    counts, edges = np.asarray(counts, np.float64), np.asarray(edges_deg, np.float64)
    merge = max(1, round(width_deg * counts.size / float(edges[-1] - edges[0])))
    if counts.size % merge == 0:
        counts, edges = counts.reshape(-1, merge).sum(axis=1), edges[::merge]
    total = counts.sum()
    return 100.0 * counts / (total if total > 0 else 1.0) / np.diff(edges), edges


def _mean_angle(counts: ArrayLike, edges_deg: ArrayLike) -> float | None:
    counts, edges = np.asarray(counts, np.float64), np.asarray(edges_deg, np.float64)
    total = counts.sum()
    return float(counts @ (edges[1:] + edges[:-1]) / 2 / total) if total > 0 else None


def _draw_two(
    axes: Axes,
    edges_deg: ArrayLike,
    *,
    own: ArrayLike | None,
    other: ArrayLike | None,
    normalise: bool = False,
) -> list[tuple[float | None, str]]:
    """Draws one panel; the mean angle and colour of both histograms."""
    means: list[tuple[float | None, str]] = []
    for counts, color in ((own, OWN), (other, OTHER)):
        if counts is None:
            means.append((None, color))
            continue
        share, edges = _share(counts, edges_deg)
        if normalise:
            share = share / max(float(share.max()), 1e-12)
        axes.stairs(share, edges, fill=True, color=color, alpha=0.4)
        axes.stairs(share, edges, color=color, linewidth=1.1)
        means.append((_mean_angle(counts, edges_deg), color))
    return means


def _angle_range(
    histograms: Iterable[ThetaHistograms | PairHistograms | SubcenterHistograms],
) -> tuple[float, float]:
    """From 0 to the first multiple of 30 degrees above 99.95 % of every histogram, 120 at least."""
    last = 120.0
    for point in histograms:
        if isinstance(point, ThetaHistograms):
            counts = [*point.target.values(), *point.nearest_wrong.values()]
        elif isinstance(point, SubcenterHistograms):
            counts = [point.on_dominant, point.on_other]
        else:
            counts = [point.genuine, point.impostor]
        edges = np.asarray(point.edges_deg, np.float64)
        for values in counts:
            total = np.cumsum(np.asarray(values, np.float64))
            if total[-1] > 0:
                last = max(last, float(edges[np.searchsorted(total, 0.9995 * total[-1]) + 1]))
    return 0.0, 30.0 * math.ceil(last / 30.0)


def _wrapped(label: str, width: int) -> str:
    return "\n".join(textwrap.wrap(label, width, break_long_words=False))


def _legend_beside(figure: Figure) -> None:
    figure.legend(loc="outside right upper", handlelength=2.6)


def _legend_above(figure: Figure, *, own: str, other: str) -> None:
    figure.legend(
        handles=[
            Patch(color=OWN, label=own, alpha=0.6),
            Patch(color=OTHER, label=other, alpha=0.6),
        ],
        loc="outside upper right",
        ncols=2,
    )
