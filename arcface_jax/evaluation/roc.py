"""Verification rates of a list of scored pairs: TAR at a FAR, EER and the area under the ROC.

A ROC runs level between two genuine scores, so where the impostors stand relative to each
genuine score fixes all of it: :class:`RocCorners`. Scores of both kinds that are equal move
diagonally, in one step.
"""

import difflib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

READINGS = ("le", "nearest")


class TarAtFar(NamedTuple):
    """One operating point: a pair is accepted when its score is >= ``threshold``."""

    far_wanted: float
    tar: float
    """Share of the genuine pairs accepted."""
    far: float
    """Share of the impostor pairs accepted."""
    threshold: float
    reading: str


@dataclass(frozen=True, kw_only=True)
class RocCorners:
    """The ROC at each distinct genuine score, highest first, in numbers (or weights) of pairs."""

    scores: NDArray[Any]
    accepted: NDArray[Any]
    """Genuine pairs scoring at least this; the last entry is all of them."""
    above: NDArray[Any]
    """Impostor pairs scoring more."""
    not_below: NDArray[Any]
    """Impostor pairs scoring at least this."""
    impostors: float

    @property
    def genuine(self) -> float:
        """Number (or weight) of all genuine pairs."""
        return float(self.accepted[-1])

    def tar(self, far: float) -> float:
        """Largest share of genuine pairs accepted with a FAR of at most ``far``."""
        # Weights are sums of floats, which may miss far * impostors by their rounding.
        allowed = far * self.impostors * (1.0 + 1e-12)
        inside = np.searchsorted(self.not_below, allowed, side="right")
        return float(self.accepted[inside - 1]) / self.genuine if inside else 0.0

    def equal_error_rate(self) -> float:
        """FAR where the piecewise-linear ROC meets FNR = FAR."""
        tar = self.accepted / self.genuine
        tar_before = np.concatenate([[0.0], tar[:-1]])
        far, far_before = self.not_below / self.impostors, self.above / self.impostors
        # FAR - FNR rises along the curve from -1 to 1; it is 0 at the rate sought.
        k = int(np.argmax(far + tar >= 1.0))
        before, after = far_before[k] + tar_before[k] - 1.0, far[k] + tar[k] - 1.0
        if before >= 0.0:
            return float(1.0 - tar_before[k])
        return float(far_before[k] - before / (after - before) * (far[k] - far_before[k]))

    def area(self) -> float:
        """P(genuine > impostor) + P(equal) / 2."""
        weights = np.diff(self.accepted, prepend=0)
        beaten = self.impostors - 0.5 * (self.above + self.not_below)
        return float((weights * beaten).sum() / (self.genuine * self.impostors))


def distinct_from_top(descending: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the first of each run of equal scores.

    >>> distinct_from_top(np.array([0.5, 0.5, 0.25]))
    array([0, 2])
    """
    return np.flatnonzero(np.concatenate([[True], descending[1:] != descending[:-1]]))


def corners(
    genuine: NDArray[Any], above: NDArray[Any], not_below: NDArray[Any], *, impostors: int
) -> RocCorners:
    """The ROC from genuine scores, highest first, and the impostors above and not below each."""
    first = distinct_from_top(genuine)
    return RocCorners(
        scores=genuine[first].astype(np.float64),
        accepted=np.append(first[1:], genuine.size),
        above=above[first],
        not_below=not_below[first],
        impostors=impostors,
    )


def checked_fars(fars: ArrayLike, *, reading: str = "le") -> list[float]:
    """``fars`` as a list of numbers in [0, 1).

    Raises:
      ValueError: a FAR outside [0, 1), or an unknown reading.
    """
    if reading not in READINGS:
        close = difflib.get_close_matches(str(reading), READINGS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown reading {reading!r}; did you mean {close!r}? known: {', '.join(READINGS)}."
        )
    wanted = [float(far) for far in np.atleast_1d(np.asarray(fars, np.float64))]
    for far in wanted:
        if not 0.0 <= far < 1.0:
            raise ValueError(f"a FAR is a share in [0, 1), got {far:g}; 0.1 % is 1e-3.")
    return wanted


def false_accepts_allowed(far: float, impostors: int) -> int:
    """Largest k with k / impostors <= far, as floating-point numbers compare.

    >>> false_accepts_allowed(0.29, 100)
    29
    """
    # far * impostors rounds: 0.29 * 100 is 28.999999999999996.
    k = math.floor(far * impostors)
    return k + 1 if (k + 1) / impostors <= far else k - (k / impostors > far)


def operating_point(
    roc: RocCorners, top: NDArray[Any], far: float, *, reading: str, more_at_last: int = 0
) -> TarAtFar:
    """TAR at ``far`` from the ROC and its highest impostor scores.

    Args:
      roc: counts of all pairs.
      top: the largest impostor scores, highest first, more than FAR allows.
      far: wanted false accept rate in [0, 1).
      reading: "le" or "nearest".
      more_at_last: impostors equal to ``top[-1]`` that are not in ``top``.
    """
    # The highest score that must be turned down.
    bar = top[false_accepts_allowed(far, int(roc.impostors))]
    accepted_above = int(np.searchsorted(-top, -bar, side="left"))
    accepted_with = int(np.searchsorted(-top, -bar, side="right"))
    if bar == top[-1]:
        accepted_with += more_at_last
    low, high = accepted_above / roc.impostors, accepted_with / roc.impostors
    if reading == "nearest" and abs(high - far) <= abs(low - far):
        kept = int(np.searchsorted(roc.not_below, accepted_with, side="right"))
        threshold = min(bar, roc.scores[kept - 1]) if kept else bar
        reached = high
    else:
        kept = int(np.searchsorted(-roc.scores, -bar, side="left"))
        accepted_scores = [roc.scores[kept - 1]] if kept else []
        accepted_scores += [top[accepted_above - 1]] if accepted_above else []
        threshold = min(accepted_scores, default=np.nextafter(np.float64(bar), np.inf))
        reached = low
    tar = float(roc.accepted[kept - 1]) / roc.genuine if kept else 0.0
    return TarAtFar(far, tar, float(reached), float(threshold), reading)


def genuine_and_impostor(
    similarities: ArrayLike, same: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the genuine and of the impostor pairs, each from the highest down.

    Raises:
      ValueError: shapes differ, a score is NaN (the first is named), or one kind is missing.
    """
    scores, same = np.asarray(similarities, np.float64), np.asarray(same)
    if scores.ndim != 1 or same.shape != scores.shape:
        raise ValueError(
            f"expected similarities [P] and same [P], got {scores.shape} and {same.shape}."
        )
    if same.dtype != np.bool_ and not np.isin(same, (0, 1)).all():
        raise ValueError("same holds True (1) or False (0) for each pair; got other numbers.")
    same = same.astype(bool)
    if np.isnan(scores).any():
        raise ValueError(
            f"similarities[{int(np.argmax(np.isnan(scores)))}] is NaN; "
            "mend or drop the pair, a ROC would hide it."
        )
    if same.all() or not same.any():
        raise ValueError(
            f"need pairs of both kinds, got {int(same.sum())} genuine and "
            f"{int((~same).sum())} impostor pairs; add the missing kind."
        )
    return -np.sort(-scores[same]), -np.sort(-scores[~same])


def roc_corners(genuine: NDArray[np.float64], impostor: NDArray[np.float64]) -> RocCorners:
    """The ROC of two lists of scores, each from the highest down.

    >>> roc_corners(np.array([0.75, 0.25]), np.array([0.5])).above
    array([0, 1])
    """
    above = np.searchsorted(-impostor, -genuine, side="left")
    not_below = np.searchsorted(-impostor, -genuine, side="right")
    return corners(genuine, above, not_below, impostors=impostor.size)


def tar_at_far(
    similarities: ArrayLike, same: ArrayLike, fars: ArrayLike, *, reading: str = "le"
) -> list[TarAtFar]:
    r"""True accept rate at each wanted false accept rate, from exact thresholds.

    .. math:: FAR(\tau) = \#\{I \ge \tau\} / n_-, \quad TAR(\tau) = \#\{G \ge \tau\} / n_+

    Args:
      similarities: float[P], score of each pair; larger means more alike.
      same: bool[P], True for genuine pairs.
      fars: wanted rates in [0, 1), a sequence or one number.
      reading: "le", the largest TAR whose FAR does not exceed the wanted one; or "nearest", the
        TAR where the FAR comes nearest, which may exceed it (the scripts for IJB do so).

    Returns:
      One :class:`TarAtFar` for each rate. A rate below 1 / (impostor pairs) gives the TAR above
      the largest impostor and far = 0.

    Raises:
      ValueError: shapes, NaN, only one kind of pair, a rate outside [0, 1), unknown reading.

    >>> tar_at_far([0.75, 0.25, 0.5, 0.125], [True, True, False, False], [0.5])
    [TarAtFar(far_wanted=0.5, tar=1.0, far=0.5, threshold=0.25, reading='le')]
    """
    wanted = checked_fars(fars, reading=reading)
    genuine, impostor = genuine_and_impostor(similarities, same)
    roc = roc_corners(genuine, impostor)
    return [operating_point(roc, impostor, far, reading=reading) for far in wanted]


def equal_error_rate(similarities: ArrayLike, same: ArrayLike) -> float:
    """Rate at which the interpolated ROC has equal false accepts and false rejects.

    Args:
      similarities: float[P], score of each pair; larger means more alike.
      same: bool[P], True for genuine pairs.

    Raises:
      ValueError: shapes, NaN, or only one kind of pair.

    >>> equal_error_rate([0.75, 0.25, 0.5, 0.125], [True, True, False, False])
    0.5
    """
    return roc_corners(*genuine_and_impostor(similarities, same)).equal_error_rate()


def area_under_curve(similarities: ArrayLike, same: ArrayLike) -> float:
    r"""Area under the ROC, :math:`P(G > I) + P(G = I) / 2`.

    Args:
      similarities: float[P], score of each pair; larger means more alike.
      same: bool[P], True for genuine pairs.

    Raises:
      ValueError: shapes, NaN, or only one kind of pair.

    >>> area_under_curve([0.75, 0.25, 0.5, 0.125], [True, True, False, False])
    0.75
    """
    return roc_corners(*genuine_and_impostor(similarities, same)).area()
