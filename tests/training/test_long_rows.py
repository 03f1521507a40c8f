"""A row of 32k tokens trains in the memory that was planned."""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from screl.models.tokenizer import load_tokenizer
from tests.conftest import run_script
from tests.training.conftest import train_options

POSITIONS = 32768


@pytest.mark.slow
def test_a_row_of_32k_tokens_trains_in_the_planned_memory(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.save_pretrained(tmp_path / "model")
    config = LlamaConfig(
        hidden_size=32, intermediate_size=96, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, vocab_size=768, max_position_embeddings=POSITIONS,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    sentence = "She has 3 pens and buys 4 more. "
    n_each = len(tokenizer(sentence * 100)["input_ids"]) / 100
    rows = [
        {"question": "How many?", "response": sentence * n + "#### 7"}
        for n in (int(0.99 * POSITIONS / n_each), 1)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = train_options(
        tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "out", sharding="none",
        max_length=POSITIONS, micro_batch_tokens=POSITIONS, global_batch_size=2,
        num_train_epochs=1, save_steps=0, precision="fp32",
    )  # fmt: skip
    result = run_script("train.py", *options)
    assert result.returncode == 0, result.stderr
    found = re.search(r"peak memory ([\d,]+) MiB, ([\d,]+) predicted", result.stderr)
    assert found
    measured, predicted = (float(number.replace(",", "")) for number in found.groups())
    assert measured == pytest.approx(predicted, rel=0.15)
