import dataclasses

import numpy as np
import pytest

from arcface_jax.data.faces import OCCLUSIONS, Nuisances, draw_nuisances


def test_every_field_is_stored_as_numbers():
    rng = np.random.default_rng(0)
    keys = list(Nuisances().as_dict())
    for _ in range(20):
        nuisances = draw_nuisances(rng)
        stored = nuisances.as_dict()
        assert list(stored) == keys
        assert all(type(number) is float for number in stored.values())
        for field in dataclasses.fields(Nuisances):
            value = getattr(nuisances, field.name)
            if field.name == "occlusion":
                assert OCCLUSIONS[int(stored.pop(field.name))] == value
            elif isinstance(value, tuple):
                colours = ("red", "green", "blue")
                assert tuple(stored.pop(f"{field.name}_{c}") for c in colours) == value
            else:
                assert stored.pop(field.name) == value
        assert not stored


def test_strength_zero_is_the_neutral_portrait():
    assert draw_nuisances(np.random.default_rng(9), strength=0.0) == Nuisances()


def test_strength_scales_one_and_the_same_draw():
    mild = draw_nuisances(np.random.default_rng(9), strength=0.5)
    full = draw_nuisances(np.random.default_rng(9), strength=1.0)
    assert full.yaw == pytest.approx(2.0 * mild.yaw)
    assert full.smile == pytest.approx(2.0 * mild.smile)
    assert full.scale - 1.0 == pytest.approx(2.0 * (mild.scale - 1.0))


def test_occlusions_come_as_often_as_stated():
    rng = np.random.default_rng(0)
    kinds = [draw_nuisances(rng).occlusion for _ in range(3000)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in OCCLUSIONS}
    assert shares["none"] == pytest.approx(0.70, abs=0.03)
    assert all(shares[kind] > 0.02 for kind in OCCLUSIONS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_nuisances(np.random.default_rng(0), strength=-1.0), "strength"),
        (lambda: Nuisances(occlusion="hand"), "known: none, glasses"),
        (lambda: Nuisances(yaw=float("nan")), "yaw must lie"),
        (lambda: Nuisances(occlusion_angle=float("inf")), "occlusion_angle must lie"),
        (lambda: Nuisances(noise_seed=-1), "noise_seed must lie"),
        (lambda: Nuisances(blur=-1.0), "blur must lie"),
        (lambda: Nuisances(background=(128, 128, 128)), "divide 8-bit values by 255"),
    ],
)
def test_bad_arguments_say_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
