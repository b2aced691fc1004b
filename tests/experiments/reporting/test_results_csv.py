import csv
import io

import pytest

from experiments.reporting.results_csv import results_csv
from experiments.reporting.sweep_directory import read_sweep


@pytest.fixture(scope="module")
def rows(sweep_dir):
    text = results_csv(read_sweep(sweep_dir))
    assert text == (sweep_dir / "report" / "results.csv").read_text(encoding="utf-8")
    return {row["name"]: row for row in csv.DictReader(io.StringIO(text))}


def test_every_point_stands_there_with_its_numbers(rows):
    assert len(rows) == 9
    row = rows["arcface_m0.5_s32_seed1"]
    assert row["margin.name"] == "arcface" and float(row["margin.m"]) == 0.5
    assert float(row["scale"]) == 32.0 and row["seed"] == "1"
    assert row["setting"] == "arcface m=0.5 s=32"
    assert float(row["tar_at_far_1e-3"]) == pytest.approx(0.81)
    assert float(row["tar_at_far_1e-3_low"]) == pytest.approx(0.78)
    assert float(row["tar_at_far_1e-3_high"]) == pytest.approx(0.83)
    assert float(row["angle_intra_test_deg"]) == pytest.approx(36.0)
    assert float(row["seconds"]) == pytest.approx(32.5)
    assert row["train_step_compilations"] == "1"
    assert rows["norm_softmax_s32_seed0"]["angle_w_ec_deg"] == ""


def test_a_point_without_a_result_has_a_reason_and_no_number(rows):
    row = rows["combined_m10.9_m20.4_m30.15_s32_seed0"]
    assert row["status"] == "failed"
    assert row["reason"] == "ValueError: m3=0.15 <b>refused</b> | here"
    assert row["tar_at_far_1e-3"] == ""
