"""Every recipe from its launcher to its plan: ranks, accumulation, 128 examples, schedule, memory.

The models are their published config.json numbers with the miniature's tokenizer and no weights;
the rows are as long as GSM8K's with LLaMA's tokenizer.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from random import Random

import pytest

import train
from screl.core.io import UserError
from screl.core.problems import Problem
from screl.models.tokenizer import load_tokenizer, tokenize_example
from tests.conftest import MINI_MODEL, ROOT, run_script

# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
# vocab_size; weights; GPUs as published
MODELS = {
    "llama_7b": ((4096, 11008, 32, 32, 32, 32000), 6_738_415_616, 8),
    "llama2_7b": ((4096, 11008, 32, 32, 32, 32000), 6_738_415_616, 8),
    "llama_13b": ((5120, 13824, 40, 40, 40, 32000), 13_015_864_320, 8),
    "llama2_13b": ((5120, 13824, 40, 40, 40, 32000), 13_015_864_320, 8),
    "llama_33b": ((6656, 17920, 60, 52, 52, 32000), 32_528_943_616, 16),
    "llama_65b": ((8192, 22016, 80, 64, 64, 32000), 65_285_660_672, 32),
    "llama2_70b": ((8192, 28672, 80, 64, 8, 32000), 68_976_648_192, 32),
    "llama3_2_1b": ((2048, 8192, 16, 32, 8, 128256), 1_235_814_400, 1),
    "smollm2_135m": ((576, 1536, 30, 9, 3, 49152), 134_515_008, 1),
    "mini": ((128, 320, 4, 4, 2, 768), 787_584, 1),
}
LAUNCHERS = {
    "llama_7b": "train_7b.sh", "llama_13b": "train_13b.sh", "llama_33b": "train_30b.sh",
    "llama_65b": "train_65b.sh", "llama2_70b": "train_70b.sh",
}  # fmt: skip
N_ROWS = 512


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GSM8K's rows have 120 to 510 tokens, 220 on average."""
    tokenizer, random = load_tokenizer(str(MINI_MODEL)), Random(0)
    lines = []
    for number in range(N_ROWS):
        solution = "1" * min(int(90 + random.expovariate(1 / 100)), 440)
        problem = Problem(number, "x" * random.randint(20, 60), solution, 1)
        assert 100 < len(tokenize_example(tokenizer, problem)) <= 512
        row = {"query": problem.question, "response": solution}
        lines.append(json.dumps(row) + "\n")
    path = tmp_path_factory.mktemp("rows") / "data.jsonl"
    path.write_text("".join(lines))
    return path


def write_model(folder: Path, name: str) -> Path:
    """The tokenizer of the miniature and the config of ``name``."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "vocab_size")  # fmt: skip
    numbers = dict(zip(names, MODELS[name][0], strict=True))
    tied = {"tie_word_embeddings": name in ("llama3_2_1b", "smollm2_135m", "mini")}
    for path in MINI_MODEL.glob("*token*"):
        shutil.copy(path, folder)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | numbers | tied
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def words_of(name: str, *arguments: object) -> list[str]:
    """What the launcher gives to train.py."""
    launcher = [LAUNCHERS[name]] if name in LAUNCHERS else ["train.sh", name]
    result = run_script(
        f"scripts/{launcher[0]}", *launcher[1:], *arguments, launcher=("bash",),
        LAUNCHER="echo", NODE_RANK="0", MASTER_ADDR="node0",
    )  # fmt: skip
    return result.stdout.partition(f"{ROOT}/train.py ")[2].split()


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_is_rehearsed(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    _, n_weights, n_gpus = MODELS[name]
    model = write_model(tmp_path, name)
    words = words_of(name, data, tmp_path / "out", 3, "--model_name_or_path", model, "--dry_run")
    monkeypatch.setattr(sys, "argv", ["train.py", *words, "--gpu_memory_gib", "80"])
    train.main()  # a UserError if it does not fit
    printed = capsys.readouterr().out
    batch = {"mini": 16, "smollm2_135m": 8}.get(name, 128)
    n_steps = 3 * N_ROWS // batch

    def row(pattern: str) -> tuple[str, ...]:
        found = re.search(pattern, printed)
        assert found, f"{pattern} is not in\n{printed}"
        return found.groups()

    row(rf"rehearsal of --world_size {n_gpus} --sharding")
    row(rf"steps +{n_steps} of {batch} examples\n")
    least, most, mean = row(r"examples +(\d+) to (\d+) \(mean ([\d.]+)\) a rank and step")
    assert int(least) >= 1
    assert float(mean) == batch / n_gpus
    (accumulation,) = row(r"micro-batches +(?:\d+ to )?(\d+) a rank")
    budget = 2048 if n_gpus > 8 or name == "smollm2_135m" else 4096
    (largest,) = row(r"\d+ to ([\d,]+) \(mean [\d.,]+\) a micro-batch")
    assert int(largest.replace(",", "")) <= budget
    assert int(accumulation) <= int(most)
    row(f"model +{n_weights:,} weights")
    first, warmed, warm_up, last = row(
        r"learning rate +(\S+) at first, (\S+) after (\d+) steps of warm-up, (\S+) in the last"
    )
    highest = {"mini": 2e-3, "smollm2_135m": 1e-4}.get(name, 2e-5)
    assert (float(first), float(warmed)) == (0, highest)
    assert int(warm_up) == -(-3 * n_steps // 100)  # 3 %, rounded up
    assert float(last) < 0.1 * highest
    (peak,) = row(r"peak +([\d.]+) of 80 ")
    assert float(peak) <= 78


def test_fewer_gpus_than_it_needs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quarter of the published number: the refusal, after the plan, names what would fit."""
    model = write_model(tmp_path, "llama2_70b")
    words = words_of(
        "llama2_70b", data, tmp_path / "out", 3, "--model_name_or_path", model,
        "--dry_run", "--world_size", 8, "--gpu_memory_gib", 80,
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(UserError, match=r"of 80, .* would fit: .*--world_size 16"):
        train.main()
    assert "rehearsal of --world_size 8" in capsys.readouterr().out


def test_more_ranks_than_examples(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of 128 examples cannot be divided among more than 128 processes."""
    words = words_of(
        "llama2_70b", data, tmp_path / "out", 3, "--model_name_or_path",
        write_model(tmp_path, "llama2_70b"), "--dry_run", "--world_size", 129,
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(UserError, match="128"):
        train.main()


def test_what_can_be_rehearsed_without_weights_cannot_be_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path, "mini")
    words = words_of("mini", data, tmp_path / "out", 3, "--model_name_or_path", model)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(UserError, match="no weights"):
        train.main()
    assert not (tmp_path / "out").exists()
