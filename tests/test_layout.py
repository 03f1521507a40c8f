"""Text and mathematics stay free of torch; --help is quick and mentions every option."""

import dataclasses
import subprocess
import sys

import pytest

from tests.conftest import ROOT, run_script
from tests.test_config import SCRIPTS

HEAVY = ("torch", "transformers", "vllm", "ray", "deepspeed")
LIGHT_MODULES = ("answers", "arithmetic", "completions", "config", "equations", "files", "metrics",
                 "problems", "prompts", "published", "rejection", "run_info", "scoring", "store",
                 "table")  # fmt: skip
SCRIPT_NAMES = {
    "train": "train.py",
    "sample": "sample.py",
    "collect": "collect_rejection_sampling.py",
    "eval": "eval.py",
}


@pytest.mark.parametrize(
    "module",
    [
        *(f"screl.{name}" for name in LIGHT_MODULES),
        *(name.removesuffix(".py") for name in SCRIPT_NAMES.values()),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_help_names_every_option(name: str) -> None:
    result = run_script(SCRIPT_NAMES[name], "--help")
    assert result.returncode == 0
    for field in dataclasses.fields(SCRIPTS[name]):
        assert field.name in result.stdout
    assert "--config FILE.yaml" in result.stdout
