import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from arcface_jax.data import load


@pytest.fixture
def folder(tmp_path):
    """Two identities; files of several kinds, endings and depths."""
    rng = np.random.default_rng(0)
    root = tmp_path / "faces"
    for place in ("bob/1.PNG", "ann/deep/2.jpg", "ann/1.bmp", "ann/noending"):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            kind = {".PNG": "PNG", ".jpg": "JPEG", ".bmp": "BMP"}.get(path.suffix, "GIF")
            pixels = rng.integers(0, 256, (20, 30), np.uint8)
            Image.fromarray(pixels).save(file, kind)
    (root / "ann" / ".hidden").write_text("no image")
    (root / "README.txt").write_text("about")
    return root


def test_folder_has_sorted_identities_and_every_image(folder):
    data = load(folder, size=16, channels=3)
    assert data.name == "faces" and data.identities == ("ann", "bob")
    assert data.ids == ("ann/1.bmp", "ann/deep/2.jpg", "ann/noending", "bob/1.PNG")
    assert data.labels.tolist() == [0, 0, 0, 1]
    assert data.images().shape == (4, 16, 16, 3)


def test_a_split_of_a_folder_is_a_directory_inside(folder):
    assert load(folder.parent, split="faces", size=8).identities == ("ann", "bob")
    with pytest.raises(ValueError, match="has no directory 'test'"):
        load(folder, split="test")


@pytest.mark.parametrize(
    "place,content,message",
    [
        ("ann/list.txt", b"hello", r"list.txt is not an image \(it begins with 68 65 6c 6c 6f\)"),
        ("ann/empty.jpg", b"", r"empty.jpg is not an image \(it begins with nothing\)"),
        ("loose.png", b"\x89PNG\r\n\x1a\n", "loose.png lies outside"),
        ("cy/.keep", b"", "cy has no images"),
    ],
)
def test_what_does_not_belong_in_a_folder_is_named(folder, place, content, message):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_damaged_file_of_a_folder_is_named(folder):
    path = folder / "bob" / "1.PNG"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="image 'bob/1.PNG' can't be read: the image is damaged"):
        load(folder, size=16).in_memory()


def test_a_folder_of_several_sizes_needs_size(folder):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "bob" / "2.png")
    with pytest.raises(ValueError, match="size="):
        load(folder, channels=1).images()


def test_an_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="one for each identity"):
        load(tmp_path)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (("omniglott", {"split": "train"}), "unknown data set 'omniglott'.*Did you mean omniglot"),
        (("lfw", {"split": "dev"}), "lfw has no split 'dev'; known: train, test, all"),
        (("orl", {"split": "tests"}), "Did you mean test"),
        (("orl", {}), 'say which one, e.g. split="train"'),
        (("lfw", {"split": "train", "strct": True}), "no option 'strct'.*Did you mean strict"),
        (("omniglot", {"split": "train", "channels": 2}), "channels must be 1"),
        (("lfw", {"split": "train", "size": 0}), "at least 1"),
    ],
)
def test_mistakes_get_the_nearest_known_name(arguments, message, tmp_path):
    name, options = arguments
    with pytest.raises(ValueError, match=message):
        load(name, **options, data_dir=tmp_path)


def test_a_folder_takes_no_options(folder):
    with pytest.raises(ValueError, match="takes no option 'strict'"):
        load(folder, strict=True)


def test_importing_the_package_is_light():
    code = (
        "import sys, arcface_jax.data; "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'grain', 'flax', 'optax', "
        "'matplotlib') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
