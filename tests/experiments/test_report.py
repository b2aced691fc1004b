import ast
import csv
import html.parser
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments import report

ROOT = Path(report.__file__).parents[1]
write_sweep = runpy.run_path(str(Path(__file__).with_name("synthetic_sweep.py")))["write_sweep"]


@pytest.fixture(scope="module")
def sweep_dir(tmp_path_factory):
    workdir = write_sweep(tmp_path_factory.mktemp("sweep") / "margins")
    report.write_report(workdir)
    return workdir


@pytest.fixture
def fresh_dir(tmp_path):
    return write_sweep(tmp_path / "margins")


@pytest.fixture
def no_figures(monkeypatch):
    """For tests of text and numbers: drawing is the slow part of a report."""
    monkeypatch.setattr(report, "pictures", lambda _: dict.fromkeys(report.FIGURES, "not drawn"))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.report", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def csv_rows(workdir):
    with open(workdir / "report" / "results.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def page(workdir):
    return (workdir / "report" / "report.html").read_text(encoding="utf-8")


def markdown(workdir):
    return (workdir / "report" / "report.md").read_text(encoding="utf-8")


def point_dir(workdir, name):
    return workdir / "points" / name


def test_all_files_are_written(sweep_dir):
    names = {path.name for path in (sweep_dir / "report" / "figures").iterdir()}
    stems = {"theta_histograms", "pair_angles", "target_logits", "loss_curves", "target_angles"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    for stem in stems:
        assert f"figures/{stem}.png" in markdown(sweep_dir)


def test_csv_has_every_point_with_its_numbers(sweep_dir):
    rows = csv_rows(sweep_dir)
    assert len(rows) == 9
    row = rows["arcface_m0.5_s32_seed1"]
    assert row["margin.name"] == "arcface" and float(row["margin.m"]) == 0.5
    assert float(row["scale"]) == 32.0 and row["seed"] == "1"
    assert float(row["tar_at_far_1e-3"]) == pytest.approx(0.81)
    assert float(row["tar_at_far_1e-3_low"]) == pytest.approx(0.78)
    assert float(row["tar_at_far_1e-3_high"]) == pytest.approx(0.83)
    assert float(row["angle_intra_test_deg"]) == pytest.approx(36.0)
    assert float(row["seconds"]) == pytest.approx(32.5)
    assert row["train_step_compilations"] == "1"
    assert rows["norm_softmax_s32_seed0"]["angle_w_ec_deg"] == ""


def test_points_without_a_result_keep_status_and_reason(sweep_dir):
    rows = csv_rows(sweep_dir)
    expected = {
        "sphereface_m1.35_s32_seed0": ("diverged", "the loss stopped being finite at step 120"),
        "combined_m10.9_m20.4_m30.15_s32_seed0": (
            "failed",
            "ValueError: m3=0.15 <b>refused</b> | here",
        ),
        "arcface_m0.5_s64_seed0": ("unfinished", "running or interrupted at step 200"),
        "cosface_m0.35_s64_seed0": ("not started", "no directory yet"),
    }
    for name, (status, reason) in expected.items():
        assert (rows[name]["status"], rows[name]["reason"]) == (status, reason)
        assert rows[name]["tar_at_far_1e-3"] == ""
        assert name in page(sweep_dir) and name in markdown(sweep_dir)
    assert "&lt;b&gt;refused&lt;/b&gt;" in page(sweep_dir)
    assert "<b>refused" not in page(sweep_dir) and "<b>refused" not in markdown(sweep_dir)


def test_seeds_are_merged_with_the_student_interval(sweep_dir):
    half = stats.t.ppf(0.975, 2) * np.std([80.0, 81.0, 82.0], ddof=1) / np.sqrt(3)
    row = next(
        line for line in markdown(sweep_dir).splitlines() if "| arcface m=0.5 s=32 |" in line
    )
    assert f"**81.00** ± {half:.2f}" in row
    assert row.startswith("| arcface m=0.5 s=32 | 3 |")


def test_a_single_seed_shows_its_bootstrap_interval(sweep_dir):
    text = markdown(sweep_dir)
    row = next(line for line in text.splitlines() if "| cosface m=0.35 s=32 |" in line)
    assert "79.00 [76.00, 81.00]" in row
    assert "bootstrap interval over the test identities" in text and "Student t" in text


def test_the_best_of_a_column_is_marked_in_its_direction(sweep_dir):
    text = page(sweep_dir)
    best = re.findall(r'<td class="n best"[^>]*>([\d.]+)', text)
    assert "81.00" in best and "1.90" in best
    assert "79.00" not in best and "3.00" not in best
    assert "0.9900" not in best, "a value that all settings share is no best one"


def test_angle_table_holds_the_papers_statistics(sweep_dir):
    text = markdown(sweep_dir)
    names = ("W-EC", "W-Inter", "Intra train", "Inter train", "Intra test", "Inter test")
    heading = next(line for line in text.splitlines() if "W-EC |" in line)
    assert all(f"| {name} |" in heading for name in names)
    row = next(line for line in text.splitlines() if line.startswith("| norm_softmax s=32 | – |"))
    assert row.split("|")[3].strip() == "70.00" and "48.00" in row


def test_how_it_was_made_is_told(sweep_dir):
    text = page(sweep_dir)
    for fact in (
        "python -m experiments.sweep --config=experiments/configs/demo.py",
        "0123456789abcdef",
        "--xla_cpu_example=true",
        "jax 0.12.0, flax 0.12.12, numpy 2.3.1",
        "1 in 6 points",
        "&quot;embedding_dim&quot;: 64",
    ):
        assert fact in text
    assert "<details><summary>Full base config</summary>" in text


class References(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.found.append((tag, value))


def test_the_page_refers_to_nothing_outside_itself(sweep_dir):
    text = page(sweep_dir)
    parser = References()
    parser.feed(text)
    outside = [(t, v) for t, v in parser.found if not v.startswith(("#", "data:"))]
    assert not outside
    assert not [value for tag, value in parser.found if tag == "script"]
    assert not re.search(r"https?://|@import", text)
    assert all(target.startswith(("#", "data:")) for target in re.findall(r"url\(([^)]*)\)", text))
    assert len(parser.ids) == len(set(parser.ids)), "two figures share an id"
    internal = {v[1:] for _, v in parser.found if v.startswith("#")}
    assert internal <= set(parser.ids)


def test_the_same_sweep_gives_the_same_bytes(sweep_dir, fresh_dir):
    report.write_report(fresh_dir)
    for name in ("report.html", "report.md", "results.csv", "figures/loss_curves.svg"):
        assert (fresh_dir / "report" / name).read_bytes() == (
            sweep_dir / "report" / name
        ).read_bytes()


def test_a_sweep_that_has_only_begun_gets_a_report(fresh_dir):
    shutil.rmtree(fresh_dir / "points")
    report.write_report(fresh_dir)
    assert page(fresh_dir).count("no directory yet") == 9
    assert "No point has finished yet" in markdown(fresh_dir)
    assert {row["status"] for row in csv_rows(fresh_dir).values()} == {"not started"}


def test_stale_figures_do_not_outlive_their_data(fresh_dir, no_figures):
    folder = fresh_dir / "report" / "figures"
    folder.mkdir(parents=True)
    for name in ("loss_curves.png", "loss_curves.svg", "of_the_reader.png"):
        (folder / name).touch()
    report.write_report(fresh_dir)
    assert [path.name for path in folder.iterdir()] == ["of_the_reader.png"]


def test_a_retried_point_that_finished_is_no_longer_failed(fresh_dir, no_figures):
    folder = point_dir(fresh_dir, "cosface_m0.35_s32_seed0")
    (folder / "failed.json").write_text('{"error": "OSError: disk full"}')
    report.write_report(fresh_dir)
    assert csv_rows(fresh_dir)[folder.name]["status"] == "finished"


def test_a_metric_that_is_null_is_left_out_of_the_mean(fresh_dir, no_figures):
    path = point_dir(fresh_dir, "arcface_m0.5_s32_seed2") / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["tar_at_far_1e-3"] = None
    path.write_text(json.dumps(result))
    report.write_report(fresh_dir)
    assert "80.50 ±" in markdown(fresh_dir)


def test_points_on_different_devices_are_said(fresh_dir, no_figures):
    path = point_dir(fresh_dir, "arcface_m0.5_s32_seed2") / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "other device"}))
    report.write_report(fresh_dir)
    assert "cpu (5 points), other device (1 point)" in markdown(fresh_dir)


def test_many_settings_keep_the_figures_readable(tmp_path):
    points = [
        ({"name": "arcface", "m": round(0.1 * k, 1)}, 16.0 + j, seed, 0.7, 40.0, "finished")
        for k in range(5)
        for j in range(4)
        for seed in range(3)
    ]
    workdir = write_sweep(tmp_path / "large", points)
    settings = report.group_settings(report.read_sweep(workdir))
    assert [s.label for s in settings[:2]] == ["arcface m=0 s=16", "arcface m=0 s=17"]
    assert len(settings) == 20 and all(len(s.finished) == 3 for s in settings)
    drawn = report.pictures(settings)
    picture = drawn["pair_angles"]
    assert isinstance(picture, report.Picture)
    assert len(picture.figure.axes) == report.MAX_PANELS
    assert "The first 12 of 20 settings" in picture.caption
    curves = drawn["target_logits"]
    assert isinstance(curves, report.Picture)
    assert len(curves.figure.axes[0].lines) == 5, "one curve per distinct margin, whatever s"


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 59])
def test_student_quantile_equals_scipy(freedom):
    for confidence in (0.5, 0.95, 0.99):
        expected = stats.t.ppf(0.5 + confidence / 2, freedom)
        found = report.student_t_quantile(freedom, confidence=confidence)
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("points/arcface_m0.5_s32_seed0/result.json", '{"status": "fini'),
        ("points/arcface_m0.5_s32_seed0/result.json", '{"status": "odd"}'),
        ("points/arcface_m0.5_s32_seed0/result.json", "[1, 2]"),
        ("points/arcface_m0.5_s32_seed0/result.json", '{"status": "finished", "metrics": [1]}'),
        ("points/arcface_m0.5_s32_seed0/result.json", '{"status": "finished", "target": {"a": 1}}'),
        ("points/arcface_m0.5_s32_seed0/angles.npz", "not a zip file"),
        ("points/arcface_m0.5_s32_seed0/metrics.jsonl", '{"step": 1}\n{"st\n{"step": 3}\n'),
        ("sweep.json", "{"),
        ("sweep.json", '{"config": {}, "points": 3}'),
        ("sweep.json", '{"config": {}, "points": [{"index": 0}]}'),
    ],
)
def test_a_damaged_file_is_named_in_one_line(fresh_dir, name, content):
    (fresh_dir / name).write_text(content)
    with pytest.raises(report.SweepError) as caught:
        report.write_report(fresh_dir)
    assert str(fresh_dir / name) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert not (fresh_dir / "report" / "report.html").exists()


def test_the_command_line_reports_mistakes_in_one_line(fresh_dir, tmp_path):
    damaged = point_dir(fresh_dir, "cosface_m0.35_s32_seed0") / "result.json"
    damaged.write_text("{")
    (tmp_path / "empty").mkdir()
    cases = (
        ((f"--workdir={tmp_path / 'absent'}",), 2, "no such directory"),
        ((f"--workdir={tmp_path / 'empty'}",), 2, "is no sweep"),
        ((), 2, "--workdir"),
        ((f"--workdir={fresh_dir}", "--colour=red"), 2, "colour"),
        ((f"--workdir={fresh_dir}",), 1, str(damaged)),
    )
    for arguments, code, message in cases:
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout


def test_the_command_line_prints_the_page_it_wrote(fresh_dir):
    done = run(f"--workdir={fresh_dir}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(fresh_dir / "report" / "report.html")


def test_the_report_needs_no_training_stack():
    tree = ast.parse(Path(report.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    third_party = imported - set(sys.stdlib_module_names)
    assert third_party == {"absl", "arcface_jax", "matplotlib", "numpy"}
    heavy = ("flax", "optax", "orbax", "tensorflow_datasets", "grain", "matplotlib.pyplot")
    code = f"import sys, experiments.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_browser_opens_the_page_without_an_error(sweep_dir, tmp_path):
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium or Chrome on PATH")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={tmp_path}",
    )
    # A click on a heading runs the sorting script as a reader would.
    clicked = tmp_path / "clicked.html"
    click = "<script>document.querySelectorAll('th button')[3].click()</script></body>"
    clicked.write_text(page(sweep_dir).replace("</body>", click), encoding="utf-8")
    done = subprocess.run(
        [browser, *flags, "--dump-dom", clicked.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert "Sweep report: margins" in done.stdout
    table = done.stdout[: done.stdout.index("</table>")]
    assert 'aria-sort="ascending"' in table
    cells = re.findall(r"<tr><td[^>]*>(?:<i[^>]*></i>)?([^<]*)", table)
    # Ascending TAR at FAR 1e-3; settings without a value follow in the order of the sweep.
    assert cells[:3] == ["norm_softmax s=32", "cosface m=0.35 s=32", "arcface m=0.5 s=32"]
