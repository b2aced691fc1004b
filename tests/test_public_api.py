import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import arcface_jax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "arcface_jax"
HEAVY = (
    ["flax", "optax", "orbax", "chex"]
    + ["tensorflow_datasets", "grain", "array_record", "PIL", "simplejpeg", "cv2"]
    + ["matplotlib", "plotly", "ml_collections", "tensorflow", "torch"]
)
BLOCK = "import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
CORE = [
    name
    for name in MODULES
    if name.split(".")[1:2] in ([], ["geometry"], ["margins"], ["losses"], ["heads"])
]
ENTRY_POINTS = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


def run_python(code, *, blocked=()):
    """What ``code`` prints in a new process where importing ``blocked`` raises ImportError."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK.format(blocked=list(blocked)) + code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("name", arcface_jax.__all__)
def test_public_name_is_documented(name):
    doc = inspect.getdoc(getattr(arcface_jax, name)) or ""
    assert ">>>" in doc, f"{name} has no doctest; show one call and its result"


def test_all_is_sorted_and_complete():
    defined = {
        name
        for name, value in vars(arcface_jax).items()
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
        if value.__module__.startswith("arcface_jax.")
    }
    assert list(arcface_jax.__all__) == sorted(set(arcface_jax.__all__))
    assert defined <= set(arcface_jax.__all__)


def test_import_loads_only_the_core():
    code = "import json, arcface_jax; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(run_python(code))}
    assert "jax" in loaded
    assert not loaded & {"experiments", *HEAVY}


def test_core_runs_on_jax_and_numpy_alone():
    run_python(f"import importlib; [importlib.import_module(n) for n in {CORE!r}]", blocked=HEAVY)


def test_every_module_imports_without_the_experiments():
    code = f"import importlib; [importlib.import_module(n) for n in {MODULES!r}]"
    run_python(code, blocked=["experiments"])


def test_every_module_of_the_experiments_imports():
    names = [f"experiments.{name}" for name in ENTRY_POINTS]
    run_python(f"import importlib; [importlib.import_module(n) for n in {names!r}]")


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="arcfaec"):
        arcface_jax.arcfaec  # noqa: B018
