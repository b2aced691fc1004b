import dataclasses

import numpy as np
import pytest

from arcface_jax.data.faces import (
    OCCLUSIONS,
    Nuisances,
    draw_identity,
    draw_nuisances,
    render,
)

SIZE = 48
NEUTRAL = Nuisances()
# What one nuisance is changed to, and what else it needs to be seen.
CHANGES = {
    "yaw": (25.0, {}),
    "pitch": (15.0, {}),
    "roll": (12.0, {}),
    "light_azimuth": (60.0, {}),
    "light_elevation": (70.0, {}),
    "light_intensity": (0.4, {}),
    "light_ambient": (0.6, {}),
    "light_warmth": (0.8, {}),
    "smile": (0.8, {}),
    "mouth_open": (0.8, {}),
    "brow_raise": (0.9, {}),
    "eye_open": (0.0, {}),
    "gaze_x": (1.0, {}),
    "gaze_y": (1.0, {}),
    "occlusion": ("mask", {}),
    "occlusion_size": (0.9, {"occlusion": "mask"}),
    "occlusion_colour": ((0.9, 0.2, 0.1), {"occlusion": "hat"}),
    "occlusion_angle": (40.0, {"occlusion": "bar"}),
    "occlusion_offset": (0.4, {"occlusion": "bar"}),
    "scale": (1.15, {}),
    "shift_x": (0.06, {}),
    "shift_y": (-0.06, {}),
    "background": ((0.1, 0.6, 0.3), {}),
    "background_gradient": (0.6, {}),
    "background_angle": (90.0, {"background_gradient": 0.6}),
    "background_texture": (0.7, {}),
    "clothes": ((0.8, 0.1, 0.1), {}),
    "blur": (3.0, {}),
    "noise": (12.0, {}),
    "noise_seed": (5, {"noise": 12.0}),
}


@pytest.fixture(scope="module")
def people():
    return [draw_identity(index, seed=11) for index in range(12)]


def pixels(identity, nuisances=NEUTRAL, size=SIZE):
    return render(identity, nuisances, size=size).astype(np.float64)


def centre_of_change(first, second):
    """(x, y) in [-1, 1], y down, of what differs between two images."""
    weight = np.abs(first - second).sum(-1)
    places = np.linspace(-1.0, 1.0, weight.shape[0])
    return (weight.sum(0) @ places / weight.sum(), weight.sum(1) @ places / weight.sum())


def roughness(image):
    return np.square(np.diff(image, axis=0)).mean() + np.square(np.diff(image, axis=1)).mean()


def test_the_same_arguments_give_the_same_pixels(people):
    nuisances = draw_nuisances(np.random.default_rng(4))
    again = draw_nuisances(np.random.default_rng(4))
    assert nuisances == again
    first = render(people[0], nuisances, size=SIZE)
    # Another size and person in between must leave nothing behind.
    render(people[1], NEUTRAL, size=32)
    np.testing.assert_array_equal(first, render(draw_identity(0, seed=11), again, size=SIZE))


@pytest.mark.parametrize("size", [16, 17, 32, 112, 256])
def test_images_are_rgb_bytes_of_the_size_asked_for(people, size):
    image = render(people[2], draw_nuisances(np.random.default_rng(1)), size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.ptp(image) > 50


@pytest.mark.parametrize("size", [15, 257, 0, -32, 32.5])
def test_sizes_outside_the_range_are_refused(people, size):
    with pytest.raises(ValueError, match="16, 256"):
        render(people[0], NEUTRAL, size=size)


def test_sizes_agree_on_the_picture(people):
    small = pixels(people[3], size=32)
    large = pixels(people[3], size=128).reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(small - large).mean() < 6.0


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_any_draw_renders_without_warnings(strength):
    rng = np.random.default_rng(0)
    for index in range(60):
        nuisances = draw_nuisances(rng, strength=strength)
        assert np.ptp(render(draw_identity(index, seed=0), nuisances, size=16)) > 20


def test_extreme_nuisances_render_without_warnings(people):
    for low in (-1.0, 1.0):
        for occlusion in OCCLUSIONS:
            nuisances = Nuisances(
                yaw=60.0 * low,
                pitch=35.0 * low,
                roll=45.0 * low,
                light_azimuth=90.0 * low,
                smile=low,
                scale=2.0 if low > 0.0 else 0.5,
                shift_x=0.5 * low,
                shift_y=0.5 * low,
                occlusion=occlusion,
            )
            for person in people:
                assert render(person, nuisances, size=16).shape == (16, 16, 3)


def test_people_differ_more_from_each_other_than_from_themselves(people):
    """Over one set of nuisances, as backgrounds alone differ more than faces do."""
    rng = np.random.default_rng(3)
    scene = {"background": (0.5, 0.5, 0.5), "clothes": (0.5, 0.5, 0.5), "occlusion": "none"}
    drawn = [
        dataclasses.replace(draw_nuisances(rng, strength=0.6), **scene, background_texture=0.0)
        for _ in range(6)
    ]
    images = np.array([[pixels(person, n, 32) for n in drawn] for person in people])
    within = np.abs(images[:, :, None] - images[:, None, :]).mean((3, 4, 5))
    between = np.abs(images[:, None] - images[None, :]).mean((3, 4, 5))
    off = ~np.eye(len(drawn), dtype=bool)
    others = ~np.eye(len(people), dtype=bool)
    assert within[:, off].mean() < between[others].mean()


def test_no_two_people_look_alike(people):
    images = np.array([pixels(person) for person in people])
    distance = np.abs(images[:, None] - images[None]).mean((2, 3, 4))
    assert distance[~np.eye(len(people), dtype=bool)].min() > 3.0


def test_every_nuisance_has_a_change_to_test():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Nuisances)}


@pytest.mark.parametrize("name", CHANGES)
def test_a_nuisance_changes_the_image(people, name):
    value, needed = CHANGES[name]
    before = Nuisances(**needed)
    after = dataclasses.replace(before, **{name: value})
    assert np.abs(pixels(people[0], before) - pixels(people[0], after)).max() > 5.0


@pytest.mark.parametrize("side", [-1, 1])
def test_light_brightens_the_side_it_comes_from(people, side):
    lit = Nuisances(light_azimuth=60.0 * side)
    for person in people:
        face = pixels(person, lit)[SIZE // 3 : 3 * SIZE // 4, SIZE // 4 : 3 * SIZE // 4].mean(
            (0, 2)
        )
        half = len(face) // 2
        left, right = face[:half].mean(), face[half:].mean()
        assert side * (right - left) > 8.0


def test_light_from_above_brightens_the_forehead_more_than_the_chin(people):
    bald = dataclasses.replace(people[0], hair_density=0.0, beard=0.0, moustache=0.0)
    difference = pixels(bald, Nuisances(light_elevation=60.0)) - pixels(
        bald, Nuisances(light_elevation=-30.0)
    )
    column = difference[:, SIZE // 2 - 3 : SIZE // 2 + 3].mean((1, 2))
    assert column[SIZE // 4] > 0.0 > column[4 * SIZE // 5]


def nose_place(person, nuisances):
    """Where the image changes when the nose grows."""
    # The shadow it throws would move with the light and not with the nose.
    nuisances = dataclasses.replace(nuisances, light_azimuth=0.0, light_elevation=0.0)
    bigger = dataclasses.replace(person, nose_width=1.25 * person.nose_width)
    return centre_of_change(pixels(person, nuisances, 96), pixels(bigger, nuisances, 96))


def test_yaw_moves_the_nose_sideways_and_further_than_the_eyes(people):
    for person in people[:4]:
        left, middle, right = (nose_place(person, Nuisances(yaw=y))[0] for y in (-20, 0, 20))
        assert left < middle - 0.1 < middle + 0.1 < right

        blind = dataclasses.replace(person, iris=(1.0, 0.0, 0.0))
        eyes = [
            centre_of_change(pixels(person, n, 96), pixels(blind, n, 96))[0]
            for n in (Nuisances(yaw=-20.0), Nuisances(yaw=20.0))
        ]
        assert right - left > eyes[1] - eyes[0] > 0.0


def test_pitch_moves_the_nose_up(people):
    for person in people[:4]:
        down, up = (nose_place(person, Nuisances(pitch=p))[1] for p in (-15, 15))
        assert up < down - 0.1


def test_roll_turns_clockwise(people):
    person = dataclasses.replace(people[0], mole=0.0)
    marked = dataclasses.replace(person, mole=0.06, mole_x=0.0, mole_y=0.4)
    x = [
        centre_of_change(pixels(person, n, 96), pixels(marked, n, 96))[0]
        for n in (Nuisances(roll=-20.0), Nuisances(roll=20.0))
    ]
    assert x[0] < -0.05 < 0.05 < x[1]


def test_features_vanish_behind_the_head(people):
    person = dataclasses.replace(people[0], mole=0.0, hair_density=0.0)
    marked = dataclasses.replace(person, mole=0.06, mole_x=0.9 * person.head_width, mole_y=0.2)
    turned = Nuisances(yaw=50.0)
    np.testing.assert_array_equal(pixels(person, turned), pixels(marked, turned))
    assert np.any(pixels(person, Nuisances(yaw=-30.0)) != pixels(marked, Nuisances(yaw=-30.0)))


def test_shift_moves_the_whole_person(people):
    moved = pixels(people[0], Nuisances(shift_x=4 / SIZE, shift_y=-2 / SIZE))
    np.testing.assert_allclose(moved[:-2, 4:], pixels(people[0])[2:, :-4], atol=1.0)


def test_blur_takes_away_fine_detail(people):
    for person in people[:4]:
        energy = [roughness(pixels(person, Nuisances(blur=b))) for b in (0.0, 1.0, 2.0, 4.0, 8.0)]
        assert all(after < 0.97 * before for before, after in zip(energy, energy[1:], strict=False))


def test_blur_keeps_a_plain_image_plain(people):
    far = Nuisances(scale=0.5, shift_y=0.5, background=(0.4, 0.4, 0.4), blur=6.0)
    np.testing.assert_array_equal(render(people[0], far, size=32)[:4], 102)


def test_noise_has_the_stated_spread(people):
    clean, noisy = (pixels(people[0], Nuisances(noise=n), 112) for n in (0.0, 10.0))
    patch = (noisy - clean)[:20, :10]
    assert 9.0 < patch.std() < 11.0
    assert abs(patch.mean()) < 1.5
