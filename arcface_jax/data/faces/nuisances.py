"""What changes between two images of one person: pose, light, expression, occlusion, camera."""

import dataclasses
from typing import Any

import numpy as np

from arcface_jax.data.faces.colours import Colour

OCCLUSIONS = ("none", "glasses", "sunglasses", "mask", "hat", "bar")
_OCCLUSION_CHANCES = (0.70, 0.10, 0.05, 0.05, 0.06, 0.04)


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
