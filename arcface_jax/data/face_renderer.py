"""A parametric face renderer: any number of made-up people, and the truth about every image.

A head is an ellipsoid whose jaw, cheeks and forehead are widened or narrowed. Each pixel's ray
meets it in closed form, so the features painted on its surface move, foreshorten and vanish with
the pose, and its normals, dented and raised by relief, are lit by one directional light:

    radiance = albedo * (ambient + intensity * max(0, (n . l + 0.2) / 1.2)) + highlight
    pixel    = 255 sqrt(radiance)

Who a face is (:class:`Identity`) is spread over some fifty measures; what else changes between two
images of it (:class:`Nuisances`) is kept apart and can be stored beside each image.

Lengths are in units of half the head's height, x to the right of the image, y up, z to the camera.

>>> person = draw_identity(7, seed=0)
>>> image = render(person, Nuisances(yaw=20.0, smile=0.5), size=32)
>>> image.shape, image.dtype
((32, 32, 3), dtype('uint8'))
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Colour = tuple[float, float, float]

_SUPERSAMPLING = 2
# Half the image's side. The head fills 3/4 of the height, which leaves room for the hair.
_HALF_VIEW = 1.25
# Blur is stated for this size, so that one value pictures the same photograph at every size.
_REFERENCE_SIZE = 112
_SIZES = (16, 256)

OCCLUSIONS = ("none", "glasses", "sunglasses", "mask", "hat", "bar")
_OCCLUSION_CHANCES = (0.70, 0.10, 0.05, 0.05, 0.06, 0.04)

# field: (lowest, highest) of a uniform draw
_IDENTITY_RANGES = {
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
            _IDENTITY_RANGES.items(), rng.random(len(_IDENTITY_RANGES)).tolist(), strict=True
        )
    }
    chance = {name: rng.random() for name in ("style", "face", "freckles", "mole", "bun")}
    amounts = ("drop", "length", "beard", "moustache", "line", "lips")
    amount = {name: rng.random() for name in amounts}
    tone = float(rng.beta(1.2, 1.5))
    skin = _jitter(rng, _blend(_SKIN_TONES, tone), spread=0.07)
    hair = _jitter(rng, _pick(rng, _HAIR_COLOURS), spread=0.15)
    iris = _jitter(rng, _pick(rng, _IRIS_COLOURS), spread=0.12)
    lip_tint = (0.66 - 0.28 * tone, 0.27 - 0.06 * tone, 0.27 - 0.06 * tone)
    lips = _mix(skin, lip_tint, 0.35 + 0.45 * amount["lips"])
    brow = _mix(hair, (0.16, 0.11, 0.09), 0.45)

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


@dataclasses.dataclass(frozen=True)
class _Spread:
    """How one nuisance varies: around ``neutral``, by ``spread``, on one side or both."""

    neutral: float
    spread: float
    low: float
    high: float
    one_sided: bool = False


_SPREADS = {
    "yaw": _Spread(0.0, 17.0, -60.0, 60.0),
    "pitch": _Spread(0.0, 8.0, -35.0, 35.0),
    "roll": _Spread(0.0, 5.0, -45.0, 45.0),
    "light_azimuth": _Spread(0.0, 40.0, -90.0, 90.0),
    "light_elevation": _Spread(25.0, 18.0, -45.0, 90.0),
    "light_intensity": _Spread(0.85, 0.18, 0.0, 2.0),
    "light_ambient": _Spread(0.30, 0.09, 0.0, 1.0),
    "light_warmth": _Spread(0.0, 0.45, -1.0, 1.0),
    "smile": _Spread(0.0, 0.5, -1.0, 1.0),
    "mouth_open": _Spread(0.0, 0.35, 0.0, 1.0, one_sided=True),
    "brow_raise": _Spread(0.0, 0.45, -1.0, 1.0),
    "eye_open": _Spread(1.0, -0.22, 0.0, 1.4, one_sided=True),
    "gaze_x": _Spread(0.0, 0.4, -1.0, 1.0),
    "gaze_y": _Spread(0.0, 0.25, -1.0, 1.0),
    "scale": _Spread(1.0, 0.04, 0.5, 2.0),
    "shift_x": _Spread(0.0, 0.018, -0.5, 0.5),
    "shift_y": _Spread(0.0, 0.018, -0.5, 0.5),
    "blur": _Spread(0.0, 1.0, 0.0, 20.0, one_sided=True),
    "noise": _Spread(0.0, 4.0, 0.0, 100.0, one_sided=True),
    "background_gradient": _Spread(0.0, 0.3, -1.0, 1.0),
    "background_texture": _Spread(0.0, 0.25, 0.0, 1.0, one_sided=True),
}
_LIMITS = {name: (spread.low, spread.high) for name, spread in _SPREADS.items()} | {
    "occlusion_size": (0.0, 1.0),
    "occlusion_offset": (-1.5, 1.5),
    "occlusion_angle": (-360.0, 360.0),
    "background_angle": (-360.0, 360.0),
    # What float32 can store.
    "noise_seed": (0, 2**24 - 1),
}
_COLOUR_FIELDS = ("background", "clothes", "occlusion_colour")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nuisances:
    """Everything that changes between two images of one person; by default a neutral portrait.

    Attributes:
      yaw: degrees, > 0 turns the nose to the right of the image, [-60, 60].
      pitch: degrees, > 0 looks up, [-35, 35].
      roll: degrees, > 0 turns clockwise in the image, [-45, 45].
      light_azimuth: degrees, > 0 lights from the right of the image, [-90, 90].
      light_elevation: degrees, > 0 lights from above, [-45, 90].
      light_intensity: of the directional light, [0, 2]. light_ambient: of the light from all sides,
        [0, 1]. light_warmth: -1 blue to 1 orange.
      smile: -1 sad to 1 broad. mouth_open: 0..1. brow_raise: -1 frown to 1 raised.
      eye_open: 0 shut, 1 as the person's eyes are, up to 1.4 wide.
      gaze_x, gaze_y: where the eyes look, -1..1, right and up positive.
      occlusion: one of ``OCCLUSIONS``. occlusion_size: how much it covers, 0..1.
      occlusion_colour: sRGB of mask, hat, bar or frame, [0, 1].
      occlusion_angle, occlusion_offset: of the bar: degrees from level, and distance from the
        middle in half head heights, [-1.5, 1.5].
      scale: 1 = a head of 3/4 of the image's height, [0.5, 2].
      shift_x, shift_y: shares of the side, to the right and down, [-0.5, 0.5].
      background, clothes: sRGB in [0, 1].
      background_gradient: change of brightness across the image, [-1, 1], along
        ``background_angle`` (degrees). background_texture: strength of a pattern, [0, 1].
      blur: standard deviation of a Gaussian in px of a 112 px image (size / 112 of it at another
        size), [0, 20].
      noise: standard deviation in grey levels (0..255), [0, 100]. noise_seed: which noise.

    Raises:
      ValueError: a value outside its range, or an unknown occlusion.

    >>> Nuisances(yaw=15.0).as_dict()["yaw"]
    15.0
    """

    yaw: float = _SPREADS["yaw"].neutral
    pitch: float = _SPREADS["pitch"].neutral
    roll: float = _SPREADS["roll"].neutral
    light_azimuth: float = _SPREADS["light_azimuth"].neutral
    light_elevation: float = _SPREADS["light_elevation"].neutral
    light_intensity: float = _SPREADS["light_intensity"].neutral
    light_ambient: float = _SPREADS["light_ambient"].neutral
    light_warmth: float = _SPREADS["light_warmth"].neutral
    smile: float = _SPREADS["smile"].neutral
    mouth_open: float = _SPREADS["mouth_open"].neutral
    brow_raise: float = _SPREADS["brow_raise"].neutral
    eye_open: float = _SPREADS["eye_open"].neutral
    gaze_x: float = _SPREADS["gaze_x"].neutral
    gaze_y: float = _SPREADS["gaze_y"].neutral
    occlusion: str = "none"
    occlusion_size: float = 0.5
    occlusion_angle: float = 0.0
    occlusion_offset: float = 0.0
    occlusion_colour: Colour = (0.5, 0.5, 0.5)
    scale: float = _SPREADS["scale"].neutral
    shift_x: float = _SPREADS["shift_x"].neutral
    shift_y: float = _SPREADS["shift_y"].neutral
    background: Colour = (0.5, 0.5, 0.5)
    background_gradient: float = _SPREADS["background_gradient"].neutral
    background_angle: float = 0.0
    background_texture: float = _SPREADS["background_texture"].neutral
    clothes: Colour = (0.5, 0.5, 0.5)
    blur: float = _SPREADS["blur"].neutral
    noise: float = _SPREADS["noise"].neutral
    noise_seed: int = 0

    def __post_init__(self):
        if self.occlusion not in OCCLUSIONS:
            raise ValueError(
                f"unknown occlusion {self.occlusion!r}; known: {', '.join(OCCLUSIONS)}."
            )
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} must lie in [{low:g}, {high:g}], got {getattr(self, name)}."
                )
        for name in _COLOUR_FIELDS:
            colour = getattr(self, name)
            if len(colour) != 3 or not all(0.0 <= channel <= 1.0 for channel in colour):
                raise ValueError(
                    f"{name} must be red, green and blue in [0, 1], got {colour}; "
                    "divide 8-bit values by 255."
                )

    def as_dict(self) -> dict[str, float]:
        """Flat numbers to store beside an image.

        A colour becomes ``name_red``, ``name_green`` and ``name_blue``; ``occlusion`` its position
        in ``OCCLUSIONS``; all other keys are the field names.
        """
        flat: dict[str, float] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _COLOUR_FIELDS:
                for channel, level in zip(("red", "green", "blue"), value, strict=True):
                    flat[f"{field.name}_{channel}"] = float(level)
            elif field.name == "occlusion":
                flat[field.name] = float(OCCLUSIONS.index(value))
            else:
                flat[field.name] = float(value)
        return flat


def draw_nuisances(rng: np.random.Generator, *, strength: float = 1.0) -> Nuisances:
    """Random nuisances; ``strength`` scales how far they go from the neutral portrait.

    The numbers taken from ``rng`` do not depend on ``strength``, so one generator state gives the
    same scene milder or stronger.

    Args:
      rng: where the randomness comes from.
      strength: 0 gives ``Nuisances()``, 1 an uncontrolled snapshot; at most 2.

    Raises:
      ValueError: ``strength`` is outside [0, 2].

    >>> draw_nuisances(np.random.default_rng(0), strength=0.0) == Nuisances()
    True
    """
    if not 0.0 <= strength <= 2.0:
        raise ValueError(f"strength must lie in [0, 2], got {strength}.")
    values: dict[str, Any] = {}
    normal = np.clip(rng.standard_normal(len(_SPREADS)), -2.2, 2.2).tolist()
    for (name, spread), z in zip(_SPREADS.items(), normal, strict=True):
        step = abs(z) if spread.one_sided else z
        value = spread.neutral + strength * spread.spread * step
        values[name] = min(max(value, spread.low), spread.high)
    for name in _COLOUR_FIELDS:
        values[name] = tuple(
            min(max(0.5 + 0.9 * strength * (share - 0.5), 0.0), 1.0)
            for share in rng.random(3).tolist()
        )
    roll_of_dice, size, angle, offset, turn = rng.random(5).tolist()
    noise_seed = int(rng.integers(2**24))
    if strength > 0.0:
        # From the other end, so that "none" gives way as the strength grows.
        left = 1.0 - roll_of_dice
        for name, chance in zip(OCCLUSIONS[1:], _OCCLUSION_CHANCES[1:], strict=True):
            left -= min(strength, 1.0) * chance
            if left <= 0.0:
                values["occlusion"] = name
                break
        values |= {
            "occlusion_size": size,
            "occlusion_angle": 180.0 * angle - 90.0,
            "occlusion_offset": 1.2 * offset - 0.6,
            "background_angle": 360.0 * turn,
            "noise_seed": noise_seed,
        }
    return Nuisances(**values)


def render(identity: Identity, nuisances: Nuisances, *, size: int) -> np.ndarray:
    """The picture of a person, uint8[size, size, 3], the same for the same arguments.

    Args:
      identity: who.
      nuisances: how.
      size: side in px, 16..256.

    Raises:
      ValueError: ``size`` is outside 16..256.
    """
    if size != int(size) or not _SIZES[0] <= size <= _SIZES[1]:
        raise ValueError(
            f"size must be a whole number of px in [{_SIZES[0]}, {_SIZES[1]}], got {size}; "
            "render at the nearest of these and resize."
        )
    scene = _scene(identity, nuisances, int(size))
    canvas = _background(scene)
    hair = _hair(scene)
    _draw_hair_behind(canvas, scene, hair)
    _draw_body(canvas, scene)
    _draw_ears(canvas, scene, near=False)
    rows, columns = scene.outline()
    face, face_canvas = scene.cropped(rows, columns), canvas[:, rows, columns]
    head = _head(face)
    shade = None if hair is None else hair.shade(scene)[rows, columns]
    _draw_head(face_canvas, face, head, shade)
    _draw_ears(canvas, scene, near=True)
    _draw_hair(canvas, scene, hair)
    if nuisances.occlusion in ("glasses", "sunglasses"):
        _draw_glasses(face_canvas, face, head)
    if nuisances.occlusion == "bar":
        _draw_bar(canvas, scene)
    return _develop(canvas, scene)


def contact_sheet(
    identities: Sequence[Identity], nuisances: Sequence[Nuisances], *, size: int, gap: int = 2
) -> np.ndarray:
    """One picture of all combinations: a row for each identity, a column for each nuisance.

    Args:
      identities: R people.
      nuisances: C ways to picture each.
      size: side of one face in px, 16..256.
      gap: white px between two faces.

    Returns:
      uint8[R * size + (R - 1) * gap, C * size + (C - 1) * gap, 3].

    Raises:
      ValueError: no identity or no nuisances, ``gap`` below 0, or ``size`` outside 16..256.

    >>> people = [draw_identity(i, seed=0) for i in range(2)]
    >>> contact_sheet(people, [Nuisances()], size=16, gap=1).shape
    (33, 16, 3)
    """
    if not identities or not nuisances or gap < 0:
        raise ValueError(
            "a contact sheet needs at least one identity, one nuisance and gap >= 0, got "
            f"{len(identities)}, {len(nuisances)} and gap={gap}."
        )
    step = size + gap
    shape = (len(identities) * step - gap, len(nuisances) * step - gap, 3)
    sheet = np.full(shape, 255, np.uint8)
    for row, identity in enumerate(identities):
        for column, nuisance in enumerate(nuisances):
            top, left = row * step, column * step
            sheet[top : top + size, left : left + size] = render(identity, nuisance, size=size)
    return sheet


_Patch = tuple[slice, slice]


@dataclasses.dataclass(frozen=True)
class _Scene:
    """Where each pixel looks, and where the light comes from.

    ``y`` and ``q``, float32[S, S], are coordinates on the plane of the head: roll, shift, scale and
    the stretch of the face undone, and in ``q`` also the widths of jaw, cheeks and forehead, so
    that in (q, y) the head is an ellipsoid. ``x`` is ``q`` before the latter. ``body_x`` [1, S] and
    ``body_y`` [S, 1] keep the roll, as shoulders do not tilt. ``rotation`` takes head coordinates
    to the camera's. ``pixel`` is a supersampled pixel's side. ``light`` and ``half_way`` are unit
    vectors of the camera's frame; ``direct`` and ``ambient`` linear colours, float32[3, 1, 1].
    """

    identity: Identity
    nuisances: Nuisances
    size: int
    pixel: float
    body_x: np.ndarray
    body_y: np.ndarray
    x: np.ndarray
    y: np.ndarray
    q: np.ndarray
    rotation: tuple[tuple[float, float, float], ...]
    light: tuple[float, float, float]
    half_way: tuple[float, float, float]
    direct: np.ndarray
    ambient: np.ndarray

    def project(self, u: float, v: float, w: float) -> tuple[float, float, float]:
        """Head coordinates to (q, y, depth towards the camera)."""
        a, b, c = self.rotation
        return (
            a[0] * u + a[1] * v + a[2] * w,
            b[0] * u + b[1] * v + b[2] * w,
            c[0] * u + c[1] * v + c[2] * w,
        )

    def to_head(self, vector: tuple[float, float, float]) -> tuple[float, ...]:
        """A direction of the camera's frame in the head's."""
        return tuple(
            sum(row[axis] * part for row, part in zip(self.rotation, vector, strict=True))
            for axis in range(3)
        )

    def depth(self, u: float, v: float) -> float:
        """How far the head's front lies before its middle at (u, v)."""
        rest = 1.0 - (u / self.identity.head_width) ** 2 - v * v
        return self.identity.head_depth * math.sqrt(max(rest, 0.0))

    def box(self, q: tuple[float, float], y: tuple[float, float]) -> _Patch:
        """Rows and columns of the pixels that can see this rectangle of the head's plane."""
        middle = 0.5 * (y[0] + y[1])
        width, push = _widths(self.identity, middle, self.nuisances.yaw, maximum=max)
        x_middle = 0.5 * (q[0] + q[1]) * width + push
        half_x = 0.5 * (q[1] - q[0]) * max(width, 1.0) * 1.15
        middle *= self.identity.face_length
        half_y = 0.5 * (y[1] - y[0]) * self.identity.face_length
        cos, sin = _cos_sin(self.nuisances.roll)
        centre_x, centre_y = cos * x_middle + sin * middle, cos * middle - sin * x_middle
        reach_x = abs(cos) * half_x + abs(sin) * half_y
        reach_y = abs(cos) * half_y + abs(sin) * half_x
        left = (centre_x - float(self.body_x[0, 0])) / self.pixel
        top = (float(self.body_y[0, 0]) - centre_y) / self.pixel
        return (
            _slice(top, reach_y / self.pixel, self.body_y.size),
            _slice(left, reach_x / self.pixel, self.body_x.size),
        )

    def patch(self, v: tuple[float, float], half_u: float) -> _Patch:
        """Rows and columns of the pixels that can see the face where |u| <= half_u."""
        a, b, _ = self.rotation
        near = self.depth(0.0, min(abs(v[0]), abs(v[1])))
        far = self.depth(half_u, max(abs(v[0]), abs(v[1])))
        ends = (a[2] * near, a[2] * far)
        heights = (b[2] * near, b[2] * far)
        spill = abs(b[0]) * half_u
        return self.box(
            (min(ends) - a[0] * half_u, max(ends) + a[0] * half_u),
            (min(heights) + b[1] * v[0] - spill, max(heights) + b[1] * v[1] + spill),
        )

    def outline(self) -> _Patch:
        """Rows and columns of the pixels that can see the head."""
        a, b, _ = self.rotation
        half_axes = (self.identity.head_width, 1.0, self.identity.head_depth)
        half_q, half_y = (
            math.hypot(*(part * axis for part, axis in zip(row, half_axes, strict=True)))
            for row in (a, b)
        )
        return self.box((-half_q, half_q), (-half_y, half_y))

    def cropped(self, rows: slice, columns: slice) -> "_Scene":
        """The same scene, seen by these pixels only."""
        return dataclasses.replace(
            self,
            body_x=self.body_x[:, columns],
            body_y=self.body_y[rows],
            x=self.x[rows, columns],
            y=self.y[rows, columns],
            q=self.q[rows, columns],
        )


@dataclasses.dataclass(frozen=True)
class _Surface:
    """Where the rays meet an ellipsoid: points on its unit sphere [3, h, w], pixel cover [h, w]."""

    sphere: np.ndarray
    cover: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Hair:
    """Hair or a hat, in the pixel rows that can see it in front of the head.

    ``surface``: the shell it lies on. ``above``: how far above the hair line, and ``cover``:
    0..1, both [h, S].
    """

    rows: slice
    surface: _Surface
    above: np.ndarray
    cover: np.ndarray

    def shade(self, scene: _Scene) -> np.ndarray:
        """How far each pixel of the head lies in the shade of the hair, float32[S, S], 0..1."""
        shade = np.zeros(scene.y.shape, np.float32)
        fall = max(1, round(0.07 / scene.pixel))
        target = shade[self.rows.start + fall : self.rows.stop + fall]
        target[:] = self.cover[: len(target)]
        return shade


@functools.lru_cache(maxsize=8)
def _centres(side: int) -> np.ndarray:
    """float32[side]: pixel centres from -1 to 1."""
    return _frozen(((np.arange(side) + 0.5) * (2.0 / side) - 1.0).astype(np.float32))


def _scene(identity: Identity, nuisances: Nuisances, size: int) -> _Scene:
    side = size * _SUPERSAMPLING
    zoom = _HALF_VIEW / nuisances.scale
    centres = _centres(side)
    body_x = ((centres - 2.0 * nuisances.shift_x) * zoom)[None, :]
    body_y = ((2.0 * nuisances.shift_y - centres) * zoom)[:, None]
    cos, sin = _cos_sin(nuisances.roll)
    x = cos * body_x - sin * body_y
    y = (sin / identity.face_length) * body_x + (cos / identity.face_length) * body_y
    widths, push = _widths(identity, y, nuisances.yaw)

    cos_yaw, sin_yaw = _cos_sin(nuisances.yaw)
    cos_pitch, sin_pitch = _cos_sin(nuisances.pitch)
    cos_up, sin_up = _cos_sin(nuisances.light_elevation)
    cos_side, sin_side = _cos_sin(nuisances.light_azimuth)
    light = (cos_up * sin_side, sin_up, cos_up * cos_side)
    norm = math.hypot(light[0], light[1], light[2] + 1.0) + 1e-9
    warm = nuisances.light_warmth
    tint = np.array([1.0 + 0.22 * warm, 1.0, 1.0 - 0.32 * warm], np.float32)[:, None, None]
    return _Scene(
        identity=identity,
        nuisances=nuisances,
        size=size,
        pixel=2.0 * zoom / side,
        body_x=body_x,
        body_y=body_y,
        x=x,
        y=y,
        q=(x - push) / widths,
        rotation=(
            (cos_yaw, 0.0, sin_yaw),
            (-sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw),
            (-cos_pitch * sin_yaw, -sin_pitch, cos_pitch * cos_yaw),
        ),
        light=light,
        half_way=(light[0] / norm, light[1] / norm, (light[2] + 1.0) / norm),
        direct=tint * nuisances.light_intensity,
        # The light from all sides keeps half of the tint: it is the same light off the walls.
        ambient=(0.5 + 0.5 * tint) * nuisances.light_ambient,
    )


def _widths(identity: Identity, y: Any, yaw: float, *, maximum: Any = np.maximum) -> Any:
    """Relative width of the head at height y, and how far the chin leads the turn of the head."""
    # A head that nods does so little that heights in the image serve for heights on the head.
    down, up, cheek = maximum(-y, 0.0), maximum(y, 0.0), (y + 0.2) * 2.2
    down = down * down
    widths = 1.0 + identity.jaw * down
    widths += identity.forehead * (up * up)
    widths += identity.cheekbone * maximum(1.0 - cheek * cheek, 0.0)
    return widths, (0.16 * math.sin(math.radians(yaw))) * down


def _background(scene: _Scene) -> np.ndarray:
    """Linear radiance, float32[3, S, S]."""
    nuisances = scene.nuisances
    centres = _centres(scene.size * _SUPERSAMPLING)
    x, y = centres[None, :], -centres[:, None]
    cos, sin = _cos_sin(nuisances.background_angle)
    level = (1.0 + (nuisances.background_gradient * cos) * x) + (
        nuisances.background_gradient * sin
    ) * y
    if nuisances.background_texture > 0.0:
        waves = np.sin(5.0 * x + 7.0 * sin) * np.sin(6.0 * y + 5.0 * cos)
        level += (0.5 * nuisances.background_texture) * (waves + np.sin(9.0 * (x * cos)))
    return _linear(nuisances.background) * np.maximum(level, 0.05)


def _cast(
    scene: _Scene,
    x: np.ndarray,
    y: np.ndarray,
    *,
    axes: tuple[float, float, float],
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> _Surface:
    """Meets the rays along the camera's axis with a turned ellipsoid, in closed form.

    With e1, e2, e3 the camera's axes in coordinates where the ellipsoid is the unit sphere, the
    point x e1 + y e2 + t e3 lies on it where t = sqrt(d) - b, b = (x e1 + y e2) . e3 / |e3|^2 and
    d = b^2 - (|x e1 + y e2|^2 - 1) / |e3|^2.
    """
    shift_x, shift_y, _ = scene.project(*centre)
    if shift_x or shift_y:
        x, y = x - shift_x, y - shift_y
    e1, e2, e3 = (
        tuple(part / axis for part, axis in zip(row, axes, strict=True)) for row in scene.rotation
    )
    square = _dot(e3, e3)
    b1, b2 = _dot(e1, e3) / square, _dot(e2, e3) / square
    k11 = _dot(e1, e1) / square - b1 * b1
    k12 = _dot(e1, e2) / square - b1 * b2
    k22 = _dot(e2, e2) / square - b2 * b2
    inside = k11 * x
    inside += (2.0 * k12) * y
    inside *= x
    inside += k22 * (y * y)
    inside -= 1.0 / square
    # At the outline the gradient of `inside` is about this steep.
    slope = 2.0 * math.sqrt(0.5 * (k11 + k22) / square)
    cover = _cover(inside * (1.0 / slope), scene.pixel)
    depth = np.sqrt(np.maximum(-inside, 0.0))
    depth -= b1 * x
    depth -= b2 * y
    sphere = np.empty((3, *x.shape), np.float32)
    for axis in range(3):
        point = sphere[axis]
        np.multiply(x, e1[axis], out=point)
        point += y * e2[axis]
        point += depth * e3[axis]
    return _Surface(sphere, cover)


def _shaded(
    normal: np.ndarray, scene: _Scene, *, gloss: float, shadow: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What the light makes of a surface: factor of its albedo [3, h, w], and highlights [h, w].

    ``normal``: [3, h, w], in the head's frame, of any length.
    """
    inverse = 1.0 / np.sqrt(_dot(normal, normal) + 1e-9)
    # Light reaches a little beyond the terminator: skin and hair are not plaster.
    wrap = 0.2
    diffuse = _dot(scene.to_head(scene.light), normal) * inverse
    diffuse += wrap
    diffuse = np.maximum(diffuse, 0.0)
    diffuse *= 1.0 / (1.0 + wrap)
    highlight = np.maximum(_dot(scene.to_head(scene.half_way), normal), 0.0)
    highlight *= inverse
    for _ in range(4):
        highlight *= highlight
    if shadow is not None:
        diffuse *= shadow
    highlight *= diffuse
    highlight *= gloss * scene.nuisances.light_intensity
    sky = normal[1] * inverse
    sky *= 0.2
    sky += 0.8
    factor = scene.direct * diffuse
    factor += scene.ambient * sky
    return factor, highlight


def _head(scene: _Scene) -> _Surface:
    identity = scene.identity
    axes = (identity.head_width, 1.0, identity.head_depth)
    surface = _cast(scene, scene.q, scene.y, axes=axes)
    surface.sphere[0] *= identity.head_width
    return surface


def _draw_head(
    canvas: np.ndarray, scene: _Scene, head: _Surface, hair_shade: np.ndarray | None
) -> None:
    """The face. ``head.sphere`` holds (u, v, w / head_depth) here."""
    identity = scene.identity
    albedo = np.empty_like(canvas)
    albedo[:] = _linear(identity.skin)
    # Minus the gradient of the relief, along u and v.
    slopes = np.zeros((2, *canvas.shape[1:]), np.float32)
    shadow = np.ones(canvas.shape[1:], np.float32)
    _paint_cheeks_and_chin(albedo, slopes, scene, head)
    _paint_facial_hair(albedo, scene, head)
    _paint_nose(albedo, slopes, shadow, scene)
    _paint_mouth(albedo, scene, head)
    patch, glint = _paint_eyes(albedo, slopes, scene, head)
    if hair_shade is not None:
        everywhere = (slice(None), slice(None))
        shade = _scaled(identity.skin, (0.5, 0.4, 0.4))
        _paint(albedo, everywhere, hair_shade * 0.5, shade)
    if scene.nuisances.occlusion == "mask":
        _paint_mask(albedo, scene, head)

    normal = np.empty_like(canvas)
    np.multiply(head.sphere[0], identity.head_width**-2, out=normal[0])
    np.multiply(head.sphere[2], 1.0 / identity.head_depth, out=normal[2])
    np.add(head.sphere[1], slopes[1], out=normal[1])
    normal[0] += slopes[0]
    factor, highlight = _shaded(normal, scene, gloss=identity.skin_gloss, shadow=shadow)
    albedo *= factor
    albedo += highlight
    albedo[:, patch[0], patch[1]] += glint
    albedo -= canvas
    albedo *= head.cover
    canvas += albedo


def _paint(target: np.ndarray, patch: _Patch, cover: Any, colour: Colour) -> None:
    """Lays a colour (sRGB) over linear values [3, S, S]."""
    part = target[:, patch[0], patch[1]]
    change = _linear(colour) - part
    change *= cover
    part += change


def _cover(outside: Any, pixel: float) -> np.ndarray:
    """Share of each pixel within a shape whose signed distance is ``outside``."""
    cover = outside * (-1.0 / pixel)
    cover += 0.5
    return _share(cover)


def _share(values: np.ndarray) -> np.ndarray:
    """Clips to [0, 1] in place."""
    np.maximum(values, 0.0, out=values)
    return np.minimum(values, 1.0, out=values)


def _dome(dx: np.ndarray, dy: np.ndarray, half: tuple[float, float]) -> np.ndarray:
    """1 - (dx / a)^2 - (dy / b)^2, and 0 outside of that ellipse."""
    x, y = dx * (1.0 / half[0]), dy * (1.0 / half[1])
    x *= x
    y *= y
    x += y
    return np.maximum(1.0 - x, 0.0)


def _raise(
    slopes: np.ndarray,
    patch: _Patch,
    dx: np.ndarray,
    dy: np.ndarray,
    half: tuple[float, float],
    height: float,
    side: Any = 1.0,
) -> np.ndarray:
    """Raises the bump height * dome^2; ``side`` is -1 where dx runs against u. Returns the dome."""
    dome = _dome(dx, dy, half)
    slopes[0][patch] += dome * dx * (side * (4.0 * height / half[0] ** 2))
    slopes[1][patch] += dome * dy * (4.0 * height / half[1] ** 2)
    return dome


def _paint_cheeks_and_chin(
    albedo: np.ndarray, slopes: np.ndarray, scene: _Scene, head: _Surface
) -> None:
    """Relief and blush, freckles, a mole, and the folds from nose to mouth."""
    identity = scene.identity
    skin, smile = identity.skin, max(scene.nuisances.smile, 0.0)
    patch = scene.patch((-1.0, -0.66), 0.26)
    u, v = head.sphere[0][patch], head.sphere[1][patch]
    _raise(slopes, patch, u, v + 0.87, (0.25, 0.20), identity.chin_relief)

    patch = scene.patch((-0.75, 0.08), 0.66)
    u, v = head.sphere[0][patch], head.sphere[1][patch]
    side, beside = np.sign(u), np.abs(u)
    height = 1.2 * identity.cheek_relief + 0.06 * smile
    half = (0.27, 0.25)
    dome = _raise(slopes, patch, beside - 0.38, v + 0.2 - 0.04 * smile, half, height, side)
    _paint(albedo, patch, dome * identity.blush, _scaled(skin, (1.0, 0.72, 0.70)))

    top, bottom = identity.nose_height + 0.02, identity.mouth_height - 0.02
    inner, outer = identity.nose_width + 0.04, identity.mouth_width + 0.08
    along = (v - 0.5 * (top + bottom)) * (2.0 / (top - bottom))
    path = 0.5 * (inner + outer) - (0.5 * (outer - inner)) * along
    line = np.maximum(1.0 - np.abs(beside - path) * 20.0, 0.0)
    line *= np.maximum(1.0 - along * along, 0.0)
    fold = 0.1 + 0.45 * identity.wrinkles + 0.35 * smile
    _paint(albedo, patch, line * fold, _scaled(skin, (0.62, 0.54, 0.52)))
    if identity.freckles > 0.0:
        phase = identity.freckle_phase
        dots = np.sin(41.0 * u + 9.0 * v + phase) * np.sin(37.0 * v - 11.0 * u + 2.0 * phase)
        dots += 0.5 * np.sin(23.0 * u + 29.0 * v + 3.0 * phase)
        dots = _share(dots * 2.0 - 0.6) * _dome(u, v + 0.12, (0.62, 0.3))
        _paint(albedo, patch, dots * identity.freckles, _scaled(skin, (0.6, 0.42, 0.3)))
    if identity.mole > 0.0:
        u, v, radius = identity.mole_x, identity.mole_y, identity.mole
        patch = scene.patch((v - 2.0 * radius, v + 2.0 * radius), abs(u) + 2.0 * radius)
        distance = _distance(head.sphere[0][patch] - u, head.sphere[1][patch] - v)
        spot = _cover(distance - radius, scene.pixel) * (head.sphere[2][patch] > 0.0)
        _paint(albedo, patch, spot, _scaled(skin, (0.34, 0.24, 0.2)))


def _paint_facial_hair(albedo: np.ndarray, scene: _Scene, head: _Surface) -> None:
    identity = scene.identity
    colour = _mix(identity.hair, (0.17, 0.11, 0.08), 0.3)
    mouth = identity.mouth_height
    if identity.beard > 0.0:
        patch = scene.patch((-1.0, identity.beard_line + 0.25), 0.9 * identity.head_width)
        u, v = head.sphere[0][patch], head.sphere[1][patch]
        # Everything low on the face but the lips and the cheeks.
        bare = 1.0 - np.square(u * (1.0 / 0.50)) - np.square((v + 0.36) * (1.0 / 0.44))
        below = v - identity.beard_line - 0.25 * np.abs(u)
        region = _share(0.4 - np.maximum(bare * 3.0, below * 7.0))
        region *= head.sphere[2][patch] > -0.3
        _paint(albedo, patch, region * identity.beard, colour)
    if identity.moustache > 0.0:
        middle = 0.55 * (mouth + identity.upper_lip) + 0.45 * (identity.nose_height - 0.06)
        reach = identity.mouth_width + 0.05
        patch = scene.patch((middle - 0.2, middle + 0.1), reach + 0.05)
        u, v = head.sphere[0][patch], head.sphere[1][patch]
        droop = np.square(u * (1.0 / reach))
        away = np.abs(v - middle + (0.09 - 0.05 * scene.nuisances.smile) * droop)
        band = _share((0.055 * (1.1 - droop) - away) * 30.0 + 0.3)
        band *= droop < 1.1
        _paint(albedo, patch, band * identity.moustache, colour)


def _paint_nose(albedo: np.ndarray, slopes: np.ndarray, shadow: np.ndarray, scene: _Scene) -> None:
    """A ridge that stands off the face, so that it moves against it as the head turns."""
    identity = scene.identity
    width, tip_v, out = identity.nose_width, identity.nose_height, identity.nose_protrusion
    root_v = identity.eye_height + 0.06
    ground = scene.depth(0.0, tip_v)
    root_q, root_y, _ = scene.project(0.0, root_v, scene.depth(0.0, root_v))
    tip_q, tip_y, _ = scene.project(0.0, tip_v, ground + out)
    base_q, base_y, _ = scene.project(0.0, tip_v, ground)
    length = max(math.hypot(tip_q - root_q, tip_y - root_y), 0.1)
    unit_q, unit_y = (tip_q - root_q) / length, (tip_y - root_y) / length
    reach = 1.4 * width
    patch = scene.box(
        (min(root_q, base_q, tip_q) - reach, max(root_q, base_q, tip_q) + reach),
        (min(tip_y, base_y) - 0.2, root_y + 0.1),
    )
    q, y = scene.q[patch], scene.y[patch]
    dq, dy = q - root_q, y - root_y
    share = (dq * unit_q + dy * unit_y) * (1.0 / length)
    across = dq * unit_y - dy * unit_q
    inner = _share(share * 1.0)
    half = identity.nose_bridge + (0.85 * width - identity.nose_bridge) * (inner * inner)
    ratio = across / half
    ridge = np.maximum(1.0 - ratio * ratio, 0.0)
    ridge *= _share(share * 4.0 + 0.5)
    ridge *= _share((1.12 - share) * 7.0)
    ridge *= 0.35 + 0.65 * inner
    ridge *= ratio
    ridge /= half
    ridge *= 1.4 * out
    slopes[0][patch] += ridge * unit_y
    slopes[1][patch] -= ridge * unit_q
    _raise(slopes, patch, q - tip_q, y - tip_y, (0.78 * width, 0.11), 0.45 * out)

    # Pairs left and right of a middle that stands less far off than the tip.
    spread = width * scene.rotation[0][0]
    dq, dy = q - (base_q + 0.25 * (tip_q - base_q)), y - (base_y + 0.25 * (tip_y - base_y))
    side, dq = np.sign(dq), np.abs(dq)
    wing = (0.42 * width, 0.075)
    _raise(slopes, patch, dq - 0.72 * spread, dy + 0.01, wing, 0.2 * out, side)
    edge = _scaled(identity.skin, (0.62, 0.52, 0.50))
    shade = 0.7 * _dome(dq - 1.1 * spread, dy + 0.01, (0.06, 0.10))
    dq, dy = q - 0.5 * (base_q + tip_q), y - 0.5 * (base_y + tip_y)
    np.maximum(shade, 0.6 * _dome(dq, dy + 0.11, (1.1 * width, 0.065)), out=shade)
    _paint(albedo, patch, shade, edge)
    # Seen from below the nostrils open; from above the tip hides them.
    seen = 0.4 + 0.5 * identity.nose_upturn + 0.03 * scene.nuisances.pitch
    height = 0.03 * min(max(seen, 0.3), 1.4)
    dq = (np.abs(dq) - 0.45 * spread) * (1.0 / (0.30 * width))
    hole = _distance(dq, (dy + 0.075) * (1.0 / height)) - 1.0
    hole = _cover(hole, scene.pixel / height)
    _paint(albedo, patch, hole * 0.85, _scaled(identity.skin, (0.30, 0.22, 0.21)))

    # The shadow it throws on the face, away from the light.
    light_x, light_y, _ = scene.light
    fall = 0.75 * out
    cast_q, cast_y = base_q - light_x * fall, base_y - 0.05 - max(light_y, 0.0) * fall
    reach = 1.3 * width
    patch = scene.box((cast_q - reach, cast_q + reach), (cast_y - 0.17, cast_y + 0.17))
    spot = _dome(scene.q[patch] - cast_q, scene.y[patch] - cast_y, (reach, 0.17))
    shadow[patch] -= spot * (0.7 * min(1.0, math.hypot(light_x, light_y)))


def _paint_mouth(albedo: np.ndarray, scene: _Scene, head: _Surface) -> None:
    identity = scene.identity
    smile, opened = scene.nuisances.smile, scene.nuisances.mouth_open
    half = identity.mouth_width * (1.0 + 0.16 * smile) * (1.0 - 0.10 * opened)
    middle = identity.mouth_height
    patch = scene.patch((middle - 0.30, middle + 0.20), 1.1 * half)
    x, v = head.sphere[0][patch] * (1.0 / half), head.sphere[1][patch] - middle
    square = x * x
    arc = np.maximum(1.0 - square, 0.0)
    within = square < 1.0
    line = (identity.mouth_curve + 0.085 * smile) * (square - 0.35)
    thin = 1.0 - 0.2 * max(smile, 0.0)
    dip = identity.cupid_bow * np.maximum(1.0 - np.abs(x) * 3.0, 0.0)
    upper_edge, lower_edge = line, line
    if opened > 0.0:
        upper_edge, lower_edge = line + (0.05 * opened) * arc, line - (0.11 * opened) * arc
    top = upper_edge + (identity.upper_lip * thin) * arc * (1.0 - dip)
    bottom = lower_edge - (identity.lower_lip * thin) * arc * (0.6 + 0.4 * arc)

    shade = np.maximum(1.0 - np.abs(v - bottom + 0.05) * 20.0, 0.0) * arc
    _paint(albedo, patch, shade * 0.45, _scaled(identity.skin, (0.7, 0.62, 0.6)))
    above = v - top
    lips = _cover(np.maximum(above, bottom - v), scene.pixel) * within
    _paint(albedo, patch, lips, identity.lips)
    # The upper lip faces down, so it is the darker one.
    upper = _cover(np.maximum(above, upper_edge - v), scene.pixel) * within
    _paint(albedo, patch, upper * 0.5, _scaled(identity.lips, (0.66, 0.58, 0.58)))
    seam = np.abs(v - upper_edge)
    if opened > 0.0:
        inside = _cover(np.maximum(v - upper_edge, lower_edge - v), scene.pixel) * within
        _paint(albedo, patch, inside, (0.16, 0.06, 0.06))
        teeth = np.minimum(_cover(upper_edge - 0.055 - v, scene.pixel), inside) * (square < 0.7)
        _paint(albedo, patch, teeth * min(1.0, 3.0 * opened), (0.88, 0.85, 0.80))
        seam = np.minimum(seam, np.abs(v - lower_edge))
    seam = _cover(seam - 0.012, scene.pixel) * (square < 1.1)
    _paint(albedo, patch, seam * 0.85, _scaled(identity.lips, (0.4, 0.3, 0.3)))


def _paint_eyes(
    albedo: np.ndarray, slopes: np.ndarray, scene: _Scene, head: _Surface
) -> tuple[_Patch, np.ndarray]:
    """Sockets, eyes and brows, both sides at once; returns where the eyes glint, and how much."""
    identity, nuisances = scene.identity, scene.nuisances
    skin, width, pixel = identity.skin, identity.eye_width, scene.pixel
    height = identity.eye_height
    patch = scene.patch(
        (height - 0.16, height + identity.brow_gap + 0.16), identity.eye_spacing + 0.26
    )
    u, v = head.sphere[0][patch], head.sphere[1][patch]
    side, outwards, up = np.sign(u), np.abs(u) - identity.eye_spacing, v - height
    depth = 0.015 + identity.eye_depth
    socket = _raise(slopes, patch, outwards, up - 0.03, (0.26, 0.18), -depth, side)
    _paint(albedo, patch, socket * (5.0 * identity.eye_depth), _scaled(skin, (0.66, 0.58, 0.56)))

    cos, sin = _cos_sin(identity.eye_tilt)
    x, y = cos * outwards + sin * up, cos * up - sin * outwards
    ratio = x * (1.0 / width)
    arc = np.maximum(1.0 - ratio * ratio, 0.0)
    within = arc > 0.0
    tall = identity.eye_openness * width
    # A shut eye's lids meet a little below its middle.
    upper = tall * (1.15 * nuisances.eye_open - 0.35)
    lower = tall * (0.45 + 0.25 * min(nuisances.eye_open, 1.0))
    lower *= 1.0 - 0.35 * max(nuisances.smile, 0.0)
    upper_lid = (upper * arc) * (1.0 - 0.12 * ratio)
    lower_lid = np.minimum(-lower * arc, upper_lid)
    below = y - upper_lid
    crease = _cover(np.abs(below - 0.06) - 0.012, pixel) * arc
    _paint(albedo, patch, crease * (0.75 * identity.lid_crease), _scaled(skin, (0.45, 0.36, 0.34)))
    opening = _cover(np.maximum(below, lower_lid - y), pixel) * within
    _paint(albedo, patch, opening, (0.84, 0.82, 0.80))
    gaze_x, gaze_y = 0.35 * width * nuisances.gaze_x, 0.25 * width * nuisances.gaze_y + 0.12 * tall
    radius = identity.iris_size
    look_x, look_y = x - gaze_x * side, y - gaze_y
    distance = _distance(look_x, look_y)
    iris = np.minimum(_cover(distance - radius, pixel), opening)
    _paint(albedo, patch, iris, identity.iris)
    pupil = np.minimum(_cover(distance - 0.42 * radius, pixel), opening)
    _paint(albedo, patch, pupil, (0.03, 0.03, 0.03))
    # The upper lid shades the ball.
    shade = np.maximum(0.45 + below * 10.0, 0.0) * opening
    _paint(albedo, patch, shade, (0.2, 0.15, 0.14))
    lash = np.abs(below) - (0.008 + 0.014 * identity.lashes)
    lash = np.minimum(lash, np.abs(y - lower_lid) - 0.004)
    lash = _cover(lash, pixel) * within
    _paint(albedo, patch, lash * 0.85, (0.10, 0.07, 0.07))

    # A frown pulls the inner ends down.
    raised = nuisances.brow_raise
    slope = math.tan(math.radians(identity.brow_slope)) + 0.35 * max(-raised, 0.0)
    along = outwards - 0.015
    ratio = along * (1.0 / identity.brow_width)
    path = slope * along + identity.brow_arch * (0.5 - np.square(ratio - 0.25))
    away = np.abs(up - (identity.brow_gap + 0.06 * raised) - path)
    away -= identity.brow_thickness * np.minimum(1.0, 1.25 - 1.25 * ratio)
    brow = _cover(away, 1.3 * pixel) * (np.abs(ratio) < 1.0)
    _paint(albedo, patch, brow * 0.9, identity.brow)

    # Both eyes mirror the same light, so the glints do not mirror each other.
    glint = _distance(look_x - 0.35 * radius * side, look_y - 0.4 * radius)
    glint = np.minimum(_cover(glint - 0.28 * radius, pixel), iris)
    return patch, glint * (0.7 * nuisances.light_intensity)


def _paint_mask(albedo: np.ndarray, scene: _Scene, head: _Surface) -> None:
    u, v, w = head.sphere
    everywhere = (slice(None), slice(None))
    above = v - (0.34 * scene.nuisances.occlusion_size - 0.42)
    edge = above - 0.12 * np.maximum(1.0 - np.square(u * 3.0), 0.0)
    cover = _cover(edge, scene.pixel) * (w > -0.25)
    strap = _cover(np.abs(above + 0.06) - 0.015, scene.pixel)
    _paint(albedo, everywhere, np.maximum(cover, strap), scene.nuisances.occlusion_colour)
    albedo *= 1.0 - (0.12 * (np.sin(v * 38.0) > 0.6)) * cover


def _hair(scene: _Scene) -> _Hair | None:
    """Where hair or a hat is; None where there is neither."""
    identity, nuisances = scene.identity, scene.nuisances
    hat = nuisances.occlusion == "hat"
    if identity.hair_density <= 0.0 and not hat:
        return None
    top, side = identity.hair_top, identity.hair_side
    if hat:
        top, side = max(top, 0.10), max(side, 0.05)
    lowest = 0.0 if hat else max(identity.hair_line - identity.hair_drop - 0.4, -1.1)
    rows, _ = scene.box((-1.1, 1.1), (lowest - 0.1, 1.5))
    x, y = scene.q[rows], scene.y[rows]
    if identity.hair_length == 0.0:
        # Short hair gets thinner towards the ears.
        x = x * (1.0 + (side / identity.head_width) * _share(0.5 - 2.5 * y))
    if _is_wavy(identity):
        wave = np.sin(y[:, :1] * (9.0 + 8.0 * identity.hair_waviness))
        x = x * (1.0 + (0.045 * identity.hair_waviness**2) * wave)
    axes = (identity.head_width + side, 1.0 + top, identity.head_depth + 0.06)
    surface = _cast(scene, x, y, axes=axes, centre=(0.0, 0.02, -0.04))
    above = _above_hair_line(scene, *surface.sphere)
    cover = _cover(-above, scene.pixel if hat else max(scene.pixel, 0.04))
    cover *= surface.cover
    if not hat:
        cover *= identity.hair_density
    return _Hair(rows, surface, above, cover)


def _is_wavy(identity: Identity) -> bool:
    return identity.hair_waviness > 0.4 and identity.hair_density == 1.0


def _above_hair_line(scene: _Scene, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How far a point of the unit sphere lies above the hair line, > 0 under hair."""
    identity = scene.identity
    # Behind the ears x turns back, so the way round the head goes on from 1 to 2.
    behind = z < 0.0
    way = np.abs(x)
    way += behind * (2.0 - 2.0 * way)
    if scene.nuisances.occlusion == "hat":
        brim = 0.60 - 0.22 * scene.nuisances.occlusion_size
        return y - brim + 0.10 * np.minimum(way, 1.2)
    bare = identity.hair_temple
    side = _share((way - bare) * (1.0 / (1.0 - bare)))
    above = y - identity.hair_line
    above += identity.hair_drop * (side * side)
    above += identity.hair_peak * np.maximum(1.0 - np.square(way * (1.0 / bare)), 0.0)
    above += 0.30 * _share((way - 1.08) * 4.0)
    swept = identity.hair_sweep * (x - identity.hair_part)
    swept = np.minimum(np.maximum(swept, -0.30), 0.12)
    above -= swept * (1.0 - side)
    if _is_wavy(identity):
        above -= (0.04 * identity.hair_waviness) * np.sin(17.0 * x + 5.0 * identity.hair_part)
    return above


def _draw_hair(canvas: np.ndarray, scene: _Scene, hair: _Hair | None) -> None:
    if hair is None:
        return
    identity, nuisances = scene.identity, scene.nuisances
    sphere = hair.surface.sphere
    if nuisances.occlusion == "hat":
        colour, gloss = nuisances.occlusion_colour, 0.02
        tone = 1.0 - 0.45 * (np.abs(hair.above - 0.14) < 0.02)
    else:
        colour, gloss = identity.hair, identity.hair_gloss
        # Strands run from the parting down.
        turn = (sphere[0] - 0.5 * identity.hair_part) / (0.75 + 0.6 * np.abs(sphere[2]))
        tone = np.sin(turn * 46.0 + 8.0 * identity.hair_waviness * sphere[1])
        tone *= 0.14
        tone += 0.9
        tone *= _share(0.7 + hair.above * 1.6)
    # Nearly the normals of the shell: it is a little flatter at the sides than a sphere.
    factor, highlight = _shaded(sphere, scene, gloss=gloss)
    factor *= tone
    factor *= _linear(colour)
    factor += highlight
    part = canvas[:, hair.rows]
    factor -= part
    factor *= hair.cover
    part += factor


def _draw_hair_behind(canvas: np.ndarray, scene: _Scene, hair: _Hair | None) -> None:
    identity = scene.identity
    if hair is None or identity.hair_density < 1.0:
        return
    colour = _lit(identity.hair, scene, 0.4)
    # Fills the gap between the head and the sides of the shell.
    lowest = identity.hair_line - identity.hair_drop
    part = canvas[:, hair.rows]
    part += (hair.surface.cover * _cover(lowest - scene.y[hair.rows], 0.2)) * (colour - part)
    if identity.hair_length > 0.0:
        half_x = identity.head_width + identity.hair_side + 0.05
        top, bottom, corner = 0.55, -identity.hair_length, 0.35
        # The back of the head goes the other way as the face turns.
        x = scene.x + 0.25 * math.sin(math.radians(scene.nuisances.yaw))
        if _is_wavy(identity):
            x += (0.05 * identity.hair_waviness) * np.sin(scene.y[:, :1] * 11.0)
        dx = np.maximum(np.abs(x) - (half_x - corner), 0.0)
        dy = np.abs(scene.y - 0.5 * (top + bottom)) - (0.5 * (top - bottom) - corner)
        outside = _distance(dx, np.maximum(dy, 0.0)) - corner
        canvas += _cover(outside, scene.pixel) * (colour - canvas)
    if identity.bun > 0.0:
        x, y, _ = scene.project(0.0, 1.0 + identity.hair_top + 0.5 * identity.bun, -0.25)
        reach = 1.2 * identity.bun
        patch = scene.box((x - reach, x + reach), (y - reach, y + reach))
        outside = _distance(scene.q[patch] - x, scene.y[patch] - y) - identity.bun
        part = canvas[:, patch[0], patch[1]]
        part += _cover(outside, scene.pixel) * (1.5 * colour - part)


def _draw_body(canvas: np.ndarray, scene: _Scene) -> None:
    identity = scene.identity
    rows = slice(int(np.searchsorted(-scene.body_y[:, 0], 0.4)), None)
    x, y = scene.body_x, scene.body_y[rows]
    part = canvas[:, rows]
    half = identity.neck_width * (1.0 + 0.25 * np.square(y + 0.95))
    ratio = x / half
    nx = np.minimum(np.maximum(ratio, -1.0), 1.0)
    light_x, _, light_z = scene.light
    # The chin keeps much of the light from the neck.
    diffuse = np.maximum(light_x * nx + light_z * np.sqrt(1.0 - nx * nx), 0.0) * 0.6
    neck = scene.direct * diffuse
    neck += scene.ambient * 0.7
    neck *= _linear(identity.skin)
    neck -= part
    neck *= _cover((np.abs(ratio) - 1.0) * half, scene.pixel)
    part += neck
    shoulders = np.square(x * (1.0 / 1.35)) + np.square((y + 1.95) * (1.0 / 0.88)) - 1.0
    collar = 1.0 - (
        np.square(x * (1.0 / (identity.neck_width + 0.06))) + np.square((y + 1.08) * (1.0 / 0.22))
    )
    cloth = _lit(scene.nuisances.clothes, scene, 0.7) * (1.0 + (0.35 * light_x) * x) - part
    cloth *= _cover(np.maximum(0.45 * shoulders, 0.15 * collar), scene.pixel)
    part += cloth


def _draw_ears(canvas: np.ndarray, scene: _Scene, *, near: bool) -> None:
    """Ears stand behind the head's outline, unless its turn brings one forward (``near``)."""
    identity = scene.identity
    if identity.hair_length > 0.0 and identity.hair_drop >= 1.0:
        return
    turn = math.sin(math.radians(scene.nuisances.yaw))
    light_x, light_y, light_z = scene.light
    height = identity.ear_size
    for side in (-1.0, 1.0):
        q, y, depth = scene.project(
            side * (identity.head_width + 0.3 * identity.ear_spread), identity.ear_height, -0.12
        )
        if (depth > 0.04) != near:
            continue
        toward = max(-side * turn, 0.0)
        half = height * (0.36 + 0.3 * toward) + 0.5 * identity.ear_spread * (1.0 - toward)
        reach = 1.25 * half
        patch = scene.box((q - reach, q + reach), (y - 1.1 * height, y + 1.1 * height))
        dy = scene.y[patch] - y
        # The top leans outwards.
        dx = scene.q[patch] - q - (side * 0.18) * dy
        outside = (_distance(dx * (1.0 / half), dy * (1.0 / height)) - 1.0) * half
        facing = 0.2 + 0.4 * side * light_x * (1.0 - toward) + 0.6 * light_z + 0.15 * light_y
        facing = max(facing, 0.0)
        cover = _cover(outside, scene.pixel)
        part = canvas[:, patch[0], patch[1]]
        skin = _lit(_scaled(identity.skin, (1.0, 0.93, 0.92)), scene, facing)
        part += cover * (skin - part)
        hollow = _dome(dx + side * 0.1 * half, dy - 0.12 * height, (0.72 * half, 0.7 * height))
        dark = _lit(_scaled(identity.skin, (0.62, 0.48, 0.46)), scene, 0.7 * facing)
        part += np.minimum(cover, hollow) * (dark - part)


def _draw_glasses(canvas: np.ndarray, scene: _Scene, head: _Surface) -> None:
    identity, nuisances, pixel = scene.identity, scene.nuisances, scene.pixel
    dark = nuisances.occlusion == "sunglasses"
    half_u = 0.20 + 0.06 * nuisances.occlusion_size
    half_v = half_u * (0.82 if dark else 0.72)
    centre_u, centre_v = max(identity.eye_spacing + 0.01, half_u + 0.04), identity.eye_height - 0.02
    frame = _scaled(nuisances.occlusion_colour, (0.55, 0.55, 0.55))
    patch = scene.patch((centre_v - 1.2 * half_v, centre_v + 1.2 * half_v), identity.head_width)
    u, v = head.sphere[0][patch], head.sphere[1][patch] - centre_v
    beside = np.abs(u)
    front = head.cover[patch] * (head.sphere[2][patch] > 0.0)
    # A superellipse, between a circle and a square.
    x, y = np.square((beside - centre_u) * (1.0 / half_u)), np.square(v * (1.0 / half_v))
    outside = (np.sqrt(_distance(x, y)) - 1.0) * half_v
    lens = _cover(outside, pixel) * front
    if dark:
        _paint(canvas, patch, lens * 0.95, (0.09, 0.09, 0.10))
    sheen = np.maximum(1.0 - np.abs(u - np.sign(u) * centre_u + v + 0.12) * 14.0, 0.0) * lens
    _paint(canvas, patch, sheen * 0.3, (0.9, 0.93, 0.96))
    rim = np.abs(outside) - 0.022
    # Bridge and arms: what of a level bar lies outside of the lenses.
    bar = np.maximum(np.abs(v - 0.06) - 0.02, -outside)
    rim = _cover(np.minimum(rim, bar), pixel)
    _paint(canvas, patch, rim * front * 0.95, frame)


def _draw_bar(canvas: np.ndarray, scene: _Scene) -> None:
    """A strip across the image, whatever the head does behind it."""
    nuisances = scene.nuisances
    cos, sin = _cos_sin(nuisances.occlusion_angle)
    half = 0.08 + 0.16 * nuisances.occlusion_size
    across = np.abs(cos * scene.body_y - sin * scene.body_x - nuisances.occlusion_offset)
    tone = np.maximum(1.0 - 0.4 * np.square(across * (1.0 / half)), 0.0)
    colour = _linear(nuisances.occlusion_colour) * tone
    canvas += _cover(across - half, scene.pixel) * (colour - canvas)


def _develop(canvas: np.ndarray, scene: _Scene) -> np.ndarray:
    """Linear radiance [3, S, S] to a picture, uint8[size, size, 3]."""
    nuisances, step = scene.nuisances, _SUPERSAMPLING
    rows = canvas[:, ::step] + canvas[:, 1::step]
    picture = rows[:, :, ::step] + rows[:, :, 1::step]
    picture *= 1.0 / step**2
    sigma = nuisances.blur * scene.size / _REFERENCE_SIZE
    if sigma > 0.0:
        picture = _blurred(picture, sigma)
    picture = np.sqrt(np.maximum(picture, 0.0))
    picture *= 255.0
    if nuisances.noise > 0.0:
        rng = np.random.default_rng(nuisances.noise_seed)
        picture += nuisances.noise * rng.standard_normal(picture.shape, np.float32)
    picture += 0.5
    picture = np.minimum(np.maximum(picture, 0.0), 255.0)
    return np.ascontiguousarray(picture.transpose(1, 2, 0).astype(np.uint8))


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of [3, H, W] along both sides; the edge pixels are repeated."""
    radius = max(1, math.ceil(2.5 * sigma))
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = weights[0] + 2.0 * sum(weights[1:])
    for _ in range(2):
        length = picture.shape[1]
        padded = np.empty((3, length + 2 * radius, picture.shape[2]), np.float32)
        padded[:, :radius] = picture[:, :1]
        padded[:, radius : radius + length] = picture
        padded[:, radius + length :] = picture[:, -1:]
        blurred = picture * (weights[0] / total)
        for k in range(1, radius + 1):
            pair = padded[:, radius - k : radius - k + length]
            pair = pair + padded[:, radius + k : radius + k + length]
            pair *= weights[k] / total
            blurred += pair
        picture = blurred.transpose(0, 2, 1)
    return picture


def _slice(middle: float, reach: float, side: int) -> slice:
    first = min(max(math.floor(middle - reach), 0), side)
    return slice(first, min(max(math.ceil(middle + reach) + 1, first), side))


def _distance(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    # np.hypot guards against overflow at ten times the cost.
    return np.sqrt(dx * dx + dy * dy)


def _dot(first: Any, second: Any) -> Any:
    """Inner product of triples of numbers or arrays."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def _cos_sin(degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return math.cos(angle), math.sin(angle)


def _frozen(array: np.ndarray) -> np.ndarray:
    """The same array, safe to share."""
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=4096)
def _linear(colour: Colour) -> np.ndarray:
    """Linear values of an sRGB colour at gamma 2, float32[3, 1, 1]."""
    return _frozen(np.array([channel * channel for channel in colour], np.float32)[:, None, None])


def _lit(colour: Colour, scene: _Scene, facing: float) -> np.ndarray:
    """A flat surface's radiance, float32[3, 1, 1]; ``facing`` is its cosine to the light."""
    return _linear(colour) * (scene.direct * facing + scene.ambient)


def _scaled(colour: Colour, factors: Colour) -> Colour:
    return (colour[0] * factors[0], colour[1] * factors[1], colour[2] * factors[2])


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def _blend(colours: Sequence[Colour], share: float) -> Colour:
    place = share * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    return _mix(colours[index], colours[index + 1], place - index)


def _pick(rng: np.random.Generator, choices: Sequence[tuple[float, Colour]]) -> Colour:
    edges = np.cumsum([chance for chance, _ in choices])
    return choices[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))][1]


def _jitter(rng: np.random.Generator, colour: Colour, *, spread: float) -> Colour:
    """Lighter or darker by about ``spread``, and a third of that warmer or colder."""
    light, warm = (spread * step for step in rng.standard_normal(2).tolist())
    factors = (1.0 + light + warm / 3.0, 1.0 + light, 1.0 + light - warm / 3.0)
    red, green, blue = (min(max(c * f, 0.0), 1.0) for c, f in zip(colour, factors, strict=True))
    return (red, green, blue)
