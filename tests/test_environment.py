"""Check scripts/environment.sh with the system's Python, and its differences from the pins."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from scripts.installed_versions import differences
from tests.conftest import ROOT, write_lines

HERE = metadata.version("numpy")


def test_other_versions_and_missing_packages_are_named(tmp_path: Path) -> None:
    base = write_lines(
        tmp_path / "base.txt", ["# a comment", f"numpy=={HERE}  # why", "orjson==0.0.1"]
    )
    more = write_lines(tmp_path / "more.txt", ["-r base.txt", "no-such-package==2.0", "orjson==1"])
    expected = f"orjson {metadata.version('orjson')} instead of 0.0.1"
    assert differences([base]) == [expected]
    also = f"orjson {metadata.version('orjson')} instead of 1"
    assert differences([more]) == [expected, "no no-such-package", also]


def test_a_cpu_build_is_the_same_version(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "2.13.0+cpu")
    assert differences([write_lines(tmp_path / "r.txt", ["torch==2.13.0"])]) == []


def source(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Source environment.sh in a copy of the scripts and print which python it selects."""
    shutil.copytree(ROOT / "scripts", folder / "scripts", dirs_exist_ok=True)
    write_lines(folder / "requirements.txt", [f"numpy=={HERE}", "no-such-package==1"])
    command = "set -eu; source scripts/environment.sh requirements.txt; command -v python; pwd"
    environment = os.environ | {"PYTHON": sys.executable} | settings
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_system_python_is_used_and_nothing_installed(tmp_path: Path) -> None:
    result = source(tmp_path, PYTHON_ENV="system")
    assert result.returncode == 0
    python, folder = result.stdout.splitlines()
    assert (Path(python).parent, Path(folder)) == (Path(sys.executable).parent, tmp_path)
    assert result.stderr == "this Python differs from requirements.txt: no no-such-package\n"
    assert not (tmp_path / ".venv").exists()


def test_another_kind_of_environment_is_refused(tmp_path: Path) -> None:
    result = source(tmp_path, PYTHON_ENV="conda")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: PYTHON_ENV must be system or unset, not conda\n"
