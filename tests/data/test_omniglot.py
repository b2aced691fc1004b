import zipfile

import numpy as np
import pytest

from arcface_jax.data import check_disjoint, hold_out, load
from arcface_jax.data.decode import area_resize, decode


def test_identities_are_alphabet_and_character(archives, prepared):
    data = load("omniglot", split="train", data_dir=prepared, manual_dir=archives)
    assert (len(data), data.num_classes) == (18, 6)
    assert data.identities[:2] == ("Aa_(x)/character01", "Aa_(x)/character02")
    assert data.ids[3] == "Aa_(x)/character02/0000_01.png"
    kept, held = hold_out(data, groups=1, seed=0)
    assert (kept.num_classes, held.num_classes) == (4, 2)


def test_ink_is_bright_and_shrunk_by_area(archives, prepared):
    with zipfile.ZipFile(archives / "omniglot" / "images_background.zip") as archive:
        paper = decode(archive.read("images_background/Bb/character01/0001_02.png"))
    options = {"split": "train", "data_dir": prepared, "manual_dir": archives}
    whole, small = load("omniglot", **options), load("omniglot", **options, size=32, channels=3)
    k = whole.ids.index("Bb/character01/0001_02.png")
    np.testing.assert_array_equal(whole.images([k])[0], 255 - paper)
    expected = area_resize(255 - paper, size=32)
    np.testing.assert_array_equal(small.images([k])[0], np.repeat(expected, 3, axis=-1))


def test_splits_share_no_identity(archives, prepared):
    options = {"data_dir": prepared, "manual_dir": archives, "size": 28}
    train, test = (load("omniglot", split=s, **options) for s in ("train", "test"))
    check_disjoint(train, test)


@pytest.mark.slow
def test_real_archives_have_the_published_counts(data_dir, prepared):
    options = {"data_dir": prepared / "real", "manual_dir": data_dir, "size": 32}
    train, test = (load("omniglot", split=s, **options) for s in ("train", "test"))
    check_disjoint(train, test)
    assert (len(train), train.num_classes) == (19280, 964)
    assert (len(test), test.num_classes) == (13180, 659)
    assert (np.bincount(train.labels) == 20).all() and (np.bincount(test.labels) == 20).all()
    groups = [{name.split("/")[0] for name in data.identities} for data in (train, test)]
    assert list(map(len, groups)) == [30, 20] and not groups[0] & groups[1]
    images = train.images(range(0, 19280, 50))
    # Thin bright strokes on black, on every image.
    assert images.min() == 0 and (images.max((1, 2, 3)) > 100).all() and images.mean() < 40
    twins = [train.ids.index(f"Braille/character01/0192_{k}.png") for k in ("03", "19")]
    assert (train.images(twins[:1]) == train.images(twins[1:])).all()
