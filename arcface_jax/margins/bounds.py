"""Hyper-parameters that lie outside their bounds are refused with the bound."""

import math
from typing import Any, TypeGuard

import numpy as np

from arcface_jax.known_names import unknown_name

RADIANS = "angles are radians (28.6 degrees is 0.5)."


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is known now; tracers and arrays are not.

    >>> is_number(0.5), is_number(True), is_number(np.zeros(2))
    (True, False, False)
    """
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    includes_low: bool = True,
    includes_high: bool = False,
    hint: str = "",
) -> None:
    """Refuses a number outside its bounds; tracers and arrays pass.

    >>> check_number("m", -1.0, 0.0, 1.0, includes_high=True)
    Traceback (most recent call last):
    ValueError: m=-1.0 lies outside [0, 1].
    """
    if not is_number(value):
        return
    above = value >= low if includes_low else value > low
    below = value <= high if includes_high else value < high
    if not (above and below):
        ends = f"{'[' if includes_low else '('}{low:g}, {high:g}{']' if includes_high else ')'}"
        raise ValueError(f"{name}={value} lies outside {ends}{'; ' + hint if hint else '.'}")


def check_angle(name: str, value: Any) -> None:
    """Refuses an angle outside [0, pi).

    >>> check_angle("m", 28.6)
    Traceback (most recent call last):
    ValueError: m=28.6 lies outside [0, 3.14159); angles are radians (28.6 degrees is 0.5).
    """
    check_number(name, value, 0.0, math.pi, hint=RADIANS)


def check_choice(name: str, value: str | None, known: tuple[str | None, ...]) -> None:
    """Refuses a word that is not one of ``known``.

    >>> check_choice("tail", "hrad", ("hard", "easy"))
    Traceback (most recent call last):
    ValueError: unknown tail 'hrad'; known: hard, easy. Did you mean hard?
    """
    if value not in known:
        raise unknown_name(name, str(value), map(str, known))
