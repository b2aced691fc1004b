"""One row per margin: every property test walks this table."""

import dataclasses
from collections.abc import Callable

import numpy as np

import arcface_jax as af
from arcface_jax.margins import MarginRule


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
    """A margin, its target cosine in NumPy float64 where that is elementwise, and what it promises.

    Attributes:
      margin: with every state, key and parameter that it asks for, see arcface_jax.testing.
      reference: the target cosine.
      scale: s of the reference; None where the embedding's length takes its place.
      monotone: whether a larger angle never gets a larger target.
      skips: checks that the definition rules out.
      steepness: how fast the target falls with the cosine at most, where that is much above 1: the
        cosine's own rounding in float32 is multiplied by it.
    """

    margin: MarginRule
    reference: Callable | None = None
    scale: float | None = 16.0
    monotone: bool = True
    skips: tuple[str, ...] = ()
    steepness: float = 1.0


# A quantity is held constant in the gradient, so that finite differences see more than it.
HELD = ("finite_differences",)

CLOSED_FORMS = {
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
    "combined": Row(
        margin=af.combined(1.0, 0.3, 0.2), reference=lambda c: combined_reference(c, 1.0, 0.3, 0.2)
    ),
    "combined_2": Row(
        margin=af.combined(0.9, 0.4, 0.15),
        reference=lambda c: combined_reference(c, 0.9, 0.4, 0.15),
    ),
    "subcenter_arcface": Row(
        margin=af.subcenter_arcface(0.4), reference=lambda c: combined_reference(c, 1.0, 0.4, 0.0)
    ),
    "sphereface_psi": Row(
        margin=af.sphereface_psi(4, lambda_0=5.0),
        reference=lambda c: (5.0 * c + psi_reference(c, 4)) / 6.0,
        scale=None,
    ),
    "sphereface_psi_hard": Row(
        margin=af.sphereface_psi(4, feature_norm="hard", lambda_0=5.0),
        reference=lambda c: (5.0 * c + psi_reference(c, 4)) / 6.0,
    ),
    "sphereface_psi_3": Row(
        margin=af.sphereface_psi(3, feature_norm="hard", annealed=False),
        reference=lambda c: psi_reference(c, 3),
        steepness=9.0,
    ),
    "sphereface_psi_real": Row(
        margin=af.sphereface_psi(1.7, feature_norm="hard", annealed=False),
        reference=lambda c: psi_reference(c, 1.7),
    ),
}

ROWS = CLOSED_FORMS | {
    "softmax": Row(margin=af.softmax()),
    "l_softmax": Row(margin=af.l_softmax(3)),
    "sphereface_r": Row(margin=af.sphereface_r()),
    "sphereface_r_v1_none": Row(margin=af.sphereface_r(variant="v1", feature_norm="none")),
    "sphereface_r_v2_soft": Row(
        margin=af.sphereface_r(variant="v2", feature_norm="soft", steps=(1, 5))
    ),
    "sphereface2": Row(margin=af.sphereface2()),
    "sphereface2_A": Row(margin=af.sphereface2(kind="A")),
    "sphereface2_M": Row(margin=af.sphereface2(kind="M")),
    "curricularface": Row(margin=af.curricularface()),
    "curricularface_late": Row(margin=af.curricularface(alpha=0.9)),
    "mv_softmax_arc": Row(margin=af.mv_softmax_arc()),
    # Rows on the wrong side get no margin at all: the published rule jumps.
    "mv_softmax_am": Row(margin=af.mv_softmax_am(), monotone=False),
    "mv_softmax_am_always": Row(margin=af.mv_softmax_am(conditional=False)),
    "magface": Row(margin=af.magface()),
    "magface_easy": Row(margin=af.magface(tail="easy"), monotone=False),
    "magface_cos": Row(margin=af.magface(kind="cos", gradient="straight_through")),
    "magface_straight": Row(margin=af.magface(gradient="straight_through"), skips=HELD),
    "adaface": Row(margin=af.adaface(alpha=0.5)),
    "adaface_cvlface": Row(
        margin=af.adaface(limited=False, gradient="straight_through"), skips=HELD
    ),
    "elasticface": Row(margin=af.elasticface()),
    "elasticface_cos_rank": Row(margin=af.elasticface(kind="cos", plus="rank")),
    "elasticface_official": Row(margin=af.elasticface(plus="official")),
    "vpl": Row(margin=af.vpl()),
    # Its queue is in use, so the centres alone do not say where a class is.
    "vpl_open": Row(
        margin=af.vpl(weight=0.3, start=1, margin=af.cosface(0.2)),
        skips=("lengths", "permutations"),
    ),
    "circle_class": Row(margin=af.circle_class(), skips=HELD),
    "adacos": Row(margin=af.adacos()),
    "adacos_fixed": Row(margin=af.adacos(dynamic=False)),
    "airface": Row(margin=af.airface()),
    "airface_target": Row(margin=af.airface(all_classes=False)),
    "p2sgrad": Row(margin=af.p2sgrad()),
    "p2sgrad_paper": Row(margin=af.p2sgrad(normalization="paper")),
    "uniface": Row(margin=af.uniface()),
    "uniface_clamped": Row(margin=af.uniface(clamp_arguments=True)),
    "uniface_per_class": Row(margin=af.uniface(per_class=True)),
    "interclass_filter": Row(margin=af.interclass_filter()),
    "interclass_filter_adaptive": Row(
        margin=af.interclass_filter(af.curricularface(), threshold=0.3)
    ),
    "arcface_straight": Row(margin=af.arcface(gradient="straight_through"), skips=HELD),
}
