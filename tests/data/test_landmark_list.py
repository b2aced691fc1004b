import numpy as np
import pytest

from arcface_jax.data.landmark_list import match_landmarks, read_landmarks

LINE = "1 2 3 4 5 6 7 8 9 10.5"


def write(path, *lines):
    path.write_text("\n".join(lines))
    return path


def test_tabs_and_spaces_part_the_numbers(tmp_path):
    tabbed = "b/2.jpg\t" + LINE.replace(" ", "\t")
    path = write(tmp_path / "list.txt", f"my face.jpg  {LINE}", "", tabbed)
    landmarks = read_landmarks(path)
    assert list(landmarks) == ["my face.jpg", "b/2.jpg"]
    np.testing.assert_array_equal(landmarks["b/2.jpg"], [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10.5]])
    np.testing.assert_array_equal(landmarks["my face.jpg"], landmarks["b/2.jpg"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"a.jpg {LINE}", "b.jpg 1 2"], "line 2: expected an image and 10 numbers .* 'b.jpg 1 2'"),
        ([f"a.jpg {LINE}".replace("5", "five")], "line 1: expected an image and 10 numbers"),
        ([f"a.jpg {LINE}".replace("5", "nan")], "line 1: expected an image and 10 numbers"),
        ([LINE], "line 1: expected an image and 10 numbers"),
        ([f"a.jpg {LINE}", "", f"a.jpg {LINE}"], "line 3: a.jpg comes twice"),
    ],
)
def test_a_wrong_line_is_named(lines, message, tmp_path):
    with pytest.raises(ValueError, match=f"list.txt, {message}"):
        read_landmarks(write(tmp_path / "list.txt", *lines))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="list.txt is no text file"):
        read_landmarks(tmp_path / "list.txt")


def test_the_longest_end_of_a_path_counts():
    near, far = np.zeros((5, 2)), np.ones((5, 2))
    landmarks = {"1.jpg": near, "ann/1.jpg": far}
    (found,) = match_landmarks(["/faces/ann/1.jpg"], landmarks)
    assert found is far
    (found,) = match_landmarks(["/faces/bob/1.jpg"], landmarks)
    assert found is near
    assert match_landmarks(["/faces/bob/11.jpg"], landmarks) == [None]
    (found,) = match_landmarks(["/1.jpg"], {"/1.jpg": far})
    assert found is far


def test_a_line_for_two_images_is_refused():
    with pytest.raises(ValueError, match="1.jpg could be those of /ann/1.jpg and of /bob/1.jpg"):
        match_landmarks(["/ann/1.jpg", "/bob/1.jpg"], {"1.jpg": np.zeros((5, 2))})
