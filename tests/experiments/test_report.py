"""The command and the files it writes; what stands in them is tested in reporting/."""

import ast
import csv
import shutil
import subprocess
import sys
from pathlib import Path

from experiments import report

ROOT = Path(report.__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.report", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_all_files_are_written(sweep_dir, markdown):
    names = {path.name for path in (sweep_dir / "report" / "figures").iterdir()}
    stems = {"theta_histograms", "pair_angles", "target_logits", "loss_curves", "target_angles"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    for stem in stems:
        assert f"figures/{stem}.png" in markdown


def test_the_same_sweep_gives_the_same_bytes(sweep_dir, fresh_dir):
    report.write_report(fresh_dir)
    for name in ("report.html", "report.md", "results.csv", "figures/loss_curves.svg"):
        assert (fresh_dir / "report" / name).read_bytes() == (
            sweep_dir / "report" / name
        ).read_bytes()


def test_a_sweep_that_has_only_begun_gets_a_report(fresh_dir):
    shutil.rmtree(fresh_dir / "points")
    folder = report.write_report(fresh_dir).parent
    assert (folder / "report.html").read_text(encoding="utf-8").count("no directory yet") == 9
    assert "No point has finished yet" in (folder / "report.md").read_text(encoding="utf-8")
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"not started"}


def test_stale_figures_do_not_outlive_their_data(fresh_dir, no_figures):
    folder = fresh_dir / "report" / "figures"
    folder.mkdir(parents=True)
    for name in ("loss_curves.png", "loss_curves.svg", "of_the_reader.png"):
        (folder / name).touch()
    report.write_report(fresh_dir)
    assert [path.name for path in folder.iterdir()] == ["of_the_reader.png"]


def test_the_command_reports_mistakes_in_one_line(fresh_dir, tmp_path):
    damaged = fresh_dir / "points" / "cosface_m0.35_s32_seed0" / "result.json"
    damaged.write_text("{")
    (tmp_path / "empty").mkdir()
    cases = (
        ((f"--workdir={tmp_path / 'margin'}",), 2, f"did you mean {fresh_dir}?"),
        ((f"--workdir={tmp_path / 'empty'}",), 2, "is no sweep"),
        ((), 2, "--workdir is missing"),
        ((f"--workdir={fresh_dir}", "--colour=red"), 2, "colour"),
        ((f"--workdir={fresh_dir}", "surplus"), 2, "unexpected argument 'surplus'"),
        ((f"--workdir={fresh_dir}", "--data_dir=x"), 2, "--data_dir has no effect"),
        ((f"--workdir={fresh_dir}",), 1, str(damaged)),
    )
    for arguments, code, message in cases:
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert done.stderr.startswith("python -m experiments.report: ")
        assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout
        assert not (fresh_dir / "report").exists()


def test_the_command_prints_the_page_it_wrote(fresh_dir):
    done = run(f"--workdir={fresh_dir}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(fresh_dir / "report" / "report.html")


def test_the_report_needs_no_training_stack():
    files = [Path(report.__file__), *Path(report.__file__).parent.glob("reporting/*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    third_party = {str(name).split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert third_party == {"arcface_jax", "experiments", "matplotlib", "numpy"}
    heavy = ("flax", "optax", "orbax", "tensorflow_datasets", "grain", "matplotlib.pyplot")
    code = f"import sys, experiments.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stderr
