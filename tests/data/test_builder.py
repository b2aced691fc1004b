import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from arcface_jax.data import builder, load
from arcface_jax.data.builder import Example, ImageBuilder, open_split, prepare
from arcface_jax.data.decode import ImageDecoder


class Tiny(ImageBuilder, skip_registration=True):
    """Two images, made without originals."""

    name = "tiny"
    CHANNELS = 1
    LANDMARKS = True
    NUISANCES = ("yaw", "blur")
    break_after = None

    @classmethod
    def examples(cls, config, manual_dir):
        def make():
            for k, identity in enumerate(("ann", "bob", "ann")):
                if k == cls.break_after:
                    raise KeyboardInterrupt
                yield Example(
                    image=b"P5 2 1 255 " + bytes([k, 9]),
                    identity=identity,
                    id=f"{identity}/{k}",
                    landmarks=np.full((5, 2), 1 / 3 + k),
                    nuisances={"yaw": 0.25 * k, "blur": 1.0},
                )

        return {"train": make}


def test_records_come_back_as_written(tmp_path):
    directory = prepare(Tiny, data_dir=tmp_path)
    data = open_split(directory, name="tiny", split="train", decoder=ImageDecoder())
    assert data.name == "tiny/train" and data.identities == ("ann", "bob")
    assert data.labels.tolist() == [0, 1, 0] and data.ids == ("ann/0", "bob/1", "ann/2")
    assert data.images()[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.nuisances["yaw"].tolist() == [0.0, 0.25, 0.5]


def test_nothing_needs_tensorflow(tmp_path):
    prepare(Tiny, data_dir=tmp_path)
    assert "tensorflow" not in sys.modules


def test_landmarks_keep_every_bit(tmp_path):
    seen = []

    def decoder(record):
        seen.append(record["landmarks"])
        return np.zeros((1, 1, 1), np.uint8)

    directory = prepare(Tiny, data_dir=tmp_path)
    open_split(directory, name="tiny", split="train", decoder=decoder).images([2])
    np.testing.assert_array_equal(seen[0], np.full((5, 2), 1 / 3 + 2))


def test_tfds_alone_reads_what_was_written(tmp_path):
    reader = tfds.builder_from_directory(builder_dir=prepare(Tiny, data_dir=tmp_path))
    source = reader.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    record = source[1]
    assert len(source) == 3 and record["image"] == b"P5 2 1 255 \x01\x09"
    assert (record["label"], record["identity"], record["id"]) == (1, b"bob", b"bob/1")
    assert record["nuisances"] == {"yaw": 0.25, "blur": 1.0}


def test_an_open_data_set_can_be_sent_to_another_process(tmp_path):
    directory = prepare(Tiny, data_dir=tmp_path)
    data = open_split(directory, name="tiny", split="train", decoder=ImageDecoder())
    sent = pickle.dumps(data)
    assert len(sent) < 5000
    np.testing.assert_array_equal(pickle.loads(sent).images(), data.images())


def test_a_build_that_is_cut_off_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(Tiny, "break_after", 2)
    with pytest.raises(KeyboardInterrupt):
        prepare(Tiny, data_dir=tmp_path)
    assert not list(tmp_path.rglob("dataset_info.json"))
    monkeypatch.setattr(Tiny, "break_after", None)
    # What a killed process leaves behind.
    left = tmp_path / "tiny" / "incomplete.ABC123_1.0.0"
    left.mkdir(parents=True)
    (left / "tiny-train.array_record-00000-of-00001").write_bytes(b"half")
    directory = prepare(Tiny, data_dir=tmp_path)
    assert directory == tmp_path / "tiny" / "1.0.0"
    assert [p.name for p in directory.parent.iterdir()] == ["1.0.0"]


def test_a_prepared_data_set_is_not_built_again(tmp_path, monkeypatch):
    directory = prepare(Tiny, data_dir=tmp_path)
    monkeypatch.setattr(Tiny, "break_after", 0)
    assert prepare(Tiny, data_dir=tmp_path) == directory


def test_the_place_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(builder.DATA_DIR_VARIABLE, str(tmp_path / "here"))
    assert prepare(Tiny).is_relative_to(tmp_path / "here")


def test_a_place_that_cannot_be_written_is_named(tmp_path, archives):
    (tmp_path / "file").write_text("not a directory")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PermissionError, match="can't write prepared data sets.*data_dir="):
            load("orl", split="train", data_dir=place, manual_dir=archives)


def test_missing_archives_are_listed(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        load("omniglot", split="train", data_dir=tmp_path / "p", manual_dir=tmp_path)
    message = str(caught.value)
    for part in (
        "omniglot/images_background.zip",
        "omniglot/images_evaluation.zip",
        "brendenlake/omniglot",
        f"Looked in: {tmp_path}",
        "manual_dir=",
    ):
        assert part in message
    monkeypatch.delenv(builder.MANUAL_DIR_VARIABLE, raising=False)
    with pytest.raises(FileNotFoundError, match="neither manual_dir= nor ARCFACE_DATA_DIR is set"):
        load("orl", split="train", data_dir=tmp_path / "p")


@pytest.mark.parametrize("name", ["orl", "omniglot", "lfw"])
def test_a_damaged_archive_is_named(name, archives, tmp_path):
    for file in (archives / name).iterdir():
        target = tmp_path / name / file.name
        target.parent.mkdir(exist_ok=True)
        data = file.read_bytes()
        target.write_bytes(data[: len(data) // 2] if file.suffix in (".zip", ".tgz") else data)
    with pytest.raises(ValueError, match=f"{name}: an original archive is damaged.*fetch again"):
        load(name, split="train", data_dir=tmp_path / "p", manual_dir=tmp_path)
    assert not list((tmp_path / "p").rglob("dataset_info.json"))


LOADING = """
import sys
from arcface_jax.data import load
data = load("orl", split="test", data_dir=sys.argv[1], manual_dir=sys.argv[2])
print(len(data), data.images().sum(), "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_processes_that_prepare_at_once_agree_and_need_no_tensorflow(tmp_path, archives):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", LOADING, str(tmp_path), str(archives)]
    running = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate() for process in running]
    assert said[0] == said[1]
    assert said[0][0].startswith("30 ") and said[0][0].endswith(" False\n") and said[0][1] == ""
    info = json.loads((tmp_path / "orl" / "1.0.0" / "dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
