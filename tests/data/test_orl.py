import zipfile

import numpy as np

from arcface_jax.data import check_disjoint, load
from arcface_jax.data.decode import decode


def test_people_are_in_number_order(archives, prepared):
    options = {"data_dir": prepared, "manual_dir": archives}
    train, test = (load("orl", split=s, **options) for s in ("train", "test"))
    check_disjoint(train, test)
    assert train.identities == tuple(f"s{k}" for k in range(1, 31))
    assert test.identities == tuple(f"s{k}" for k in range(31, 41))
    assert train.ids[:4] == ("s1/1.pgm", "s1/2.pgm", "s1/10.pgm", "s2/1.pgm")


def test_pixels_are_those_of_the_pgm(archives, prepared):
    data = load("orl", split="test", data_dir=prepared, manual_dir=archives)
    with zipfile.ZipFile(archives / "orl" / "att_faces.zip") as archive:
        original = decode(archive.read("att_faces/s40/10.pgm"))
    np.testing.assert_array_equal(data.images([len(data) - 1])[0], original)
    assert data.image_shape == (112, 92, 1)


def test_size_takes_the_central_square(archives, prepared):
    options = {"split": "test", "data_dir": prepared, "manual_dir": archives}
    whole = load("orl", **options).images([0])
    np.testing.assert_array_equal(load("orl", **options, size=92).images([0]), whole[:, 10:102])
    assert load("orl", **options, size=46, channels=3).image_shape == (46, 46, 3)


def test_real_archive_has_the_published_counts(data_dir, prepared):
    options = {"data_dir": prepared / "real", "manual_dir": data_dir}
    train, test = (load("orl", split=s, **options) for s in ("train", "test"))
    assert (len(train), train.num_classes, len(test), test.num_classes) == (300, 30, 100, 10)
    images = np.concatenate([train.images(), test.images()])
    assert len(np.unique(images.reshape(400, -1), axis=0)) == 400


def test_real_pgm_with_a_comment_is_read(data_dir):
    data = (data_dir / "orl" / "edge" / "s1_1_23x28_gimp_comment.pgm").read_bytes()
    assert decode(data).shape == (28, 23, 1)
