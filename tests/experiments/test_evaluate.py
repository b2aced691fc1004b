"""Networks on benchmarks from the command line: weight files, and points of a sweep."""

import dataclasses
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

from arcface_jax.convert import load, save, save_torch
from arcface_jax.evaluation import evaluate_open_set, evaluate_pairs, impostor_scores
from arcface_jax.models import Preprocessing
from experiments import evaluate
from experiments.benchmark_images import load_benchmark
from experiments.finished_point import find_point, restore, saved_settings
from experiments.sweep import run_sweep
from experiments.trained_network import network_of_file, network_of_point

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.py")
PEOPLE = [f"P{k:02d}" for k in range(20)]


def run_here(**flags):
    """The entry point in this process; what --output holds is returned."""
    given = {name: str(v) if isinstance(v, Path) else v for name, v in flags.items()}
    with flagsaver.flagsaver(**given):
        evaluate.main(["evaluate"])
    output = flags.get("output")
    return json.loads((output / "result.json").read_text()) if output else None


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Twenty people of two images each, named as in LFW: noise, alike within a person."""
    root = tmp_path_factory.mktemp("people") / "faces"
    rng = np.random.default_rng(0)
    for name in PEOPLE:
        (root / name).mkdir(parents=True)
        own = rng.integers(0, 256, (16, 16, 3))
        for number in (1, 2):
            pixels = np.clip(own + rng.integers(-50, 51, own.shape), 0, 255).astype(np.uint8)
            # Without loss, whatever the ending says.
            Image.fromarray(pixels).save(root / name / f"{name}_{number:04d}.jpg", "PNG")
    return root


@pytest.fixture(scope="module")
def pair_list(people):
    """Ten folds of one genuine and one impostor pair."""
    lines = ["10\t1"]
    for fold in range(10):
        first, second = PEOPLE[2 * fold : 2 * fold + 2]
        lines += [f"{first}\t1\t2", f"{first}\t1\t{second}\t2"]
    path = people.parent / "pairs.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def pixels_of(people, names):
    return np.stack([np.asarray(Image.open(people / name)) for name in names])


def names_of(people):
    return sorted(path.relative_to(people).as_posix() for path in people.rglob("*.jpg"))


def test_listed_pairs_are_scored_and_recorded(people, pair_list, small_weights, tmp_path, capsys):
    weights = small_weights()
    result = run_here(
        weights=weights,
        benchmark=str(people),
        pairs=str(pair_list),
        output=tmp_path / "out",
        embeddings=True,
        batch_size=7,
    )
    # Of every second person the second image alone is named, so it is 30 of the 40.
    named = [name for name in names_of(people) if int(name[1:3]) % 2 == 0 or "_0002" in name]
    embeddings = load(weights)(pixels_of(people, named))
    labels = np.array([int(name[1:3]) for name in named])
    place = {name: k for k, name in enumerate(named)}
    first, second = [], []
    for fold in range(10):
        a, b = PEOPLE[2 * fold : 2 * fold + 2]
        first += [place[f"{a}/{a}_0001.jpg"]] * 2
        second += [place[f"{a}/{a}_0002.jpg"], place[f"{b}/{b}_0002.jpg"]]
    pairs = (np.array(first), np.array(second), np.arange(20) % 2 == 0, np.arange(20) // 2)
    expected = evaluate_pairs(embeddings, labels, pairs)
    assert result["metrics"] == pytest.approx(expected.metrics, abs=1e-4)
    assert result["thresholds"] == pytest.approx(expected.ten_fold.thresholds.tolist())
    assert result["benchmark"] == {
        "name": str(people),
        "images": 30,
        "identities": 20,
        "pair_list": "pairs.txt",
        "genuine_pairs": 10,
        "impostor_pairs": 10,
    }
    assert Preprocessing.from_json(result["preprocessing"]) == Preprocessing(size=16)
    assert result["network"]["weights"] == "small.safetensors"
    assert result["network"]["config"]["type"] == "IResNet"
    assert len(result["network"]["sha256"]) == 64 and result["versions"]["jax"]
    with np.load(tmp_path / "out" / "embeddings.npz") as stored:
        assert stored["ids"].tolist() == named
        np.testing.assert_allclose(stored["embeddings"], embeddings, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(stored["labels"], labels)
    said = capsys.readouterr().out
    assert f"10-fold accuracy            {100 * expected.ten_fold.accuracy:.3f} %" in said
    assert f"AUC                         {expected.auc:.6f}" in said
    assert "note: tar_at_far_1e-2: below the resolution of 10 impostor pairs" in said


def test_saved_weights_hold_the_impostors_of_all_images(people, small_weights, tmp_path):
    weights, target = small_weights(), tmp_path / "made" / "scored.safetensors"
    run_here(weights=weights, benchmark=str(people), save_weights=target, resamples=0)
    plain, scored = load(weights), load(target)
    images = pixels_of(people, names_of(people))
    embeddings = plain(images)
    np.testing.assert_array_equal(scored(images), embeddings)
    assert scored.preprocessing == plain.preprocessing
    labels = np.repeat(np.arange(20), 2)
    assert scored.impostors is not None
    # 40 * 39 / 2 pairs less the 20 genuine ones.
    assert scored.impostors.pairs == 760
    expected = impostor_scores(embeddings, labels)
    # A cosine on the edge of a bin may fall on either side in another batch.
    for similarity in np.linspace(-1.0, 1.0, 21):
        near = [expected.far(np.clip(similarity + d, -1.0, 1.0)) for d in (1e-3, -1e-3)]
        assert near[0] <= scored.impostors.far(similarity) <= near[1]
    assert "among 40 images of 20" in scored.impostors.source


def test_all_pairs_of_a_directory_are_the_open_set_numbers(people, small_weights, tmp_path, capsys):
    weights = small_weights()
    result = run_here(weights=weights, benchmark=str(people), output=tmp_path / "out", resamples=20)
    embeddings = load(weights)(pixels_of(people, names_of(people)))
    labels = np.repeat(np.arange(20), 2)
    expected = evaluate_open_set(embeddings, labels, resamples=20, seed=0)
    assert result["metrics"] == pytest.approx(expected.metrics, abs=1e-4)
    assert result["pairs"] == {"genuine": 20, "impostor": 760}
    assert set(result["intervals"]) == set(expected.intervals)
    said = capsys.readouterr().out
    assert "all pairs: 20 genuine and 760 impostor" in said
    assert f"EER %                       {100 * expected.metrics['eer']:8.2f}  [" in said


@pytest.mark.parametrize("flip", ["add", "add_unit"])
def test_flip_changes_the_contract_and_the_numbers(
    flip, people, small_weights, tmp_path, small_embedder
):
    scores = impostor_scores(np.eye(3), np.arange(3))
    weights = small_weights(impostors=scores, name="unflipped")
    result = run_here(
        weights=weights,
        benchmark=str(people),
        flip=flip,
        resamples=0,
        output=tmp_path / "out",
        embeddings=True,
    )
    assert result["preprocessing"]["flip"] == flip
    images = pixels_of(people, names_of(people))
    with np.load(tmp_path / "out" / "embeddings.npz") as stored:
        found = stored["embeddings"]
    expected = small_embedder(flip=flip)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - load(weights)(images)).max() > 1e-3


def test_a_file_that_does_not_say_is_read_as_the_command_says(people, small_embedder, tmp_path):
    expected = small_embedder(colors="BGR", mean=(0.0,), std=(255.0,), alignment="five_points")
    save_torch(expected.model, tmp_path / "magface.pt")
    result = run_here(
        weights=tmp_path / "magface.pt",
        benchmark=str(people),
        colors="BGR",
        mean=["0"],
        std=["255"],
        resamples=0,
        output=tmp_path / "out",
        embeddings=True,
    )
    assert Preprocessing.from_json(result["preprocessing"]) == expected.preprocessing
    with np.load(tmp_path / "out" / "embeddings.npz") as stored:
        images = expected(pixels_of(people, stored["ids"]))
        np.testing.assert_allclose(stored["embeddings"], images, rtol=1e-4, atol=1e-5)


def test_impostor_scores_do_not_outlive_another_flip(small_weights):
    scores = impostor_scores(np.eye(3), np.arange(3))
    network = network_of_file(small_weights(impostors=scores, name="unflipped"))
    assert network.with_flip("none").embedder.impostors is not None
    assert network.with_flip("add").embedder.impostors is None


def test_an_embedding_that_is_not_finite_is_named(people, small_embedder, tmp_path):
    embedder = small_embedder()
    kernel = embedder.model.conv1.kernel
    kernel[...] = kernel[...].at[0].set(jnp.nan)
    save(embedder, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="image 'P00/P00_0001.jpg' is not finite .40 of 40"):
        run_here(
            weights=tmp_path / "nan.safetensors", benchmark=str(people), output=tmp_path / "out"
        )
    assert not (tmp_path / "out" / "result.json").exists()


def test_pairs_without_an_image_are_left_out_and_said(people, pair_list, small_weights, tmp_path):
    text = pair_list.read_text().replace("P00\t1\t2", "P00\t1\t9")
    (tmp_path / "list.txt").write_text(text)
    result = run_here(
        weights=small_weights(),
        benchmark=str(people),
        pairs=str(tmp_path / "list.txt"),
        output=tmp_path / "out",
    )
    assert result["benchmark"]["genuine_pairs"] == 9
    assert "1 of 20 pairs of list.txt are left out" in result["notes"][0]
    assert "P00/P00_0009.jpg" in result["notes"][0]


def test_crops_in_a_directory_are_aligned_if_they_have_the_size(people, small_weights, tmp_path):
    weights = small_weights(alignment="five_points", name="faces")
    run_here(weights=weights, benchmark=str(people), resamples=0)
    big = tmp_path / "big"
    for name in names_of(people)[:4]:
        (big / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(people / name).resize((20, 24)).save(big / name, "PNG")
    with pytest.raises(ValueError, match="at 16 px, and P00/P00_0001.jpg is 20 x 24 px"):
        run_here(weights=weights, benchmark=str(big), resamples=0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def point(prepared, tmp_path_factory):
    """The directory of a finished point, trained with mirrored images in its evaluation."""
    workdir = tmp_path_factory.mktemp("run")
    config = runpy.run_path(str(TINY))["get_config"]()
    config.evaluation.flip = "add"
    assert run_sweep(config, [{}], workdir, data_dir=str(prepared))
    return workdir / "points" / "point"


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_as_its_own_run_did(point, prepared, tmp_path):
    result = run_here(
        checkpoint=point,
        benchmark="synthetic_faces",
        data_dir=prepared,
        resamples=10,
        output=tmp_path / "out",
    )
    recorded = json.loads((point / "result.json").read_text())
    # Six steps move little, so that pairs may lie close together: a rate moves by one of them.
    assert result["metrics"] == pytest.approx(recorded["metrics"], abs=2e-3)
    assert result["pairs"] == recorded["pairs"]
    assert result["preprocessing"]["flip"] == "add"
    assert result["network"]["step"] == 6
    assert result["network"]["margin"] == "arcface"


@pytest.mark.slow
def test_a_checkpoints_network_is_the_trained_one(point, noise):
    network = network_of_point(point.parent.parent)
    directory, record = find_point(point)
    settings = saved_settings(record)
    program, state = restore(directory, settings, num_classes=12, aligned=False)
    images = noise(4, 16, 16, 3)
    expected = np.asarray(program.embed(state, images))
    np.testing.assert_allclose(network.embedder(images), expected, rtol=1e-4, atol=1e-6)
    assert network.embedder.preprocessing == program.config.contract
    assert network.data == settings.data


@pytest.mark.slow
def test_a_point_that_does_not_say_its_classes_is_refused(point, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(point.parent.parent, copy)
    run = copy / "points" / "point" / "run.json"
    run.write_text(json.dumps({"dataset": {}}))
    with pytest.raises(ValueError, match="run.json does not say how many identities"):
        network_of_point(copy)


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused_in_one_line(point, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(point.parent.parent, copy)
    path = copy / "points" / "point" / "config.json"
    config = json.loads(path.read_text())
    config["model"]["depths"] = [1, 2]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="was written by another version") as caught:
        network_of_point(copy)
    assert len(str(caught.value)) < 400


@pytest.mark.slow
def test_identities_that_were_trained_on_are_refused(point, prepared, people):
    network = network_of_point(point)
    contract, data = network.embedder.preprocessing, network.data
    assert data is not None
    places = {"data_dir": str(prepared), "manual_dir": None}
    unseen = load_benchmark("synthetic_faces", contract, trained_on=data, **places)
    assert unseen.dataset.num_classes == 24
    on_test = dataclasses.replace(data, train="test")
    with pytest.raises(ValueError, match="share 24 identities"):
        load_benchmark("synthetic_faces", contract, trained_on=on_test, **places)
    # A directory inside the one that was trained on.
    folder = dataclasses.replace(data, name=str(people.parent), train="faces", options=())
    with pytest.raises(ValueError, match="share 20 identities"):
        load_benchmark(str(people), contract, trained_on=folder, **places)
    # Of another data set a name is another person's.
    elsewhere = dataclasses.replace(data, name="orl")
    assert load_benchmark(str(people), contract, trained_on=elsewhere, **places).notes == ()


@pytest.mark.slow
def test_a_network_of_aligned_faces_asks_whether_these_are(point, prepared):
    data = network_of_point(point).data
    contract = Preprocessing(size=16, alignment="five_points")
    places = {"data_dir": str(prepared), "manual_dir": None}
    with pytest.raises(ValueError, match="synthetic_faces does not say .* add --aligned"):
        load_benchmark("synthetic_faces", contract, trained_on=data, **places)
    said = load_benchmark("synthetic_faces", contract, trained_on=data, aligned=True, **places)
    assert len(said.dataset) == 96


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (dict(benchmark=None), ValueError, "--benchmark is missing"),
        (
            dict(benchmark="lfw_dve"),
            ValueError,
            "unknown benchmark 'lfw_dve'.*Did you mean lfw_dev",
        ),
        (dict(benchmark="lfw", pairs="pair"), ValueError, "neither a list of LFW.*Did you mean"),
        (dict(pairs="{}/none.txt"), OSError, "none.txt"),
        (dict(pairs="{}/notes.txt"), ValueError, "notes.txt, line 1: expected"),
        (dict(weights=None), ValueError, "name one network"),
        (dict(weights="{}/notes.txt"), ValueError, "neither safetensors"),
        (dict(weights="{}"), ValueError, "a finished point is named by --checkpoint"),
        (dict(colors="BGR"), ValueError, "another contract gives other numbers"),
        (dict(mean=["0", "x"]), ValueError, "--mean=0,x must be one number, or three"),
        (dict(std=["1", "2"], weights="{}/own.pt"), ValueError, "one for each of 3 channels"),
        (
            dict(weights=None, checkpoint="{}", std=["255"]),
            ValueError,
            "--std say what images a weight file wants; a checkpoint knows",
        ),
        (dict(embeddings=True), ValueError, "--embeddings are written to --output"),
        (dict(output="{}/notes.txt/below"), ValueError, "--output=.* cannot be written"),
        (dict(save_weights="{}"), ValueError, "is a directory; name a file"),
        (dict(save_weights="{}/notes.txt"), ValueError, "neither safetensors"),
        (dict(save_weights="{}/torch.pt"), ValueError, "exists and is no safetensors file"),
        (
            dict(save_weights="{}/notes.txt/below"),
            ValueError,
            "--save_weights=.* cannot be written",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(
    flags, error, message, people, small_weights, small_embedder, tmp_path, prepared
):
    (tmp_path / "notes.txt").write_text("some longer text")
    (tmp_path / "torch.pt").write_bytes(b"PK and what follows")
    save_torch(small_embedder().model, tmp_path / "own.pt")
    given = dict(weights=str(small_weights()), benchmark=str(people)) | {
        name: value.format(tmp_path) if isinstance(value, str) else value
        for name, value in flags.items()
    }
    with flagsaver.flagsaver(**given), pytest.raises(error, match=message):
        evaluate.main(["evaluate"])
    assert (tmp_path / "torch.pt").read_bytes() == b"PK and what follows"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights={}/smal.safetensors"], "smal.safetensors does not exist; did you mean"),
        (["--benchmrk=lfw"], "Did you mean: benchmark"),
        (["--flip=both"], "--flip=both"),
        (["--config=experiments/configs/base.py"], "--config has no effect here"),
        (["--save_weights=/dev/null/x"], "cannot be written"),
    ],
)
def test_a_mistake_ends_in_one_line(words, message, people, small_weights, entry_point):
    weights = small_weights()
    words = [word.format(weights.parent) for word in words]
    flags = [f"--weights={weights}", f"--benchmark={people}"]
    output = entry_point("evaluate", *flags, *words, code=2).stderr
    assert message in output
    assert len(output.strip().splitlines()) == 1


def test_help_names_every_flag(help_of):
    text, flags = help_of("evaluate")
    assert "python -m experiments.evaluate --weights=FILE --benchmark=lfw" in text
    assert flags == {
        *(
            "weights",
            "checkpoint",
            "point",
            "colors",
            "mean",
            "std",
            "flip",
            "benchmark",
            "pairs",
            "aligned",
        ),
        *("batch_size", "resamples", "output", "embeddings", "save_weights"),
    }
    assert all(f"--{flag}" in text for flag in flags | {"data_dir", "manual_dir"})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_so_and_leaves_no_half_result(
    number, people, small_weights, tmp_path
):
    # Where the tests run in the background SIGINT is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output, weights = tmp_path / "out", tmp_path / "scored.safetensors"
    words = [f"--weights={small_weights()}", f"--benchmark={people}", f"--output={output}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.evaluate", *words, f"--save_weights={weights}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 100
    # It is made before the network is read, which takes seconds.
    while not output.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "stopped; the same command begins from the start" in said
    assert not weights.exists() and not list(output.glob("*.json"))


@pytest.fixture(scope="module")
def few_pairs(data_dir, tmp_path_factory):
    """Of each fold of LFW's pairs.txt the first two genuine and two impostor pairs."""
    rows = (data_dir / "lfw" / "pairs.txt").read_text().splitlines()[1:]
    lines, numbers = ["10\t2"], []
    for fold in range(0, 6000, 600):
        for start in (fold, fold + 300):
            lines += rows[start : start + 2]
            numbers += [start, start + 1]
    path = tmp_path_factory.mktemp("lfw") / "few.txt"
    path.write_text("\n".join(lines) + "\n")
    return path, numbers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileFaceNet.onnx", "mobilefacenet.pt"])
def test_published_weights_agree_with_another_program_on_lfw(
    name, data_dir, few_pairs, prepared, tmp_path
):
    """Embeddings and scores that onnxruntime gave, from crops that PIL made."""
    if name.endswith(".onnx"):
        pytest.importorskip("onnx")
    path, numbers = few_pairs
    result = run_here(
        weights=data_dir / "weights" / "mobilefacenet_foamliu" / name,
        benchmark="lfw",
        pairs=str(path),
        manual_dir=data_dir,
        data_dir=os.environ.get("ARCFACE_PREPARED_DIR") or prepared,
        batch_size=16,
        output=tmp_path / "out",
        embeddings=True,
    )
    with np.load(tmp_path / "out" / "embeddings.npz") as stored:
        ids, found = stored["ids"].tolist(), stored["embeddings"].astype(np.float64)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    reference = np.load(data_dir / "reference" / "lfw150_foamliu_onnxruntime.npz")
    place = {key: k for k, key in enumerate(reference["k"].tolist())}
    expected = reference["e"][[place[image] for image in ids]].astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert len(ids) > 60
    assert (1.0 - (found * expected).sum(axis=1)).max() < 1e-5
    scores = reference["s"][numbers].astype(np.float64)
    angles = np.degrees(np.arccos(scores))
    genuine = np.arange(40) % 4 < 2
    assert result["metrics"]["genuine_deg"] == pytest.approx(angles[genuine].mean(), abs=1e-3)
    assert result["metrics"]["impostor_deg"] == pytest.approx(angles[~genuine].mean(), abs=1e-3)
    assert result["preprocessing"]["alignment"] == "five_points"
