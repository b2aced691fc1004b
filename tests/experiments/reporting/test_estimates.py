import json

import numpy as np
import pytest
from scipy import stats

from experiments.reporting.estimates import estimate, student_t_quantile
from experiments.reporting.grouping import group_settings
from experiments.reporting.sweep_directory import read_sweep


def setting(workdir, label):
    return next(s for s in group_settings(read_sweep(workdir)) if s.label == label)


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 59])
def test_student_quantile_equals_scipy(freedom):
    for confidence in (0.5, 0.95, 0.99):
        expected = stats.t.ppf(0.5 + confidence / 2, freedom)
        found = student_t_quantile(freedom, confidence=confidence)
        assert found == pytest.approx(expected, rel=1e-5)


def test_seeds_are_merged_with_the_student_interval(sweep_dir):
    found = estimate(setting(sweep_dir, "arcface m=0.5 s=32"), "tar_at_far_1e-3")
    half = stats.t.ppf(0.975, 2) * np.std([0.80, 0.81, 0.82], ddof=1) / np.sqrt(3)
    assert found.over == "seeds"
    assert (found.low, found.value, found.high) == pytest.approx((0.81 - half, 0.81, 0.81 + half))


def test_a_single_seed_has_its_bootstrap_interval(sweep_dir):
    found = estimate(setting(sweep_dir, "cosface m=0.35 s=32"), "tar_at_far_1e-3")
    assert found.over == "identities"
    assert (found.low, found.value, found.high) == pytest.approx((0.76, 0.79, 0.81))


def test_a_metric_that_is_null_is_left_out_of_the_mean(fresh_dir):
    path = fresh_dir / "points" / "arcface_m0.5_s32_seed2" / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["tar_at_far_1e-3"] = None
    path.write_text(json.dumps(result))
    found = estimate(setting(fresh_dir, "arcface m=0.5 s=32"), "tar_at_far_1e-3")
    assert found.value == pytest.approx(0.805)


def test_a_setting_without_a_finished_point_has_no_estimate(sweep_dir):
    assert estimate(setting(sweep_dir, "arcface m=0.5 s=64"), "tar_at_far_1e-3") is None
