import errno
import json

import pytest

from experiments.reporting.sweep_directory import SweepError, read_sweep

FIRST = "points/arcface_m0.5_s32_seed0"


def points(workdir):
    return {point.name: point for point in read_sweep(workdir).points}


def test_points_without_a_result_have_status_and_reason(sweep_dir):
    expected = {
        "sphereface_m1.35_s32_seed0": ("diverged", "the loss stopped being finite at step 120"),
        "combined_m10.9_m20.4_m30.15_s32_seed0": (
            "failed",
            "ValueError: m3=0.15 <b>refused</b> | here",
        ),
        "arcface_m0.5_s64_seed0": ("unfinished", "running or interrupted at step 200"),
        "cosface_m0.35_s64_seed0": ("not started", "no directory yet"),
    }
    found = points(sweep_dir)
    for name, outcome in expected.items():
        assert (found[name].status, found[name].reason) == outcome
        assert not found[name].metrics
    assert [point.status for point in found.values()].count("finished") == 5


def test_a_retried_point_that_finished_is_no_longer_failed(fresh_dir):
    name = "cosface_m0.35_s32_seed0"
    (fresh_dir / "points" / name / "failed.json").write_text('{"error": "OSError: disk full"}')
    assert points(fresh_dir)[name].status == "finished"


def test_null_is_a_number_that_could_not_be_had(fresh_dir):
    path = fresh_dir / FIRST / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["eer"] = result["angles"]["w_ec"] = None
    path.write_text(json.dumps(result))
    point = points(fresh_dir)[path.parent.name]
    assert point.metrics["eer"] != point.metrics["eer"] and point.angles["w_ec"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"{FIRST}/result.json", '{"status": "fini'),
        (f"{FIRST}/result.json", '{"status": "odd"}'),
        (f"{FIRST}/result.json", "[1, 2]"),
        (f"{FIRST}/result.json", '{"status": "finished", "metrics": [1]}'),
        (f"{FIRST}/result.json", '{"status": "finished", "target": {"a": 1}}'),
        (f"{FIRST}/angles.npz", "not a zip file"),
        (f"{FIRST}/metrics.jsonl", '{"step": 1}\n{"st\n{"step": 3}\n'),
        ("sweep.json", "{"),
        ("sweep.json", '{"config": {}, "points": 3}'),
        ("sweep.json", '{"config": {}, "points": [{"index": 0}]}'),
    ],
)
def test_a_damaged_file_is_named_in_one_line(fresh_dir, name, content):
    (fresh_dir / name).write_text(content)
    with pytest.raises(SweepError) as caught:
        read_sweep(fresh_dir)
    assert str(fresh_dir / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_directory_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no sweep.json"):
        read_sweep(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        read_sweep(tmp_path / "absent")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "absent")
