"""What --doctor and --dry_run accept, training takes: a small copy is tried by training's code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from benchmarks.check_models import KINDS
from screl.core.io import UserError
from screl.training import model as model_module
from screl.training import trial
from screl.training.model import model_head
from screl.training.trial import largest_difference, small_copy, try_architecture

REFUSED = {"StableLM", "Falcon"}
LLAMA_70B = LlamaConfig(
    hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
    num_key_value_heads=8, vocab_size=128256,
)  # fmt: skip


def config_of(name: str) -> object:
    kind = KINDS[name]
    return AutoConfig.for_model(kind.model_type, **kind.changes)  # with the widths of the published


@pytest.mark.parametrize("name", list(KINDS))
def test_each_architecture_is_supported_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    config_of(name).save_pretrained(tmp_path)
    if name in REFUSED:
        with pytest.raises(UserError, match="computes attention by code of its own") as error:
            try_architecture(str(tmp_path))
        assert "\n" not in str(error.value)
    else:
        found = try_architecture(str(tmp_path))
        assert "has the logits of transformers" in found


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("hyperclovax", {"logits_scaling": 8.0}, "would compute other logits for HyperCLOVAX"),
        ("gpt_oss", {}, "GptOssForCausalLM: this model's attention uses s_aux"),
        ("bloom", {}, "BloomForCausalLM computes attention by code of its own"),
        ("gptj", {}, "GPTJForCausalLM computes attention by code of its own"),
    ],
)
def test_other_architectures_are_refused(
    model_type: str, settings: dict[str, float], message: str, tmp_path: Path
) -> None:
    """HyperCLOVA X multiplies by what Granite divides by."""
    AutoConfig.for_model(model_type, **settings).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        try_architecture(str(tmp_path))


def test_the_copy_is_small_and_keeps_the_proportions_of_its_heads() -> None:
    small = small_copy(LLAMA_70B)
    assert LLAMA_70B.num_hidden_layers == 80
    assert (small.num_attention_heads, small.num_key_value_heads) == (16, 2)
    assert small.hidden_size / small.num_attention_heads == 128
    model = AutoModelForCausalLM.from_config(small)
    assert sum(weight.numel() for weight in model.parameters()) < 30_000_000


def test_the_copy_has_a_layer_of_each_kind() -> None:
    gemma = AutoConfig.for_model("gemma3_text", num_hidden_layers=26)
    assert small_copy(gemma).layer_types == [
        "sliding_attention", "sliding_attention", "full_attention"
    ]  # fmt: skip


@pytest.mark.parametrize("part", ["scale", "softcap", "attention", "packing"])
def test_a_part_that_training_leaves_out_is_found(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "Cohere" if part == "scale" else "Gemma 2"
    config_of(name).save_pretrained(tmp_path)
    if part in ("scale", "softcap"):
        left_out = {"scale": {"scale": 1.0}, "softcap": {"softcap": None}}[part]
        monkeypatch.setattr(
            model_module, "model_head", lambda model: replace(model_head(model), **left_out)
        )
    elif part == "attention":
        product = model_module.product_attention
        monkeypatch.setattr(
            model_module, "product_attention",
            lambda *parts, softcap: product(*parts),
        )  # fmt: skip
    else:
        pack = trial.pack
        whole = torch.tensor([0, sum(length for length, _ in trial.LENGTHS)], dtype=torch.int32)
        monkeypatch.setattr(trial, "pack", lambda rows: replace(pack(rows), starts=whole))
    with pytest.raises(UserError, match=r"would compute other logits .* leaves out a part"):
        try_architecture(str(tmp_path))


def test_trying_a_model_draws_no_random_number_of_the_run() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert largest_difference(small_copy(LLAMA_70B)) < 1e-4
    assert torch.equal(torch.rand(3), expected)


def test_a_copy_that_cannot_be_made_small_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_of("Qwen3").save_pretrained(tmp_path)
    monkeypatch.setattr(trial, "MOST_WEIGHTS", 1000)
    assert try_architecture(str(tmp_path)).startswith("not tried: the smallest copy of Qwen3For")
