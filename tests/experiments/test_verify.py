"""Two images compared from the command line."""

import math
import tarfile

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

from arcface_jax.convert import load
from arcface_jax.data import align
from arcface_jax.data.alignment import TEMPLATE_112
from arcface_jax.evaluation import listed_impostor_scores
from experiments import verify


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def run_here(*images, **flags):
    """The entry point in this process."""
    with flagsaver.flagsaver(**{name: str(value) for name, value in flags.items()}):
        verify.main(["verify", *map(str, images)])


def cosine(a, b):
    dot = math.fsum(p * q for p, q in zip(a.tolist(), b.tolist(), strict=True))
    return dot / math.hypot(*a.tolist()) / math.hypot(*b.tolist())


@pytest.fixture
def two(noise, tmp_path):
    """Two images of the network's size, and a third that is as the first."""
    a, b = noise(16, 16, 3), noise(16, 16, 3)
    return [write(tmp_path / f"{n}.png", x) for n, x in (("a", a), ("b", b), ("again", a))]


def printed(capsys):
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}


def expected_cosine(weights, paths):
    return cosine(*load(weights)(np.stack([np.asarray(Image.open(p)) for p in paths])))


def test_similarity_and_angle_are_those_of_the_embeddings(two, small_weights, capsys):
    weights = small_weights()
    run_here(*two[:2], weights=weights)
    said = printed(capsys)
    expected = expected_cosine(weights, two[:2])
    assert float(said["similarity"]) == pytest.approx(expected, abs=6e-5)
    degrees = math.degrees(math.acos(expected))
    assert said["angle"] == f"{degrees:.1f} deg"
    assert "no impostor scores are stored" in said["FAR"] and "--save_weights" in said["FAR"]


def test_an_image_is_as_itself(two, small_weights, capsys):
    for first, second in ((two[0], two[0]), (two[0], two[2])):
        run_here(first, second, weights=small_weights())
        said = printed(capsys)
        assert said["similarity"] == "1.0000" and float(said["angle"].split()[0]) < 0.1


def test_the_far_is_that_of_the_stored_impostors(two, small_weights, capsys):
    similarity = expected_cosine(small_weights(), two[:2])
    # Half a per cent on either side is well beyond a bin and a rounding.
    below, above = similarity - 0.005, similarity + 0.005
    for cosines, line in (
        ([below, below, below, above], "0.25  (at this threshold; 4 impostor pairs: strangers)"),
        ([below] * 5, "< 0.2  (none as similar; 5 impostor pairs: strangers)"),
    ):
        scores = listed_impostor_scores(cosines, source="strangers")
        run_here(*two[:2], weights=small_weights(impostors=scores, name="scored"))
        assert printed(capsys)["FAR"] == line


def test_landmarks_align_the_originals(small_weights, noise, tmp_path, capsys):
    weights = small_weights(alignment="five_points")
    lines, crops = [], []
    for name, factor in (("a.png", 0.9), ("b.png", 1.1)):
        pixels, points = noise(150, 150, 3), TEMPLATE_112 * factor + [10.0, 5.0]
        write(tmp_path / name, pixels)
        lines.append(f"{name} {' '.join(map(repr, points.ravel().tolist()))}")
        crops.append(align(pixels, points, size=16))
    (tmp_path / "list.txt").write_text("\n".join(lines))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(ValueError, match="a.png is 150 x 150 px.*--landmarks=FILE"):
        run_here(*paths, weights=weights)
    run_here(*paths, weights=weights, landmarks=tmp_path / "list.txt")
    expected = cosine(*load(weights)(np.stack(crops)))
    assert float(printed(capsys)["similarity"]) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(
    ("images", "flags", "error", "message"),
    [
        (["a.png"], {}, ValueError, "name two images, got 1"),
        (["a.png"] * 3, {}, ValueError, "name two images, got 3"),
        (["a.png", "none.png"], {}, OSError, "none.png"),
        (["a.png", "text.png"], {}, ValueError, "text.png: it is not an image"),
        (["a.png", "half.jpg"], {}, ValueError, "half.jpg: the image is damaged"),
        (["a.png", "b.png"], dict(landmarks="none.txt"), OSError, "none.txt"),
        (["a.png", "b.png"], dict(weights="text.png"), ValueError, "neither safetensors"),
    ],
)
def test_mistakes_are_refused(images, flags, error, message, two, small_weights, tmp_path, noise):
    (tmp_path / "text.png").write_text("some longer text")
    data = write(tmp_path / "half.jpg", noise(64, 64, 3)).read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    given = {name: tmp_path / value for name, value in flags.items()}
    with pytest.raises(error, match=message):
        run_here(*(tmp_path / name for name in images), **{"weights": small_weights()} | given)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{}/a.png", "{}/c.png"], "c.png does not exist; did you mean"),
        (["{}/a.png", "{}/b.png", "--weight=x"], "Did you mean: weights"),
        (["{}/a.png", "{}/b.png", "--data_dir=x"], "--data_dir has no effect here"),
    ],
)
def test_a_mistake_ends_in_one_line(words, message, two, small_weights, tmp_path, entry_point):
    words = [word.format(tmp_path) for word in words]
    output = entry_point("verify", f"--weights={small_weights()}", *words, code=2).stderr
    assert message in output
    assert len(output.strip().splitlines()) == 1


def test_help_names_every_flag(help_of):
    text, flags = help_of("verify")
    assert "python -m experiments.verify A.jpg B.jpg --weights=FILE" in text
    assert flags == {"weights", "checkpoint", "point", "colors", "mean", "std", "landmarks"}
    assert all(f"--{flag}" in text for flag in flags)


@pytest.mark.slow
def test_published_weights_tell_two_photographs_of_lfw(data_dir, tmp_path, capsys):
    """The first pair of pairs.txt, which another program scored 0.62964."""
    pytest.importorskip("onnx")
    names = [f"Abel_Pacheco/Abel_Pacheco_{number}.jpg" for number in ("0001", "0004")]
    lines = (data_dir / "lfw" / "lfw_landmark.txt").read_text().splitlines()
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in lines}
    paths = []
    with tarfile.open(data_dir / "lfw" / "lfw.tgz", "r|gz") as archive:
        for member in archive:
            name = member.name.removeprefix("lfw/")
            if name in names:
                paths.append(tmp_path / name)
                paths[-1].parent.mkdir(exist_ok=True)
                file = archive.extractfile(member)
                assert file is not None
                paths[-1].write_bytes(file.read())
            if len(paths) == len(names):
                break
    # Its numbers are px of the 250 px originals, and these have 150.
    scaled = [f"{name} {' '.join(str(float(x) * 0.6) for x in rows[name])}" for name in names]
    (tmp_path / "list.txt").write_text("\n".join(scaled))
    weights = data_dir / "weights" / "mobilefacenet_foamliu" / "MobileFaceNet.onnx"
    run_here(*paths, weights=weights, landmarks=tmp_path / "list.txt")
    assert printed(capsys)["similarity"] == "0.6296"
