import pytest

from experiments.reporting.grouping import group_settings
from experiments.reporting.metrics import metric_keys
from experiments.reporting.sweep_directory import read_sweep
from experiments.reporting.tables import angle_table, metric_table, point_table, reason_table


@pytest.fixture(scope="module")
def sweep(sweep_dir):
    return read_sweep(sweep_dir)


def columns(table):
    """Heading -> row name -> cell."""
    return {
        heading: {row[0].text: row[k] for row in table.rows}
        for k, (heading, _) in enumerate(table.headings)
    }


def test_metrics_are_shown_with_their_interval(sweep):
    keys, _ = metric_keys(sweep.points)
    found = columns(metric_table(group_settings(sweep), keys))
    tar = found["TAR % @ FAR 1e-3"]
    assert (tar["arcface m=0.5 s=32"].text, tar["arcface m=0.5 s=32"].spread) == ("81.00", "± 2.48")
    assert tar["cosface m=0.35 s=32"].spread == "[76.00, 81.00]"
    assert found["points"]["arcface m=0.5 s=32"].text == "3"
    assert found["points"]["arcface m=0.5 s=64"].text == "0 of 1"


def test_the_best_of_a_column_is_marked_in_its_direction(sweep):
    keys, _ = metric_keys(sweep.points)
    found = columns(metric_table(group_settings(sweep), keys))
    best = {heading: [c.text for c in cells.values() if c.best] for heading, cells in found.items()}
    assert best["TAR % @ FAR 1e-3"] == ["81.00"] and best["EER %"] == ["1.90"]
    assert best["AUC"] == [], "a value that all settings share is no best one"


def test_the_angle_table_holds_the_papers_statistics(sweep):
    table = angle_table(group_settings(sweep))
    assert table is not None
    found = columns(table)
    names = ("W-EC", "W-Inter", "Intra train", "Inter train", "Intra test", "Inter test")
    assert [name for name in found if name in names] == list(names)
    assert found["W-EC"]["norm_softmax s=32"].text == "–"
    assert found["W-Inter"]["norm_softmax s=32"].text == "70.00"
    assert found["Intra train"]["norm_softmax s=32"].text == "48.00"
    assert angle_table([]) is None


def test_the_point_table_shows_what_a_run_cost(sweep):
    found = columns(point_table(sweep.points))
    name = "arcface_m0.5_s32_seed1"
    assert len(found["point"]) == 9
    assert (found["seconds"][name].text, found["compilations"][name].text) == ("32.5", "1")
    assert found["margin.m"]["cosface_m0.35_s32_seed0"].text == "0.35"


def test_the_reason_table_holds_the_points_that_have_not_finished(sweep):
    reasons = columns(reason_table(sweep.points))["reason"]
    assert len(reasons) == 4
    assert reasons["arcface_m0.5_s64_seed0"].text == "running or interrupted at step 200"
