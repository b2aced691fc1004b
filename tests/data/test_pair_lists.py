import logging

import numpy as np
import pytest

from arcface_jax.data.pair_lists import read_pairs


def write(path, header, rows):
    path.write_text("\n".join([header, *rows]))
    return path


def same(name):
    return f"{name}\t1\t2"


def different(first, second):
    return f"{first}\t1\t{second}\t3"


def test_folds_of_view_2_are_blocks(tmp_path):
    rows = [r for f in "abc" for r in (same(f), same(f), different(f, "x"), different(f, "y"))]
    pairs = read_pairs(write(tmp_path / "pairs.txt", "3\t2", rows))
    assert len(pairs) == 12
    assert pairs.same.tolist() == [True, True, False, False] * 3
    assert pairs.folds.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (pairs.first[2], pairs.second[2]) == ("a/a_0001.jpg", "x/x_0003.jpg")
    assert (pairs.first[0], pairs.second[0]) == ("a/a_0001.jpg", "a/a_0002.jpg")


def test_folds_of_view_1_are_tenths_of_each_kind(tmp_path):
    rows = [same(f"p{k}") for k in range(20)] + [different(f"q{k}", "z") for k in range(20)]
    pairs = read_pairs(write(tmp_path / "pairsDev.txt", "20", rows))
    for kind in (True, False):
        assert np.bincount(pairs.folds[pairs.same == kind]).tolist() == [2] * 10


def test_pairs_are_located_and_missing_images_are_said(tmp_path, caplog):
    pairs = read_pairs(
        write(
            tmp_path / "few.txt",
            "2",
            [same("a"), same("b")] + [different("a", "b"), different("a", "gone")],
        )
    )
    ids = ["a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg", "b/b_0002.jpg", "b/b_0003.jpg"]
    with caplog.at_level(logging.WARNING, "arcface_jax.data"):
        first, second, genuine, folds = pairs.locate(ids)
    assert first.tolist() == [0, 2, 0] and second.tolist() == [1, 3, 4]
    assert genuine.tolist() == [True, True, False] and len(folds) == 3
    assert pairs.missing(ids) == ("gone/gone_0003.jpg",)
    assert "1 of 4 (gone/gone_0003.jpg)" in caplog.text


def test_a_list_of_another_set_is_an_error(tmp_path):
    pairs = read_pairs(write(tmp_path / "few.txt", "1", [same("a"), different("a", "b")]))
    with pytest.raises(ValueError, match="none of the 2 pairs of few.txt"):
        pairs.locate(["z.jpg"])


@pytest.mark.parametrize(
    "header,rows,message",
    [
        ("1", [same("a")], "announces 2 pairs, but 1"),
        ("1", [different("a", "b"), same("a")], "line 2: expected 'name n1 n2'"),
        ("1", [same("a"), same("a")], "line 3: expected 'name1 n1 name2 n2'"),
        ("1", [same("a"), "a\tx\tb\t1"], "line 3"),
        ("ten", [], "line 1"),
        ("0", [], "announces 0"),
    ],
)
def test_wrong_lines_are_named(tmp_path, header, rows, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(write(tmp_path / "bad.txt", header, rows))


def test_missing_file_says_where_lists_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="come with LFW"):
        read_pairs(tmp_path / "pairs.txt")
