"""Share a random LLaMA with the miniature's tokenizer and a function that runs scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# No time limit per example: the machine may be busy. Under scripts/mutation_check.py, its own
# profile stays active.
hypothesis.settings.register_profile("default", deadline=None)

ROOT = Path(__file__).parent.parent
MINI_MODEL = ROOT / "data/mini/model"
WARM_PYTHON = (sys.executable, ROOT / "tests/warm_python.py")  # runs scripts with faster imports


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu, with the reason, where CUDA is not available."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a GPU (torch sees no CUDA here)"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a two-layer LLaMA with random weights in Hugging Face layout."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_script(
    *arguments: object, launcher: tuple[str, ...] = (), **settings: str
) -> subprocess.CompletedProcess:
    """Run a script as its users do, with environment variables ``settings`` and one thread."""
    command = [*(launcher or (sys.executable,)), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | settings
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300
    )


def write_lines(path: Path, lines: list[str]) -> Path:
    """Write ``lines`` to ``path`` and return it."""
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read_cases(name: str) -> list[dict[str, Any]]:
    """Return the rows of tests/data/cases/NAME.jsonl."""
    lines = (ROOT / f"tests/data/cases/{name}.jsonl").read_text().split("\n")
    return [json.loads(line) for line in lines if line]
