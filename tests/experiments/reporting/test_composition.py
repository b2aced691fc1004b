import json

from experiments.reporting.composition import compose
from experiments.reporting.markdown_page import markdown_page
from experiments.reporting.sweep_directory import read_sweep


def test_how_it_was_made_is_told(page):
    for fact in (
        "python -m experiments.sweep --config=experiments/configs/demo.py",
        "0123456789abcdef",
        "--xla_cpu_example=true",
        "jax 0.12.0, flax 0.12.12, numpy 2.3.1",
        "1 in 6 points",
        "&quot;embedding_dim&quot;: 64",
    ):
        assert fact in page
    assert "<details><summary>Full base config</summary>" in page


def test_the_opening_names_what_is_swept_and_the_best(markdown):
    opening = markdown[: markdown.index("## Results")]
    assert "`margin.name` (norm_softmax, arcface, cosface, sphereface, combined)" in opening
    assert "**5 / 9** points finished" in opening
    assert "Best TAR % @ FAR 1e-3: **arcface m=0.5 s=32**, 81.00 ±" in opening


def test_both_kinds_of_interval_are_explained(markdown):
    assert "bootstrap interval over the test identities" in markdown
    assert "Student t" in markdown


def test_points_on_different_devices_are_said(fresh_dir, no_figures):
    path = fresh_dir / "points" / "arcface_m0.5_s32_seed2" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "other device"}))
    text = markdown_page(*compose(read_sweep(fresh_dir)))
    assert "cpu (5 points), other device (1 point)" in text
