"""One row per margin: every property test walks this table."""

import dataclasses
from collections.abc import Callable

import numpy as np

import arcface_jax as af


def psi_reference(cosine, m):
    """SphereFace's psi in float64, from its definition by pieces."""
    theta = np.arccos(np.clip(cosine, -1.0, 1.0))
    k = np.minimum(np.floor(m * theta / np.pi), np.ceil(m) - 1)
    return (-1.0) ** k * np.cos(m * theta) - 2.0 * k


def combined_reference(cosine, m1, m2, m3):
    """The combined margin with the hard tail in float64, from arccos and cos."""
    theta = np.arccos(np.clip(cosine, -1.0, 1.0))
    turn = (np.pi - m2) / m1
    rest = np.pi - turn
    tail = cosine - rest * np.sin(rest)
    return np.where((theta >= turn) & (turn < np.pi), tail, np.cos(m1 * theta + m2)) - m3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A margin, its target cosine in NumPy float64, and what it promises."""

    margin: af.Margin
    reference: Callable
    monotone: bool = True
    scale: float | None = 16.0


ROWS = {
    "norm_softmax": Row(margin=af.norm_softmax(), reference=lambda c: c),
    "sphereface": Row(
        margin=af.sphereface(1.35), reference=lambda c: combined_reference(c, 1.35, 0.0, 0.0)
    ),
    "cosface": Row(
        margin=af.cosface(0.35), reference=lambda c: combined_reference(c, 1.0, 0.0, 0.35)
    ),
    "arcface": Row(
        margin=af.arcface(0.5), reference=lambda c: combined_reference(c, 1.0, 0.5, 0.0)
    ),
    "combined_1": Row(
        margin=af.combined(1.0, 0.3, 0.2), reference=lambda c: combined_reference(c, 1.0, 0.3, 0.2)
    ),
    "combined_2": Row(
        margin=af.combined(0.9, 0.4, 0.15),
        reference=lambda c: combined_reference(c, 0.9, 0.4, 0.15),
    ),
    "sphereface_psi": Row(
        margin=af.sphereface_psi(4, feature_norm="hard"),
        reference=lambda c: (5.0 * c + psi_reference(c, 4)) / 6.0,
    ),
    "sphereface_psi_3": Row(
        margin=af.sphereface_psi(3, feature_norm="hard", annealed=False),
        reference=lambda c: psi_reference(c, 3),
    ),
    "sphereface_psi_real": Row(
        margin=af.sphereface_psi(1.7, feature_norm="hard", annealed=False),
        reference=lambda c: psi_reference(c, 1.7),
    ),
    "sphereface_psi_free": Row(
        margin=af.sphereface_psi(4),
        reference=lambda c: (5.0 * c + psi_reference(c, 4)) / 6.0,
        scale=None,
    ),
}
