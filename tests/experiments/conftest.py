import runpy
from pathlib import Path

import pytest

from experiments import report
from experiments.reporting import composition, pictures

_write_sweep = runpy.run_path(str(Path(__file__).with_name("synthetic_sweep.py")))["write_sweep"]


@pytest.fixture(scope="session")
def write_sweep():
    """write_sweep(workdir, points): writes a made-up sweep, returns its directory."""
    return _write_sweep


@pytest.fixture(scope="session")
def sweep_dir(tmp_path_factory):
    """A made-up sweep with its report, not to be changed."""
    workdir = _write_sweep(tmp_path_factory.mktemp("sweep") / "margins")
    report.write_report(workdir)
    return workdir


@pytest.fixture(scope="session")
def page(sweep_dir):
    return (sweep_dir / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def markdown(sweep_dir):
    return (sweep_dir / "report" / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def fresh_dir(tmp_path):
    """The same sweep without a report, to be changed."""
    return _write_sweep(tmp_path / "margins")


@pytest.fixture
def no_figures(monkeypatch):
    """For tests of text and numbers: drawing is the slow part of a report."""
    drawn = dict.fromkeys(pictures.FIGURES, "not drawn")
    monkeypatch.setattr(composition, "pictures", lambda _: drawn)
