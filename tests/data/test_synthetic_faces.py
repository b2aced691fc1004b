import numpy as np
import pytest

from arcface_jax.data import check_disjoint, load
from arcface_jax.data.faces import draw_identity, draw_nuisances, render

SMALL = {"identities": 3, "test_identities": 2, "images_per_identity": 4, "size": 24}


@pytest.fixture
def small(prepared):
    return SMALL | {"data_dir": prepared}


def test_splits_have_their_identities(small):
    train, test = (load("synthetic_faces", split=s, **small) for s in ("train", "test"))
    check_disjoint(train, test)
    assert train.identities == ("face0000000", "face0000001", "face0000002")
    assert test.identities == ("face1000000", "face1000001")
    assert np.bincount(train.labels).tolist() == [4, 4, 4]
    assert train.images().shape == (12, 24, 24, 3)
    assert load("synthetic_faces", split="test", channels=1, **small).image_shape == (24, 24, 1)


def test_images_are_those_of_the_renderer_with_the_stored_nuisances(small):
    data = load("synthetic_faces", split="test", **small)
    rng = np.random.default_rng([1, 0, 1_000_001, 2])
    nuisances = draw_nuisances(rng)
    expected = render(draw_identity(1_000_001, seed=0), nuisances, size=24)
    k = data.ids.index("face1000001/00002.png")
    np.testing.assert_array_equal(data.images([k])[0], expected)
    wanted = nuisances.as_dict()
    assert set(data.nuisances) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(data.nuisances[name][k], value, rtol=1e-6)


def test_test_faces_do_not_depend_on_the_number_of_training_identities(small):
    test = load("synthetic_faces", split="test", **small)
    other = load("synthetic_faces", split="test", **(small | {"identities": 1}))
    assert test.identities == other.identities
    np.testing.assert_array_equal(test.images(), other.images())


def test_seed_draws_other_people_and_strength_calms(small):
    images = load("synthetic_faces", split="test", **small).images()
    other = load("synthetic_faces", split="test", **small, seed=1).images()
    assert (images != other).mean() > 0.5
    still = load("synthetic_faces", split="test", **small, strength=0.0).images()
    assert (still[0] == still[1]).mean() > (images[0] == images[1]).mean()


@pytest.mark.parametrize(
    "options,message",
    [
        ({"identities": 0}, "identities must lie"),
        ({"images_per_identity": -1}, "images_per_identity"),
        ({"size": 0}, "size must lie"),
        ({"strength": float("nan")}, "strength"),
        ({"seed": -1}, "seed"),
        ({"identites": 3}, "Did you mean identities"),
    ],
)
def test_options_are_checked(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load("synthetic_faces", split="train", data_dir=tmp_path, **options)
