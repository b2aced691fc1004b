from experiments.reporting.grouping import group_settings
from experiments.reporting.sweep_directory import read_sweep


def test_points_that_differ_only_in_the_seed_are_one_setting(sweep_dir):
    settings = {s.label: s for s in group_settings(read_sweep(sweep_dir))}
    assert list(settings)[:3] == ["norm_softmax s=32", "arcface m=0.5 s=32", "cosface m=0.35 s=32"]
    assert len(settings) == 7
    assert [point.seed for point in settings["arcface m=0.5 s=32"].points] == [0, 1, 2]
    assert settings["arcface m=0.5 s=32"].margin_label == "arcface m=0.5"
    assert not settings["arcface m=0.5 s=64"].finished


def test_labels_of_a_grid_name_margin_and_scale(tmp_path, write_sweep):
    grid = [
        ({"name": "arcface", "m": m}, scale, seed, 0.7, 40.0, "not started")
        for m in (0.0, 0.1)
        for scale in (16.0, 17.0)
        for seed in range(3)
    ]
    settings = group_settings(read_sweep(write_sweep(tmp_path / "grid", grid)))
    assert [s.label for s in settings] == [
        f"arcface m={m} s={scale}" for m in ("0", "0.1") for scale in (16, 17)
    ]
    assert all(len(s.points) == 3 for s in settings)
