"""Text and mathematics stay free of torch; --help is quick and mentions every option."""

import dataclasses
import subprocess
import sys

import pytest

from tests.conftest import ROOT, run_script
from tests.test_config import SCRIPTS

# sympy and math_verify take half a second, as does matplotlib, and scipy a fifth: imported by the
# function that needs them.
HEAVY = {
    "torch", "transformers", "vllm", "ray", "deepspeed", "math_verify", "sympy", "scipy",
    "matplotlib",
}  # fmt: skip
IMPORT_TORCH = {
    "deepspeed_engine", "engine_hf", "final_checkpoint", "head_loss", "liger", "modeling",
    "packed_model", "slot_cache", "torch_engine", "training",
}  # fmt: skip
USE_TORCH = IMPORT_TORCH | {
    "doctor", "doctor_checks", "endings", "engine_vllm", "sampling", "sampling_cost",
    "sampling_preview", "sft_data", "tokenizer_files", "training_data", "weight_headers",
}  # fmt: skip
MODULES = {path.stem: path for path in sorted((ROOT / "screl").glob("*.py"))}
SCRIPT_NAMES = {
    "train": "train.py",
    "sample": "sample.py",
    "collect": "collect_rejection_sampling.py",
    "eval": "eval.py",
    "cost": "analyze.py cost",
    "paper": "analyze.py paper",
    "miniature": "analyze.py miniature",
}


def test_few_modules_import_torch() -> None:
    found = {name for name, path in MODULES.items() if "\nimport torch" in path.read_text()}
    assert found == IMPORT_TORCH


def test_importing_anything_else_loads_nothing_heavy() -> None:
    light = [f"screl.{name}" for name in MODULES if name not in USE_TORCH]
    light += [name.split(".py")[0] for name in SCRIPT_NAMES.values()]
    code = f"""
import importlib, sys
for module in {light}:
    importlib.import_module(module)
    if loaded := {HEAVY} & sys.modules.keys():
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
