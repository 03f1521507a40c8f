"""Train, reload and sample a tiny random model of each architecture.

    python benchmarks/check_models.py --work_dir runs/check_models --engines transformers vllm

Every model has the miniature's tokenizer, two to six layers of 128 values (vLLM on a CPU needs
heads of 32), and windows and scales of the kind its architecture has. train.py trains it for 8
steps and verifies what it saved; sample.py then writes 8 greedy completions in float32 with each
engine, which must be those of transformers' own generate(). The table is that of docs/training.md.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sample
import train
from screl.core.config import run_main
from screl.core.io import UserError
from screl.core.problems import Problem, ProblemId, build_prompt, load_problems
from screl.core.rows import read_rows
from screl.models.loading import load_model
from screl.models.tokenizer import decode_completion, load_tokenizer, prompt_ids
from screl.training.trial import try_architecture

ROOT = Path(__file__).resolve().parents[1]
MINI = ROOT / "data/mini"
N_ROWS, N_NEW = 8, 32
SIZES: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 256,
}  # fmt: skip
TIED = {"tie_word_embeddings": True}
WINDOW = {"sliding_window": 64}  # shorter than the rows, as no published one is here
GRANITE = {
    "logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
    "attention_multiplier": 0.0625,
}  # fmt: skip
GEMMA = TIED | WINDOW | {"head_dim": 32, "query_pre_attn_scalar": 32}


@dataclass(frozen=True)
class Kind:
    """An architecture: its name in config.json, and what differs from ``SIZES``."""

    model_type: str
    changes: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "LLaMA 1, LLaMA 2 7B and 13B": Kind("llama", {"num_key_value_heads": 4}),
    "LLaMA 2 70B": Kind("llama"),
    "LLaMA 3": Kind("llama", {"rope_parameters": LLAMA_3}),
    "Qwen2": Kind("qwen2"),
    "Qwen2.5 (tied)": Kind("qwen2", TIED),
    "Qwen3": Kind("qwen3", {"head_dim": 32}),
    "Mistral v0.1": Kind("mistral", WINDOW),
    "Mistral v0.3": Kind("mistral", {"sliding_window": None}),
    "Phi-2": Kind("phi", {"num_key_value_heads": 4}),
    "Phi-3": Kind("phi3", WINDOW | {"resid_pdrop": 0.1}),
    "Gemma 1": Kind("gemma", TIED | {"head_dim": 32, "num_key_value_heads": 1}),
    "Gemma 2": Kind("gemma2", GEMMA),
    "Gemma 3": Kind("gemma3_text", GEMMA | {"num_hidden_layers": 6}),
    "OLMo 2": Kind("olmo2"),
    "SmolLM3": Kind("smollm3", {"num_hidden_layers": 4}),
    "Granite 3": Kind("granite", GRANITE),
    "GLM-4": Kind("glm4", {"head_dim": 32}),
    "StableLM": Kind("stablelm"),
    "GPT-2": Kind("gpt2", TIED | {"num_key_value_heads": 4}),
    "Pythia": Kind("gpt_neox", {"num_key_value_heads": 4, "hidden_dropout": 0.1}),
    "Falcon": Kind("falcon"),
    "Cohere": Kind("cohere", TIED | {"logit_scale": 0.0625}),
    "Cohere 2": Kind("cohere2", TIED | WINDOW | {"logit_scale": 0.25, "num_hidden_layers": 4}),
}


def write_tiny(kind: Kind, folder: Path) -> Path:
    """Save a random model of ``kind`` with the miniature's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(MINI / "model")
    settings = SIZES | kind.changes | {"vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(kind.model_type, **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=1.5 * weight.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def generate(folder: Path, problems: Iterable[Problem]) -> dict[ProblemId, str]:
    """Return each problem's greedy completion by transformers' own attention and generate()."""
    model, tokenizer = load_model(str(folder), torch.float32, "eager"), load_tokenizer(str(folder))
    completions = {}
    for problem in problems:
        prompt = prompt_ids(tokenizer, build_prompt(problem.question))
        ids = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False, max_new_tokens=N_NEW,
        )[0].tolist()[len(prompt) :]  # fmt: skip
        completions[problem.problem_id] = decode_completion(tokenizer, prompt, ids)
    return completions


def run(main: Callable[[], None], **options: object) -> str | None:
    """Run a script's ``main`` in this process; return its error, or None."""
    sys.argv = ["script", *(f"--{name}={value}" for name, value in options.items())]
    try:
        with redirect_stdout(sys.stderr):
            main()
    except UserError as error:
        return str(error)
    return None


def sampled(folder: Path, data: Path, engine: str, expected: dict[ProblemId, str]) -> str:
    """Sample with ``engine`` and return the table's cell."""
    store = folder.parent / engine
    fault = run(
        sample.main, model_name_or_path=folder, data_path=data, output_dir=store, engine=engine,
        greedy="true", precision="fp32", max_new_tokens=N_NEW, batch_size=4,
    )  # fmt: skip
    if fault:
        print(f"{folder}: {engine}: {fault}", file=sys.stderr)
        return "no"
    made = {row["problem_id"]: row["completion"] for _, row in read_rows(store / "samples-0.jsonl")}
    n_equal = sum(made[i] == text for i, text in expected.items())
    return "yes" if n_equal == len(expected) else f"{n_equal} of {len(expected)} equal"


def check(name: str, kind: Kind, folder: Path, engines: list[str]) -> list[str]:
    """Return the table's row of one architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    base, trained, data = folder / "base", folder / "trained", folder / "rows.jsonl"
    lines = (MINI / "train.jsonl").read_text(encoding="utf-8").splitlines()[:N_ROWS]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_tiny(kind, base)
    model_type = f"`{kind.model_type}`"
    try:
        try_architecture(str(base))
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return [name, model_type, "refused", *["-"] * len(engines)]
    fault = run(
        train.main, model_name_or_path=base, data_path=data, output_dir=trained, save_steps=0,
        num_train_epochs=8, global_batch_size=8, learning_rate=3e-3, precision="fp32",
    )  # fmt: skip
    if fault:
        print(f"{name}: train.py: {fault}", file=sys.stderr)
        return [name, model_type, "no", *["-"] * len(engines)]
    log = [json.loads(line) for line in (trained / "train_log.jsonl").read_text().splitlines()]
    expected = generate(trained, load_problems(data))
    cells = [sampled(trained, data, engine, expected) for engine in engines]
    return [name, model_type, f"{log[0]['loss']:.1f} to {log[-1]['loss']:.1f}", *cells]


def main() -> None:
    """Print the table, a row as soon as it is known on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", type=Path, required=True, help="for models and samples")
    parser.add_argument("--engines", nargs="+", default=["transformers"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), help="rows of the table")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.kinds:
        folder = arguments.work_dir / name.replace(" ", "_").replace(",", "")
        rows.append(check(name, KINDS[name], folder, arguments.engines))
        print(*rows[-1], sep=" | ", file=sys.stderr)
    header = ["model", "model_type", "train.py: loss", *arguments.engines]
    for cells in [header, ["---"] * len(header), *rows]:
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    run_main(main)
