from experiments.reporting.blocks import Picture
from experiments.reporting.grouping import group_settings
from experiments.reporting.pictures import MAX_PANELS, pictures
from experiments.reporting.sweep_directory import read_sweep


def test_many_settings_keep_the_figures_readable(tmp_path, write_sweep):
    points = [
        ({"name": "arcface", "m": round(0.1 * k, 1)}, 16.0 + j, seed, 0.7, 40.0, "finished")
        for k in range(5)
        for j in range(4)
        for seed in range(3)
    ]
    settings = group_settings(read_sweep(write_sweep(tmp_path / "large", points)))
    assert len(settings) == 20
    drawn = pictures(settings)
    picture = drawn["pair_angles"]
    assert isinstance(picture, Picture)
    assert len(picture.figure.axes) == MAX_PANELS
    assert "One point a setting (seed 0)." in picture.caption
    assert "The first 12 of 20 settings" in picture.caption
    curves = drawn["target_logits"]
    assert isinstance(curves, Picture)
    assert len(curves.figure.axes[0].lines) == 5, "one curve per distinct margin, whatever s"
