"""sRGB colours: mixed, drawn at random, and as the linear values that light adds up in."""

import functools
from collections.abc import Sequence

import numpy as np

Colour = tuple[float, float, float]


@functools.lru_cache(maxsize=4096)
def linear(colour: Colour) -> np.ndarray:
    """Linear values of an sRGB colour at gamma 2, float32[3, 1, 1]."""
    values = np.array([channel * channel for channel in colour], np.float32)[:, None, None]
    # The cache hands the same array to every caller.
    values.flags.writeable = False
    return values


def scaled(colour: Colour, factors: Colour) -> Colour:
    """Each channel times its factor."""
    return (colour[0] * factors[0], colour[1] * factors[1], colour[2] * factors[2])


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """From ``first`` (share 0) to ``second`` (share 1)."""
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def blend(colours: Sequence[Colour], share: float) -> Colour:
    """From the first colour (share 0) through all of them to the last (share 1)."""
    place = share * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    return mix(colours[index], colours[index + 1], place - index)


def pick(rng: np.random.Generator, choices: Sequence[tuple[float, Colour]]) -> Colour:
    """One of several (chance, colour)."""
    edges = np.cumsum([chance for chance, _ in choices])
    return choices[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))][1]


def jitter(rng: np.random.Generator, colour: Colour, *, spread: float) -> Colour:
    """Lighter or darker by about ``spread``, and a third of that warmer or colder."""
    light, warm = (spread * step for step in rng.standard_normal(2).tolist())
    factors = (1.0 + light + warm / 3.0, 1.0 + light, 1.0 + light - warm / 3.0)
    red, green, blue = (min(max(c * f, 0.0), 1.0) for c, f in zip(colour, factors, strict=True))
    return (red, green, blue)
