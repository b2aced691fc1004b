"""Who a face is: some fifty measures and colours, drawn from a seeded population."""

import dataclasses
from typing import Any

import numpy as np

from arcface_jax.data.faces.colours import Colour, blend, jitter, mix, pick

# field: (lowest, highest) of a uniform draw
_RANGES = {
    "head_width": (0.66, 0.80),
    "head_depth": (0.78, 0.95),
    "face_length": (0.92, 1.06),
    "jaw": (-0.26, 0.20),
    "forehead": (-0.04, 0.14),
    "cheekbone": (-0.02, 0.07),
    "cheek_relief": (-0.03, 0.06),
    "chin_relief": (0.0, 0.09),
    "blush": (0.0, 0.5),
    "skin_gloss": (0.03, 0.16),
    "wrinkles": (0.0, 1.0),
    "neck_width": (0.34, 0.52),
    "eye_spacing": (0.265, 0.36),
    "eye_height": (-0.03, 0.10),
    "eye_width": (0.135, 0.20),
    "eye_openness": (0.36, 0.62),
    "eye_tilt": (-10.0, 13.0),
    "eye_depth": (0.0, 0.08),
    "iris_size": (0.066, 0.09),
    "lid_crease": (0.0, 1.0),
    "lashes": (0.1, 1.0),
    "brow_gap": (0.14, 0.25),
    "brow_width": (0.15, 0.24),
    "brow_thickness": (0.016, 0.055),
    "brow_arch": (0.0, 0.09),
    "brow_slope": (-14.0, 9.0),
    "nose_height": (-0.42, -0.22),
    "nose_width": (0.11, 0.21),
    "nose_bridge": (0.045, 0.10),
    "nose_protrusion": (0.14, 0.30),
    "nose_upturn": (0.0, 1.0),
    "mouth_height": (-0.66, -0.52),
    "mouth_width": (0.20, 0.36),
    "upper_lip": (0.03, 0.09),
    "lower_lip": (0.045, 0.115),
    "cupid_bow": (0.0, 0.55),
    "mouth_curve": (-0.035, 0.06),
    "ear_size": (0.14, 0.25),
    "ear_height": (-0.14, 0.04),
    "ear_spread": (0.0, 0.10),
    "hair_line": (0.48, 0.80),
    "hair_peak": (-0.12, 0.22),
    "hair_part": (-0.6, 0.6),
    "hair_sweep": (-0.35, 0.35),
    "hair_temple": (0.35, 0.80),
    "hair_top": (0.03, 0.20),
    "hair_side": (0.015, 0.12),
    "hair_waviness": (0.0, 1.0),
    "hair_gloss": (0.05, 0.35),
    "freckle_phase": (0.0, 6.0),
    "mole_x": (-0.45, 0.45),
    "mole_y": (-0.75, 0.55),
}

# From fair to dark, sRGB.
_SKIN_TONES = (
    (0.96, 0.82, 0.74),
    (0.91, 0.73, 0.61),
    (0.80, 0.60, 0.46),
    (0.61, 0.42, 0.30),
    (0.40, 0.27, 0.20),
)
# Chance, sRGB.
_HAIR_COLOURS = (
    (0.27, (0.09, 0.08, 0.08)),
    (0.25, (0.20, 0.13, 0.10)),
    (0.18, (0.35, 0.23, 0.15)),
    (0.10, (0.52, 0.38, 0.24)),
    (0.08, (0.83, 0.68, 0.43)),
    (0.05, (0.52, 0.25, 0.13)),
    (0.07, (0.60, 0.59, 0.58)),
)
_IRIS_COLOURS = (
    (0.40, (0.22, 0.13, 0.08)),
    (0.20, (0.40, 0.26, 0.13)),
    (0.15, (0.36, 0.42, 0.22)),
    (0.15, (0.30, 0.46, 0.62)),
    (0.10, (0.45, 0.50, 0.54)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything about a made-up person that stays the same between two images.

    Lengths are in half head heights, angles in degrees, colours sRGB in [0, 1].

    Attributes:
      head_width, head_depth: half-axes of the head; its half height is 1.
      face_length: stretches the head upright.
      jaw, forehead, cheekbone: relative change of the width at the chin, the crown and the cheeks.
      cheek_relief, chin_relief: height of the raised cheeks and chin.
      skin: colour. blush: reddening of the cheeks, 0..1. skin_gloss: strength of highlights.
      wrinkles: depth of the folds beside the mouth and under the eyes, 0..1.
      freckles: strength, 0 for none. freckle_phase: which pattern. mole: radius, 0 for none.
      mole_x, mole_y: its place.
      neck_width: half the width.
      eye_spacing: from the middle to an eye's centre. eye_height: above the head's middle.
      eye_width: half the width. eye_openness: height over width. eye_tilt: outer corner up.
      eye_depth: depth of the sockets. iris: colour. iris_size: radius.
      lid_crease, lashes: strength, 0..1.
      brow_gap: above the eye's centre. brow_width: half the width. brow_thickness: half the
        thickness. brow_arch: height of the arch. brow_slope: outer end up. brow: colour.
      nose_height: of the tip. nose_width: half the width at the wings. nose_bridge: half the width
        between the eyes. nose_protrusion: of the tip. nose_upturn: how the nostrils show, 0..1.
      mouth_height: of the line between the lips. mouth_width: half the width. upper_lip, lower_lip:
        thickness. cupid_bow: dip in the upper lip, 0..1. mouth_curve: corners up at rest.
      lips: colour.
      ear_size: half the height. ear_height: of its centre. ear_spread: how far it stands off.
      hair: colour. hair_density: 0 bald, 1 opaque. hair_line: its height on the forehead.
      hair_peak: how far it comes down in the middle, below 0 for a dip. hair_part: where the hair
        parts, in half head widths. hair_sweep: how far it falls to one side of the parting.
      hair_temple: half width of the bare forehead. hair_drop: how far the sides come down.
      hair_top, hair_side: thickness. hair_length: how far it hangs below the middle, 0 for short.
      hair_waviness: 0..1. hair_gloss: strength of highlights. bun: radius of a knot, 0 for none.
      beard, moustache: density, 0 for none. beard_line: how high the beard starts.
    """

    head_width: float
    head_depth: float
    face_length: float
    jaw: float
    forehead: float
    cheekbone: float
    cheek_relief: float
    chin_relief: float
    skin: Colour
    blush: float
    skin_gloss: float
    wrinkles: float
    freckles: float
    freckle_phase: float
    mole: float
    mole_x: float
    mole_y: float
    neck_width: float
    eye_spacing: float
    eye_height: float
    eye_width: float
    eye_openness: float
    eye_tilt: float
    eye_depth: float
    iris: Colour
    iris_size: float
    lid_crease: float
    lashes: float
    brow_gap: float
    brow_width: float
    brow_thickness: float
    brow_arch: float
    brow_slope: float
    brow: Colour
    nose_height: float
    nose_width: float
    nose_bridge: float
    nose_protrusion: float
    nose_upturn: float
    mouth_height: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    cupid_bow: float
    mouth_curve: float
    lips: Colour
    ear_size: float
    ear_height: float
    ear_spread: float
    hair: Colour
    hair_density: float
    hair_line: float
    hair_peak: float
    hair_part: float
    hair_sweep: float
    hair_temple: float
    hair_drop: float
    hair_top: float
    hair_side: float
    hair_length: float
    hair_waviness: float
    hair_gloss: float
    bun: float
    beard: float
    moustache: float
    beard_line: float


def draw_identity(index: int, *, seed: int) -> Identity:
    """Person number ``index`` of the population ``seed``, whatever the number of people drawn.

    Args:
      index: which person, >= 0.
      seed: which population, >= 0.

    Raises:
      ValueError: ``index`` or ``seed`` is negative.

    >>> draw_identity(3, seed=1) == draw_identity(3, seed=1)
    True
    >>> draw_identity(3, seed=1) == draw_identity(4, seed=1)
    False
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be >= 0, got index={index} and seed={seed}.")
    rng = np.random.default_rng((seed, index))
    measures: dict[str, Any] = {
        name: low + (high - low) * share
        for (name, (low, high)), share in zip(
            _RANGES.items(), rng.random(len(_RANGES)).tolist(), strict=True
        )
    }
    chance = {name: rng.random() for name in ("style", "face", "freckles", "mole", "bun")}
    amounts = ("drop", "length", "beard", "moustache", "line", "lips")
    amount = {name: rng.random() for name in amounts}
    tone = float(rng.beta(1.2, 1.5))
    skin = jitter(rng, blend(_SKIN_TONES, tone), spread=0.07)
    hair = jitter(rng, pick(rng, _HAIR_COLOURS), spread=0.15)
    iris = jitter(rng, pick(rng, _IRIS_COLOURS), spread=0.12)
    lip_tint = (0.66 - 0.28 * tone, 0.27 - 0.06 * tone, 0.27 - 0.06 * tone)
    lips = mix(skin, lip_tint, 0.35 + 0.45 * amount["lips"])
    brow = mix(hair, (0.16, 0.11, 0.09), 0.45)

    # Bald, shaved, short, half long, long: the shares of a population.
    bald, shaved, short, half_long = (chance["style"] < edge for edge in (0.06, 0.14, 0.58, 0.76))
    if bald or shaved:
        measures.update(hair_top=0.012, hair_side=0.008, hair_sweep=0.0)
    hangs = not short
    # Long hair lies over the ears or is tucked behind them.
    covered = hangs and chance["style"] % 0.1 < 0.06
    bearded = chance["face"] < (0.16 if hangs else 0.36)
    moustached = chance["face"] < (0.24 if hangs else 0.48)
    return Identity(
        **measures,
        skin=skin,
        iris=iris,
        lips=lips,
        hair=hair,
        brow=brow,
        freckles=0.25 + 0.5 * chance["freckles"] if chance["freckles"] < 0.18 else 0.0,
        mole=0.022 + 0.05 * chance["mole"] if chance["mole"] < 0.25 else 0.0,
        hair_density=0.0 if bald else 0.6 if shaved else 1.0,
        hair_drop=(1.0 if covered else 0.45) + 0.4 * amount["drop"],
        hair_length=(0.55 if half_long else 1.1) + 0.4 * amount["length"] if hangs else 0.0,
        bun=0.24 + 0.5 * chance["bun"] if hangs and chance["bun"] < 0.2 else 0.0,
        beard=0.25 + 0.7 * amount["beard"] if bearded else 0.0,
        moustache=0.3 + 0.65 * amount["moustache"] if moustached else 0.0,
        beard_line=-0.55 + 0.32 * amount["line"],
    )
