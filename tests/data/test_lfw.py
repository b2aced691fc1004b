import logging
import tarfile

import numpy as np
import pytest

from arcface_jax.data import check_disjoint, lfw, load
from arcface_jax.data.alignment import align
from arcface_jax.data.decode import decode


@pytest.fixture
def small(archives, prepared):
    return {"data_dir": prepared, "manual_dir": archives}


def test_splits_follow_the_lists(small):
    train = load("lfw", split="train", strict=False, **small)
    test, everyone = load("lfw", split="test", **small), load("lfw", split="all", **small)
    check_disjoint(train, test)
    assert train.identities == ("Ann_Lee", "Emmy_Rossum", "Raul_Ibanez", "Recep_Tayyip_Erdogan")
    assert test.identities == ("Abdullah_Gul", "Zoe_Day")
    assert everyone.ids == train.ids + test.ids
    assert everyone.identities == train.identities + test.identities
    np.testing.assert_array_equal(everyone.images([len(everyone) - 1]), test.images([2]))


def test_strict_leaves_out_the_people_of_the_test_split(small):
    strict = load("lfw", split="train", **small)
    gone = set(load("lfw", split="train", strict=False, **small).ids) - set(strict.ids)
    assert gone == {
        "Emmy_Rossum/Emmy_Rossum_0001.jpg",
        "Raul_Ibanez/Raul_Ibanez_0001.jpg",
        "Recep_Tayyip_Erdogan/Recep_Tayyip_Erdogan_0004.jpg",
    }
    assert strict.identities == ("Ann_Lee", "Emmy_Rossum", "Recep_Tayyip_Erdogan")
    assert strict.labels.tolist() == [0, 0, 1, 2, 2, 2]


def originals(folder, names):
    with tarfile.open(folder / "lfw" / "lfw.tgz") as archive:
        for name in names:
            file = archive.extractfile(f"lfw/{name}")
            assert file is not None
            yield name, decode(file.read())


def landmarks(folder):
    lines = (folder / "lfw" / "lfw_landmark.txt").read_text().splitlines()
    rows = (line.split("\t") for line in lines)
    return {name: np.array(numbers, float).reshape(5, 2) for name, *numbers in rows}


@pytest.mark.parametrize("size", [112, 48])
def test_faces_are_aligned_from_the_original_image(small, archives, size):
    data = load("lfw", split="test", size=size, **small)
    points = landmarks(archives)
    for name, image in originals(archives, data.ids):
        # The images are 150 px wide and the landmarks are those of 250 px.
        expected = align(image, points[name] * (150 / 250), size=size)
        np.testing.assert_array_equal(data.images([data.ids.index(name)])[0], expected)


def test_grey_and_default_size(small):
    assert load("lfw", split="test", **small).image_shape == (112, 112, 3)
    assert load("lfw", split="test", channels=1, **small).image_shape == (112, 112, 1)


def test_listed_images_that_are_not_there_are_said(archives, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "arcface_jax.data"):
        load("lfw", split="test", data_dir=tmp_path, manual_dir=archives)
    assert "peopleDevTest.txt lists and the archive lacks" in caplog.text
    assert "1 (of Betsy_Coffin)" in caplog.text


def test_pairs_are_found_by_name(small, archives, monkeypatch, caplog):
    pairs = lfw.pairs("pairsDevTest", manual_dir=archives)
    data = load("lfw", split="test", **small)
    with caplog.at_level(logging.WARNING, "arcface_jax.data"):
        first, second, same, _ = pairs.locate(data.ids)
    assert (first.tolist(), second.tolist(), same.tolist()) == ([1], [2], [True])
    assert pairs.missing(data.ids) == ("Betsy_Coffin/Betsy_Coffin_0001.jpg",)
    monkeypatch.setenv("ARCFACE_DATA_DIR", str(archives))
    assert len(lfw.pairs("pairsDevTest")) == 2


def test_pairs_say_what_is_known_and_missing(archives):
    with pytest.raises(ValueError, match="known: pairs, pairsDevTrain.*Did you mean pairsDevTest"):
        lfw.pairs("pairsDevTset", manual_dir=archives)
    with pytest.raises(FileNotFoundError, match="lfw/pairs.txt"):
        lfw.pairs("pairs", manual_dir=archives)


@pytest.mark.parametrize(
    "file,text,message",
    [
        ("peopleDevTrain.txt", "3\nAnn_Lee\t2\n", "number of people, 1"),
        ("peopleDevTrain.txt", "1\nAnn_Lee two\n", "line 2: expected 'name<TAB>images'"),
        (
            "lfw_landmark.txt",
            "Ann_Lee/Ann_Lee_0001.jpg\t1\t2\n",
            "line 1: .* 10 numbers",
        ),
        ("lfw_landmark.txt", "", "no line for Ann_Lee/Ann_Lee_0001.jpg|line 1"),
    ],
)
def test_wrong_lists_are_named(archives, tmp_path, file, text, message):
    folder = tmp_path / "lfw"
    folder.mkdir()
    for original in (archives / "lfw").iterdir():
        (folder / original.name).write_bytes(original.read_bytes())
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        load("lfw", split="train", data_dir=tmp_path / "p", manual_dir=tmp_path)


@pytest.mark.slow
def test_real_archive_has_the_published_counts(data_dir, prepared):
    options = {"data_dir": prepared / "real", "manual_dir": data_dir}
    train = load("lfw", split="train", strict=False, **options)
    test, everyone = load("lfw", split="test", **options), load("lfw", split="all", **options)
    check_disjoint(train, test)
    assert (len(train), train.num_classes) == (9525, 4038)
    assert (len(test), test.num_classes) == (3707, 1710)
    assert (len(everyone), everyone.num_classes) == (13232, 5748)
    counts = np.bincount(everyone.labels)
    assert (counts >= 2).sum() == 1680
    assert everyone.identities[counts.argmax()] == "George_W_Bush" and counts.max() == 530
    strict = load("lfw", split="train", **options)
    assert len(set(train.ids) - set(strict.ids)) == 14
    assert len(set(train.identities) - set(strict.identities)) == 9

    for name, usable in (("pairs", 6000), ("pairsDevTrain", 2200), ("pairsDevTest", 999)):
        pairs = lfw.pairs(name, manual_dir=data_dir)
        first, second, same, folds = pairs.locate(everyone.ids)
        assert len(first) == usable
        np.testing.assert_array_equal(everyone.labels[first] == everyone.labels[second], same)
        assert set(folds) == set(range(10))
    first, second, _, _ = lfw.pairs("pairsDevTest", manual_dir=data_dir).locate(test.ids)
    assert len(first) == 999

    points = landmarks(data_dir)
    chosen = test.ids[::190][:20]
    for name, image in originals(data_dir, chosen):
        expected = align(image, points[name] * 0.6)
        np.testing.assert_array_equal(test.images([test.ids.index(name)])[0], expected)
