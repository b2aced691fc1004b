import pickle

import numpy as np
import pytest

from arcface_jax.data.dataset import Dataset, check_disjoint, hold_out


def toy(**changes):
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 4, 3, 1), np.uint8)
    fields = {
        "name": "toy",
        "source": images,
        "labels": np.array([0, 0, 1, 1, 2, 2]),
        "identities": ("g/a", "g/b", "h/c"),
        "ids": tuple("uvwxyz"),
        "nuisances": {"yaw": np.arange(6.0)},
    }
    return Dataset(**(fields | changes))


class Lazy:
    """Images that are made when asked; number 3 is damaged, or of another shape."""

    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3 and self.fault == "damaged":
            raise ValueError("the image is damaged.")
        return np.full((4, 5 if index == 3 and self.fault == "shape" else 3, 1), index, np.uint8)


def test_fields_are_normalised():
    data = toy(ids=list("uvwxyz"))
    assert data.labels.dtype == np.int32 and data.ids == tuple("uvwxyz")
    assert (len(data), data.num_classes, data.image_shape) == (6, 3, (4, 3, 1))
    with pytest.raises(TypeError):
        data.nuisances["pitch"] = np.zeros(6)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"labels": [0, 0, 1, 1, 2, 3]}, r"label 3 at position 5 is outside \[0, 3\)"),
        ({"labels": [0, 0, -1, 1, 2, 2]}, r"label -1 at position 2"),
        ({"labels": [0, 0, 0, 0, 2, 2]}, r"identity 'g/b' has no images"),
        ({"labels": np.zeros(6)}, "must be class indices"),
        ({"labels": [0, 1, 2]}, "3 labels but 6 in source"),
        ({"labels": np.zeros(0, int), "identities": ()}, "empty"),
        ({"ids": tuple("uvwxyy")}, "'y' occurs twice in ids"),
        ({"ids": tuple("uvw")}, "6 labels but 3 in ids"),
        ({"identities": ("a", "b", "a")}, "'a' occurs twice in identities"),
        ({"nuisances": {"yaw": [1.0]}}, r"1 in nuisances\['yaw'\]"),
        ({"source": np.zeros((6, 4, 3), np.uint8)}, r"last axis of 1"),
        ({"source": np.zeros((6, 4, 3, 1), np.int64)}, "uint8 in 0..255 or floating, got int64"),
    ],
)
def test_wrong_fields_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        toy(**changes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_floating_images_must_be_finite(bad):
    images = np.zeros((6, 4, 3, 1), np.float32)
    assert toy(source=images).images([0]).dtype == np.float32
    images[4, 1, 1, 0] = bad
    with pytest.raises(ValueError, match="image 'y' holds NaN or infinity"):
        toy(source=images)


def test_damaged_image_is_named():
    data = toy(source=Lazy("damaged"))
    assert data.images([0, 1]).shape == (2, 4, 3, 1)
    for read in (data.images, data.in_memory, lambda: data.select(["g/b"]).images()):
        with pytest.raises(ValueError, match="toy: image 'x' can't be read: the image is damaged"):
            read()


def test_image_of_another_shape_is_named():
    data = toy(source=Lazy("shape"))
    for read in (data.images, data.in_memory):
        with pytest.raises(ValueError, match=r"'x' is \(4, 5, 1\) where others are \(4, 3, 1\)"):
            read()


def test_in_memory_has_the_same_images():
    lazy = toy(source=Lazy(None))
    memory = lazy.in_memory()
    assert isinstance(memory.source, np.ndarray) and memory.in_memory() is memory
    np.testing.assert_array_equal(memory.images(), lazy.images())
    np.testing.assert_array_equal(memory.images([4, 1]), lazy.images([4, 1]))
    assert lazy.images([]).shape == (0, 4, 3, 1)


@pytest.mark.parametrize("source", [None, Lazy(None)], ids=["array", "lazy"])
def test_select_relabels_in_the_order_given(source):
    data = toy() if source is None else toy(source=source)
    part = data.select(["h/c", "g/a"])
    assert part.identities == ("h/c", "g/a") and part.ids == tuple("uvyz")
    assert part.labels.tolist() == [1, 1, 0, 0]
    assert part.images()[:, 0, 0, 0].tolist() == [0, 1, 4, 5]
    assert part.nuisances["yaw"].tolist() == [0.0, 1.0, 4.0, 5.0]
    assert part.select(["g/a"]).images()[:, 0, 0, 0].tolist() == [0, 1]


def test_select_names_what_is_unknown():
    with pytest.raises(ValueError, match="toy has no identity 'g/q'"):
        toy().select(["g/a", "g/q"])
    with pytest.raises(ValueError, match="occurs twice"):
        toy().select(["g/a", "g/a"])


def test_keep_drops_identities_without_images():
    part = toy().keep([1, 4])
    assert part.identities == ("g/a", "h/c") and part.labels.tolist() == [0, 1]


@pytest.mark.parametrize("how", [{"fraction": 0.3}, {"groups": 1}])
def test_hold_out_splits_by_identity(how):
    data = toy()
    kept, held = hold_out(data, **how, seed=0)
    check_disjoint(kept, held)
    assert sorted(kept.identities + held.identities) == sorted(data.identities)
    assert sorted(kept.ids + held.ids) == sorted(data.ids)
    again = hold_out(data, **how, seed=0)[1]
    assert again.identities == held.identities


def test_hold_out_takes_whole_groups():
    for seed in range(4):
        kept, held = hold_out(toy(), groups=1, seed=seed)
        assert len({name[0] for name in held.identities}) == 1
        assert not {n[0] for n in kept.identities} & {n[0] for n in held.identities}
    assert {hold_out(toy(), groups=1, seed=s)[1].num_classes for s in range(8)} == {1, 2}


@pytest.mark.parametrize(
    "how,message",
    [
        ({}, "give fraction"),
        ({"fraction": 0.5, "groups": 1}, "not both"),
        ({"fraction": 1.0}, r"\(0, 1\)"),
        ({"groups": 2}, "has 2 groups"),
    ],
)
def test_hold_out_checks_its_options(how, message):
    with pytest.raises(ValueError, match=message):
        hold_out(toy(), **how, seed=0)


def test_shared_identities_are_named():
    other = toy(name="other").select(["g/b", "h/c"])
    with pytest.raises(ValueError, match="toy and other share 2 identities: 'g/b', 'h/c'"):
        check_disjoint(toy(), other)


def test_a_data_set_can_be_sent_to_another_process():
    back = pickle.loads(pickle.dumps(toy()))
    np.testing.assert_array_equal(back.images(), toy().images())
    assert back.nuisances["yaw"].tolist() == toy().nuisances["yaw"].tolist()
