"""Image files to embeddings from the command line."""

import json

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

from arcface_jax.convert import load, save
from arcface_jax.data import align
from arcface_jax.data.alignment import TEMPLATE_112
from arcface_jax.data.decode import area_resize
from arcface_jax.models import Preprocessing
from experiments import embed
from experiments.embedding import embed_batches


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def damaged(path, pixels):
    """A JPEG with a sound header that breaks off."""
    data = write(path.with_suffix(".jpg"), pixels).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def run_here(**flags):
    """The entry point in this process."""
    with flagsaver.flagsaver(**flags):
        embed.main(["embed"])


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def folder(tmp_path, noise):
    """Three images of other sizes and kinds than the network's."""
    root = tmp_path / "faces"
    write(root / "b" / "grey.png", noise(20, 24))
    write(root / "b" / "a.ppm", noise(16, 16, 3))
    write(root / "a.png", noise(40, 32, 3))
    return root


def test_images_are_cut_to_size_and_embedded_in_order_of_name(folder, small_weights, tmp_path):
    output = tmp_path / "made" / "out.npz"
    run_here(weights=str(small_weights()), images=str(folder), output=str(output))
    stored = read(output)
    assert stored["ids"].tolist() == ["a.png", "b/a.ppm", "b/grey.png"]
    assert stored["embeddings"].dtype == np.float32
    embedder = load(small_weights())
    assert Preprocessing.from_json(json.loads(str(stored["preprocessing"]))) == (
        embedder.preprocessing
    )
    tall, even, grey = (np.asarray(Image.open(folder / name)) for name in stored["ids"])
    grey = np.repeat(area_resize(grey[:, 2:22, None], size=16), 3, axis=2)
    crops = np.stack([area_resize(tall[4:36], size=16), even, grey])
    expected = embedder(crops)
    np.testing.assert_allclose(stored["embeddings"], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_batches_change_nothing_and_are_compiled_for_once(noise, small_embedder):
    embedder, images = small_embedder(), noise(7, 16, 16, 3)
    shapes = []

    class Recording:
        model = embedder.model

        def __call__(self, images, *, batch_size):
            shapes.append((images.shape[0], batch_size))
            return embedder(images, batch_size=batch_size)

    parts = iter([images[:3], images[3:6], images[6:]])
    found = embed_batches(Recording(), parts, total=7, batch_size=3, what="embedding")
    np.testing.assert_allclose(found, embedder(images), rtol=1e-5, atol=1e-6)
    assert shapes == [(3, 3)] * 3


def test_what_was_written_before_is_no_image(folder, small_weights):
    flags = dict(weights=str(small_weights()), images=str(folder), output=str(folder / "out.npz"))
    run_here(**flags)
    first = read(folder / "out.npz")
    run_here(**flags)
    np.testing.assert_array_equal(read(folder / "out.npz")["embeddings"], first["embeddings"])


def test_landmarks_align_the_originals(small_weights, noise, tmp_path, capsys):
    pixels = noise(150, 150, 3)
    write(tmp_path / "faces" / "ann" / "1.png", pixels)
    points = TEMPLATE_112 * 0.9 + [22.0, 11.0]
    numbers = " ".join(map(repr, points.ravel().tolist()))
    (tmp_path / "list.txt").write_text(f"ann/1.png {numbers}\n")
    flags = dict(
        weights=str(small_weights(alignment="five_points")),
        images=str(tmp_path / "faces"),
        output=str(tmp_path / "out.npz"),
    )
    with pytest.raises(ValueError, match="ann/1.png is 150 x 150 px.*--landmarks=FILE"):
        run_here(**flags)
    run_here(landmarks=str(tmp_path / "list.txt"), **flags)
    crop = align(pixels, points, size=16)
    expected = load(small_weights(alignment="five_points"))(crop[None])
    stored = read(tmp_path / "out.npz")["embeddings"]
    np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)
    assert capsys.readouterr().err == ""


def test_landmarks_of_another_size_are_doubted(small_weights, noise, tmp_path, capsys):
    write(tmp_path / "faces" / "1.png", noise(150, 150, 3))
    numbers = " ".join(map(str, (TEMPLATE_112 * 2.0).ravel()))
    (tmp_path / "list.txt").write_text(f"1.png {numbers}\n")
    run_here(
        weights=str(small_weights(alignment="five_points")),
        images=str(tmp_path / "faces" / "1.png"),
        landmarks=str(tmp_path / "list.txt"),
        output=str(tmp_path / "out.npz"),
    )
    assert (
        "landmarks of 1 images lie outside of the image (first: 1.png)" in capsys.readouterr().err
    )
    assert read(tmp_path / "out.npz")["ids"].tolist() == ["1.png"]


def test_crops_of_the_networks_size_count_as_aligned(small_weights, noise, tmp_path):
    path = write(tmp_path / "crop.png", noise(16, 16, 3))
    weights = small_weights(alignment="five_points")
    run_here(weights=str(weights), images=str(path), output=str(tmp_path / "out.npz"))
    expected = load(weights)(np.asarray(Image.open(path))[None])
    stored = read(tmp_path / "out.npz")
    np.testing.assert_allclose(stored["embeddings"], expected, rtol=1e-5, atol=1e-6)
    assert stored["ids"].tolist() == ["crop.png"]


def test_what_is_no_image_is_named_before_anything_is_computed(
    folder, small_weights, tmp_path, capsys
):
    (folder / "notes.txt").write_text("ann is at the left")
    flags = dict(weights=str(small_weights()), images=str(folder), output=str(tmp_path / "out.npz"))
    with pytest.raises(ValueError, match="1 of 4 files .* notes.txt .it is not an image"):
        run_here(**flags)
    assert not (tmp_path / "out.npz").exists()
    run_here(skip_unreadable=True, **flags)
    assert read(tmp_path / "out.npz")["ids"].tolist() == ["a.png", "b/a.ppm", "b/grey.png"]
    assert "left out: notes.txt: it is not an image" in capsys.readouterr().err


def test_an_image_without_landmarks_is_left_out_when_that_is_wanted(
    small_weights, noise, tmp_path, capsys
):
    for name in ("1.png", "2.png"):
        write(tmp_path / "faces" / name, noise(112, 112, 3))
    numbers = " ".join(map(str, TEMPLATE_112.ravel()))
    (tmp_path / "list.txt").write_text(f"2.png {numbers}\n")
    flags = dict(
        weights=str(small_weights(alignment="five_points")),
        images=str(tmp_path / "faces"),
        landmarks=str(tmp_path / "list.txt"),
        output=str(tmp_path / "out.npz"),
    )
    with pytest.raises(ValueError, match="1.png .*list.txt has no line for it"):
        run_here(**flags)
    run_here(skip_unreadable=True, **flags)
    assert read(tmp_path / "out.npz")["ids"].tolist() == ["2.png"]
    assert "left out: 1.png" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_image_costs_the_others_nothing(
    folder, small_weights, tmp_path, noise, entry_point, capsys
):
    damaged(folder / "a1.jpg", noise(64, 64, 3))
    weights, output = small_weights(), tmp_path / "out.npz"
    finished = entry_point(
        "embed", f"--weights={weights}", f"--images={folder}", f"--output={output}", code=1
    )
    assert "1 of 4 images are damaged and not in" in finished.stderr
    assert "a1.jpg (" in finished.stderr
    kept = ["a.png", "b/a.ppm", "b/grey.png"]
    stored = read(output)
    assert stored["ids"].tolist() == kept
    run_here(weights=str(weights), images=str(folder), output=str(output), skip_unreadable=True)
    assert "left out: a1.jpg: " in capsys.readouterr().err
    # Another process may compile the network otherwise.
    again = read(output)
    assert again["ids"].tolist() == kept
    np.testing.assert_allclose(again["embeddings"], stored["embeddings"], rtol=1e-4, atol=1e-5)


def test_nothing_is_written_where_no_image_is_sound(small_weights, tmp_path, noise):
    damaged(tmp_path / "a.jpg", noise(64, 64, 3))
    with pytest.raises(ValueError, match="no image of .*a.jpg can be embedded: a.jpg"):
        run_here(
            weights=str(small_weights()),
            images=str(tmp_path / "a.jpg"),
            output=str(tmp_path / "out.npz"),
        )
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (dict(images=None), ValueError, "--images is missing"),
        (dict(output=None), ValueError, "--output is missing"),
        (dict(weights=None), ValueError, "name one network: --weights=FILE"),
        (dict(checkpoint="runs/x"), ValueError, "name one network"),
        (dict(point="arcface"), ValueError, "--point has no effect with --weights"),
        (dict(output="{}"), ValueError, "is a directory; name a file in it"),
        (dict(output="{}/faces/a.png/out.npz"), ValueError, "cannot be written"),
        (dict(weights="{}/faces/a.png"), ValueError, "neither safetensors, nor a PyTorch file"),
        (dict(weights="{}"), ValueError, "a finished point is named by --checkpoint"),
        (dict(weights="{}/none.safetensors"), OSError, "No such file"),
        (dict(landmarks="{}/none.txt"), OSError, "No such file"),
        (dict(landmarks="{}/faces/a.png"), ValueError, "the network takes images as they are"),
        (dict(checkpoint="{}", weights=None), OSError, "is no sweep: it has no sweep.json"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(flags, error, message, folder, small_weights, tmp_path):
    given = {
        name: value and value.format(tmp_path)
        for name, value in (
            dict(weights=str(small_weights()), images=str(folder), output="{}/out.npz") | flags
        ).items()
    }
    with pytest.raises(error, match=message):
        run_here(**given)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images={}/fces"], "fces does not exist; did you mean"),
        (["--images={}/faces", "--batch_size=0"], "--batch_size"),
        (["--images={}/faces", "--image=x"], "Did you mean: images"),
        (["--images={}/faces", "surplus"], "unexpected argument 'surplus'"),
        (["--images={}/faces", "--workdir=x"], "--workdir has no effect here"),
    ],
)
def test_a_mistake_ends_in_one_line(words, message, folder, small_weights, tmp_path, entry_point):
    flags = [f"--weights={small_weights()}", f"--output={tmp_path / 'out.npz'}"]
    words = [word.format(tmp_path) for word in words]
    output = entry_point("embed", *flags, *words, code=2).stderr
    assert message in output
    assert len(output.strip().splitlines()) == 1


def test_help_names_every_flag(help_of):
    text, flags = help_of("embed")
    assert "python -m experiments.embed --weights=FILE --images=DIR --output=" in text
    network = {"weights", "checkpoint", "point", "colors", "mean", "std"}
    assert flags == network | {"images", "landmarks", "skip_unreadable", "batch_size", "output"}
    assert all(f"--{flag}" in text for flag in flags)


def test_an_embedding_that_is_not_finite_is_named(folder, small_embedder, tmp_path):
    embedder = small_embedder()
    kernel = embedder.model.conv1.kernel
    kernel[...] = kernel[...].at[0].set(np.nan)
    save(embedder, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="image 'a.png' is not finite .3 of 3 are not"):
        run_here(
            weights=str(tmp_path / "nan.safetensors"),
            images=str(folder),
            output=str(tmp_path / "out.npz"),
        )
    assert not (tmp_path / "out.npz").exists()
