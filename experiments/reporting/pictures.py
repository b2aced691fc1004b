"""The figures of a report, with their captions."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from arcface_jax.analysis import figures
from experiments.reporting.blocks import Picture
from experiments.reporting.grouping import Setting
from experiments.reporting.sweep_directory import Point

MAX_PANELS = 12
PHASES = ("start", "middle", "end")
FIGURES = ("theta_histograms", "pair_angles", "target_logits", "loss_curves", "target_angles")


def pictures(settings: Sequence[Setting]) -> dict[str, Picture | str]:
    """File stem -> picture, or the sentence that says why there is none."""
    return {
        "theta_histograms": _theta_picture(settings),
        "pair_angles": _pair_picture(settings),
        "target_logits": _target_picture(settings),
        "loss_curves": _curve_picture(
            settings,
            stem="loss_curves",
            column="loss",
            draw=figures.loss_curves,
            caption=(
                "Training loss; its level depends on margin and scale, so compare shapes, not "
                "heights. A cross marks where a loss stopped being finite."
            ),
        ),
        "target_angles": _curve_picture(
            settings,
            stem="target_angles",
            column="theta_target_deg",
            draw=figures.target_angle_curves,
            caption=(
                "Mean angle of the training batch to its own class centres: the same unit for all."
            ),
        ),
    }


def _theta_picture(settings: Sequence[Setting]) -> Picture | str:
    chosen = _representatives(settings, _theta_histograms)
    if not chosen:
        return "No point has written its angle histograms yet."
    return Picture(
        stem="theta_histograms",
        caption=(
            "Angle of training embeddings to their own class centre, θ_y, and to the nearest "
            "wrong one, at the start, the middle and the end of training. Each panel is scaled "
            f"to its own peak.{_panel_note(chosen)}"
        ),
        figure=figures.theta_histogram_grid(
            {setting.label: histograms for setting, _, histograms in chosen[:MAX_PANELS]}
        ),
    )


def _pair_picture(settings: Sequence[Setting]) -> Picture | str:
    chosen = _representatives(settings, _pair_histograms)
    if not chosen:
        return "No point has written held-out pair angles yet."
    return Picture(
        stem="pair_angles",
        caption=(
            "Angle between two embeddings of identities never seen in training. The less the "
            f"two histograms overlap, the better the verification.{_panel_note(chosen)}"
        ),
        figure=figures.pair_angle_histograms(
            {_pair_title(s, p): histograms for s, p, histograms in chosen[:MAX_PANELS]}
        ),
    )


def _target_picture(settings: Sequence[Setting]) -> Picture | str:
    curves, margins = _target_curves(settings)
    if not curves:
        return "No finished point has a target-logit curve yet."
    return Picture(
        stem="target_logits",
        caption=(
            "What each margin makes of the target cosine, without the scale s; one curve per "
            "distinct margin."
        ),
        figure=figures.target_logit_curves(curves, margins=margins),
    )


def _curve_picture(
    settings: Sequence[Setting],
    *,
    stem: str,
    column: str,
    draw: Callable[..., Figure],
    caption: str,
) -> Picture | str:
    chosen = _representatives(settings, lambda point: _curve(point, column))
    if not chosen:
        return f"No point has logged {column} yet."
    return Picture(
        stem=stem,
        caption=caption + _panel_note(chosen),
        figure=draw(
            {setting.label: curve for setting, _, curve in chosen[:MAX_PANELS]},
            margins={setting.label: setting.margin for setting, _, _ in chosen},
        ),
    )


def _representatives[T](
    settings: Sequence[Setting], read: Callable[[Point], T | None]
) -> list[tuple[Setting, Point, T]]:
    """One point a setting: the first finished one that has the data, else the first that has."""
    chosen = []
    for setting in settings:
        for point in (*setting.finished, *setting.points):
            data = read(point)
            if data is not None:
                chosen.append((setting, point, data))
                break
    return chosen


def _panel_note(chosen: Sequence[tuple[Setting, Point, object]]) -> str:
    seeds = sorted({str(point.seed) for _, point, _ in chosen[:MAX_PANELS]})
    repeated = any(len(setting.points) > 1 for setting, _, _ in chosen)
    note = f" One point a setting (seed {', '.join(seeds)})." if repeated else ""
    if len(chosen) > MAX_PANELS:
        note += f" The first {MAX_PANELS} of {len(chosen)} settings in the sweep's order."
    return note


def _curve(point: Point, column: str) -> tuple[np.ndarray, np.ndarray] | None:
    steps, values = point.history.get("step"), point.history.get(column)
    if steps is None or values is None or not np.isfinite(values).any():
        return None
    return steps, values


def _theta_histograms(point: Point) -> figures.ThetaHistograms | None:
    arrays = point.histograms
    phases = [phase for phase in PHASES if f"theta_y_{phase}" in arrays]
    if not phases:
        return None
    wrong = {p: arrays[k] for p in phases if (k := f"nearest_wrong_{p}") in arrays}
    return figures.ThetaHistograms(
        edges_deg=arrays["edges"],
        target={phase: arrays[f"theta_y_{phase}"] for phase in phases},
        nearest_wrong=wrong,
    )


def _pair_histograms(point: Point) -> figures.PairHistograms | None:
    arrays = point.histograms
    if "pairs_genuine" not in arrays or "pairs_impostor" not in arrays:
        return None
    if not (arrays["pairs_genuine"].any() and arrays["pairs_impostor"].any()):
        return None
    return figures.PairHistograms(
        edges_deg=arrays["edges"],
        genuine=arrays["pairs_genuine"],
        impostor=arrays["pairs_impostor"],
    )


def _pair_title(setting: Setting, point: Point) -> str:
    rate = point.metrics.get("eer", math.nan)
    return setting.label + (f" · EER {100 * rate:.2f} %" if math.isfinite(rate) else "")


def _target_curves(
    settings: Sequence[Setting],
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, str]]:
    """The distinct target-logit curves: settings that differ in s or data share one."""
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    margins: dict[str, str] = {}
    seen: set[bytes] = set()
    for setting in settings:
        curve = next((p.target for p in setting.points if p.target is not None), None)
        if curve is None or len(curves) == MAX_PANELS:
            continue
        key = setting.margin.encode() + curve[1].tobytes()
        if key not in seen:
            seen.add(key)
            free = setting.margin_label not in curves
            label = setting.margin_label if free else setting.label
            curves[label], margins[label] = curve, setting.margin
    return curves, margins
