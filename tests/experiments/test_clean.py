"""The drop rule from the command line, and training on what it keeps."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from arcface_jax.analysis import drop_rule, subcenter_statistics
from arcface_jax.data import Dataset
from arcface_jax.data.faces.images import FaceOptions, draw_identities
from experiments.clean import clean
from experiments.cleaned_list import COLUMNS, keep_only, kept_ids, write_cleaned_list
from experiments.configs import base
from experiments.finished_point import find_point, saved_settings
from experiments.images import load_images
from experiments.settings import make_settings

ROOT = pathlib.Path(__file__).parents[2]
NOISY = pathlib.Path(__file__).parent / "noisy.py"


def run(module, *words, code=0, devices=1):
    finished = subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished


def write_point(workdir, *, checkpoint=True, **changes):
    """A point that says it has finished, without a network."""
    config = base.get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    directory = workdir / "points" / "point"
    directory.mkdir(parents=True)
    if checkpoint:
        (directory / "checkpoints").mkdir()
    sweep = {"config": config.to_dict(), "points": [{"name": "point", "overrides": {}}]}
    (workdir / "sweep.json").write_text(json.dumps(sweep))
    (directory / "config.json").write_text(config.to_json())
    (directory / "result.json").write_text('{"status": "finished"}')
    return workdir


def toy():
    return Dataset(
        name="toy/train",
        source=np.zeros((5, 2, 2, 1), np.uint8),
        labels=np.array([0, 0, 0, 1, 1]),
        identities=("ann, the first", "bob"),
        ids=("a1", "a2", 'a"3', "b1", "b2"),
    )


def toy_statistics():
    x = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    centers = [[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]
    return subcenter_statistics(x, toy().labels, centers)


def write_list(path, *lines):
    path.write_text("\n".join(["id,kept", *lines, ""]))
    return path


def test_a_list_is_read_as_it_was_written(tmp_path, capsys):
    statistics = toy_statistics()
    keep = drop_rule(statistics).keep
    path = tmp_path / "cleaned.csv"
    write_cleaned_list(path, toy(), statistics, keep, threshold_deg=75.0)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1] == {
        "id": "a2",
        "identity": "ann, the first",
        "kept": "true",
        "angle_deg": "6.340192",
        "subcenter": "1",
        "on_dominant": "true",
        "reason": "",
    }
    assert list(rows[2].values())[2:] == ["false", "90.000000", "0", "false", "beyond 75 degrees"]
    kept = kept_ids(path, toy())
    assert kept == {"a1", "a2"}
    cut = keep_only(toy(), kept)
    assert (cut.identities, cut.labels.tolist()) == (("ann, the first",), [0, 0])
    assert capsys.readouterr().err == (
        "data.keep: 2 of 5 training images stay; 1 of 2 identities have none left: bob.\n"
    )


def test_images_that_are_not_listed_are_left_out(tmp_path):
    path = write_list(tmp_path / "list.csv", "a1,True", "b1,true")
    assert keep_only(toy(), kept_ids(path, toy())).ids == ("a1", "b1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must name the columns id and kept"),
        ("id,angle\n", "line 1 must name the columns id and kept"),
        ("id,kept\na1,true\na2\n", "line 3: expected 2 values and kept true or false, got 'a2'"),
        ("id,kept\na1,1\n", "line 2: expected 2 values and kept true or false, got 'a1,1'"),
        ("id,kept\na1,true\na1,false\n", "line 3: image 'a1' is listed twice"),
        ("id,kept\nc1,true\n", "line 2: toy/train has no image 'c1' .its names look like 'a1'"),
        ("id,kept\na1,false\n", "keeps none of the 1 images that it lists"),
        ("id,kept\n", "keeps none of the 0 images"),
        ('id,kept\n"a1" x,"true\n', "line 2: not a CSV file|expected 2 values"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_its_line(text, message, tmp_path):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        kept_ids(tmp_path / "list.csv", toy())


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"id,kept\n\xff\xfe,true\n")
    with pytest.raises(ValueError, match="list.csv, line .: not a CSV file"):
        kept_ids(tmp_path / "list.csv", toy())


def test_a_list_of_other_identities_is_refused():
    with pytest.raises(ValueError, match="keeps no image of the training identities"):
        keep_only(toy(), frozenset({"elsewhere"}))


def folder(root, *, identities, images, planted=0):
    """Training faces, each directory with ``planted`` images of strangers; and test faces."""

    def drawn(first, count, images):
        options = FaceOptions(images=images, size=24, strength=0.5, seed=0)
        return draw_identities(range(first, first + count), options=options)

    strangers = (faces[0][0] for faces in drawn(5000, identities * planted, 1))
    for split, first, count, wrong in (("train", 0, identities, planted), ("test", 1000, 6, 0)):
        for index, faces in enumerate(drawn(first, count, images)):
            directory = root / split / f"face{first + index}"
            directory.mkdir(parents=True)
            for number, (png, _) in enumerate(faces):
                (directory / f"{number:02d}.png").write_bytes(png)
            for number in range(wrong):
                (directory / f"planted{number}.png").write_bytes(next(strangers))
    return root


def test_held_out_identities_are_the_same_with_and_without_a_list(tmp_path):
    data = folder(tmp_path / "faces", identities=6, images=2)
    listed = [
        f"face{k}/{i:02d}.png,{str(k > 0 or i > 0).lower()}" for k in range(6) for i in (0, 1)
    ]
    path = write_list(tmp_path / "list.csv", *listed)

    def sides(keep):
        config = base.get_config()
        changes = {"name": str(data), "size": 24, "evaluate_on": "validation", "keep": keep}
        config.data.update(changes | {"validation_fraction": 0.34})
        return load_images(make_settings(config).data, data_dir=None, manual_dir=None)

    whole, cut = sides(""), sides(str(path))
    assert cut.test.ids == whole.test.ids
    assert set(cut.train.ids) == set(whole.train.ids) - {"face0/00.png"}
    assert len(whole.train) == 8


def test_a_point_is_found_from_its_own_directory_or_the_sweeps(tmp_path):
    write_point(tmp_path, margin__name="subcenter_arcface", margin__k=2, scale=16.0)
    directory, point = find_point(tmp_path)
    assert find_point(directory) == (directory, point)
    settings = saved_settings(point)
    assert settings.margin.centers_per_class == 2
    assert settings.model.depths == (1, 1, 1, 1)


def test_a_run_on_more_devices_than_there_are_is_read_on_one(tmp_path):
    workdir = write_point(tmp_path, head__name="sharded", head__devices=8)
    config = json.loads((workdir / "points/point/config.json").read_text())
    config["head"]["devices"] = 10_000
    (workdir / "points/point/config.json").write_text(json.dumps(config))
    assert saved_settings(find_point(workdir)[1]).head.devices == 1


def test_settings_of_another_version_are_refused_in_one_line(tmp_path):
    write_point(tmp_path)
    path = tmp_path / "points/point/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"head": {**config["head"], "later": 1}}))
    with pytest.raises(ValueError, match="settings of point point are not understood.*later"):
        saved_settings(find_point(tmp_path)[1])
    path.write_text(json.dumps(config | {"margin": {"name": "growing"}}))
    with pytest.raises(ValueError, match="has the margin growing, which nothing here registers"):
        saved_settings(find_point(tmp_path)[1])


def test_points_that_cannot_be_cleaned_are_refused(write_sweep, tmp_path):
    workdir = write_sweep(tmp_path / "margins")
    with pytest.raises(ValueError, match="has 9 points; choose --point=norm_softmax_s32_seed0."):
        clean(workdir)
    with pytest.raises(FileNotFoundError, match="No such sweep directory"):
        clean(tmp_path / "margin")
    with pytest.raises(ValueError, match="unknown point 'norm'"):
        clean(workdir, point="norm")
    with pytest.raises(ValueError, match="arcface_m0.5_s64_seed0 has not finished: unfinished"):
        clean(workdir, point="arcface_m0.5_s64_seed0")
    with pytest.raises(ValueError, match="has not finished: diverged"):
        clean(workdir, point="sphereface_m1.35_s32_seed0")
    with pytest.raises(ValueError, match="is the directory of another point"):
        clean(workdir / "points" / "norm_softmax_s32_seed0", point="cosface_m0.35_s32_seed0")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; delete"):
        clean(workdir, point="norm_softmax_s32_seed0")


def test_an_empty_directory_of_checkpoints_is_refused(tmp_path):
    data = folder(tmp_path / "faces", identities=2, images=1)
    changes = {"data__name": str(data), "data__size": 24, "margin__name": "subcenter_arcface"}
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; delete"):
        clean(write_point(tmp_path / "run", **changes))


def test_help_shows_a_command_to_type():
    help_text = run("clean", "--help", code=1).stdout
    assert "python -m experiments.clean --workdir=" in help_text
    assert "--threshold_deg" in help_text and "--point" in help_text


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        (dict(margin__name="arcface"), [], "margin arcface with one centre per class"),
        (dict(margin__name="subcenter_arcface", checkpoint=False), [], "holds no checkpoint"),
        (dict(margin__name="subcenter_arcface"), ["--output={}/file/below"], "cannot be written"),
        (dict(), ["--threshold_deg=200"], "--threshold_deg=200"),
        (dict(), ["--config=experiments/configs/base.py"], "--config has no effect here"),
    ],
)
def test_a_mistake_ends_in_one_line_that_helps(changes, words, message, tmp_path):
    write_point(tmp_path / "run", **changes)
    (tmp_path / "file").touch()
    words = [f"--workdir={tmp_path / 'run'}", *(word.format(tmp_path) for word in words)]
    output = run("clean", *words, code=2).stderr
    assert message in output
    assert len(output.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """(data, workdir, output): ten faces, 4 of 20 images of each a stranger's, cleaned.

    Trained on three devices, which ten classes do not divide over; cleaned on one.
    """
    data = folder(tmp_path_factory.mktemp("noisy") / "faces", identities=10, images=16, planted=4)
    workdir = data.parent / "run"
    run(
        "train",
        f"--config={NOISY}",
        f"--config.data.name={data}",
        "--config.head.name=sharded",
        "--config.head.devices=3",
        f"--workdir={workdir}",
        devices=3,
    )
    return data, workdir, run("clean", f"--workdir={workdir}").stdout


@pytest.mark.slow
def test_planted_images_are_dropped_and_clean_ones_stay(noisy):
    _, workdir, output = noisy
    folder = workdir / "points" / "point" / "cleaned"
    with (folder / "cleaned.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    planted = np.array(["planted" in row["id"] for row in rows])
    dropped = np.array([row["kept"] == "false" for row in rows])
    angle = np.array([float(row["angle_deg"]) for row in rows])
    assert planted.sum() == 40 and len(rows) == 200
    assert dropped[planted].mean() > 0.4
    assert dropped[~planted].mean() < 0.03
    assert angle[planted].mean() > angle[~planted].mean() + 25.0
    np.testing.assert_array_equal(dropped, angle >= 75.0)
    summary = json.loads((folder / "summary.json").read_text())
    assert sum(summary["dropped"].values()) == dropped.sum()
    assert summary["statistics"]["centers_per_class"] == 3
    assert summary["command"].startswith("python -m experiments.clean --workdir=")
    assert (folder / "angles.png").read_bytes().startswith(b"\x89PNG")
    assert f"all{200:30}{200 - dropped.sum():10}{dropped.sum():10}" in output
    assert f"--config.data.keep={folder / 'cleaned.csv'}" in output


@pytest.mark.slow
def test_arcface_trains_on_what_is_kept(noisy, tmp_path):
    data, workdir, _ = noisy
    path = workdir / "points" / "point" / "cleaned" / "cleaned.csv"
    finished = run(
        "train",
        f"--config={NOISY}",
        f"--config.data.name={data}",
        f"--config.data.keep={path}",
        "--config.margin.name=arcface",
        "--config.steps=2",
        "--config.schedule.warmup=1",
        f"--workdir={tmp_path}",
    )
    with path.open(newline="") as file:
        kept = sum(row["kept"] == "true" for row in csv.DictReader(file))
    assert f"data.keep: {kept} of 200 training images stay" in finished.stderr
    record = json.loads((tmp_path / "points" / "point" / "run.json").read_text())
    assert record["dataset"]["train"]["images"] == kept


@pytest.mark.slow
def test_a_list_of_other_data_is_refused_in_one_line(noisy, tmp_path):
    data, _, _ = noisy
    path = write_list(tmp_path / "list.csv", "face0/00.png,true", "face77/00.png,true")
    output = run(
        "train",
        f"--config={NOISY}",
        f"--config.data.name={data}",
        f"--config.data.keep={path}",
        f"--workdir={tmp_path}",
        code=2,
    ).stderr
    assert "list.csv, line 3: train has no image 'face77/00.png'" in output
    assert len(output.strip().splitlines()) == 1
