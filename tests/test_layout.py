"""Hold the directions between folders, what each may import, and that --help stays quick."""

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_script
from tests.core.test_config import SCRIPTS

# What each folder of screl/ may import from the others.
MAY_IMPORT = {
    "core": set(),
    "grading": {"core"},
    "models": {"core"},
    "samples": {"core", "grading"},
    "training": {"core", "models"},
    "sampling": {"core", "grading", "models", "samples"},
    "rejection": {"core", "grading", "samples"},
    "scoring": {"core", "grading", "samples"},
    "analysis": {"core", "grading", "samples", "rejection", "scoring"},
}
WITHOUT_TORCH = ("core", "grading", "samples", "rejection", "scoring", "analysis")
MODEL_LIBRARIES = {"torch", "transformers", "vllm", "ray", "deepspeed", "peft", "liger_kernel"}
# Seconds to import, or absent from many machines: only inside the function that needs them.
ONLY_WHERE_USED = {"vllm", "ray", "deepspeed", "peft", "liger_kernel", "sympy", "math_verify",
                   "scipy", "matplotlib"}  # fmt: skip
ROOT_SCRIPTS = {"train", "sample", "collect_rejection_sampling", "eval", "analyze"}
MODULES = sorted(path for path in (ROOT / "screl").rglob("*.py") if path.name != "__init__.py")
SCRIPT_NAMES = {
    "train": "train.py",
    "sample": "sample.py",
    "collect": "collect_rejection_sampling.py",
    "eval": "eval.py",
    "cost": "analyze.py cost",
    "paper": "analyze.py paper",
    "miniature": "analyze.py miniature",
}


def imports(path: Path, everywhere: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import; without ``everywhere`` only of those at the top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def offenders(path: Path) -> Iterator[str]:
    """Yield a line for every import that ``path``, a module of screl, should not have."""
    folder = path.relative_to(ROOT / "screl").parts[0]
    where = path.relative_to(ROOT)
    for line, name in imports(path):
        first, *rest = name.split(".")
        if first == "screl" and not (rest and rest[0] in MAY_IMPORT[folder] | {folder}):
            yield f"{where}:{line}: {folder} imports {name}"
        if first in ROOT_SCRIPTS:
            yield f"{where}:{line}: imports the script {name}"
        if folder in WITHOUT_TORCH and first in MODEL_LIBRARIES - {"torch"} | (
            {"torch"} if path.name != "run_info.py" else set()
        ):
            yield f"{where}:{line}: {folder} imports {name}"
    for line, name in imports(path, everywhere=False):
        # a module named after a library is itself imported only where it is used
        if name.split(".")[0] in ONLY_WHERE_USED - {path.stem}:
            yield f"{where}:{line}: imports {name} at the top; import it where it is used"


def test_every_folder_has_its_directions() -> None:
    assert {path.name for path in (ROOT / "screl").iterdir() if path.is_dir()} - {
        "__pycache__"
    } == set(MAY_IMPORT)
    assert all(path.parent != ROOT / "screl" for path in MODULES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "screl")))
def test_imports_follow_the_directions(path: Path) -> None:
    assert list(offenders(path)) == []


def test_an_offender_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "screl/core/wrong.py"
    module.parent.mkdir(parents=True)
    module.write_text("import train\nimport scipy\nfrom screl.models.loading import load_model\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert list(offenders(module)) == [
        "screl/core/wrong.py:1: imports the script train",
        "screl/core/wrong.py:3: core imports screl.models.loading",
        "screl/core/wrong.py:2: imports scipy at the top; import it where it is used",
    ]


def test_no_config_is_untyped() -> None:
    untyped = [path for path in MODULES if "config: Any" in path.read_text(encoding="utf-8")]
    assert untyped == []


def test_text_stages_and_scripts_load_nothing_heavy() -> None:
    light = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.parent.name in WITHOUT_TORCH or path.stem == "config"
    ]
    light += sorted(ROOT_SCRIPTS)
    code = f"""
import importlib, sys
for module in {light}:
    importlib.import_module(module)
    if loaded := {MODEL_LIBRARIES | ONLY_WHERE_USED} & sys.modules.keys():
        sys.exit(f"{{module}} imports {{loaded}}")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_help_names_every_option(name: str) -> None:
    result = run_script(*SCRIPT_NAMES[name].split(), "--help")
    assert result.returncode == 0
    assert f"usage: {SCRIPT_NAMES[name]} " in result.stdout
    for field in dataclasses.fields(SCRIPTS[name]):
        assert field.name in result.stdout
    assert "--config FILE.yaml" in result.stdout
