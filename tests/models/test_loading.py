"""Bad checkpoints are refused in one line; embeddings grow with the tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from screl.core.io import UserError
from screl.models.loading import fit_vocabulary, load_model
from screl.models.tokenizer import load_tokenizer, vocabulary_size


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"damaged weights|cannot be loaded"):
        load_model(str(copy), torch.float32)
    weights.rename(copy / "pytorch_model.bin").write_bytes(b"garbage" * 100)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(copy), torch.float32)


def test_missing_weights_are_not_initialized(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weight is missing \(first: model\.layers\.1\.mlp"):
        load_model(str(copy), torch.float32)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"hidden_size": 64, "head_dim": 32}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(copy), torch.float32)


def small_model(rows: int, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_new", [1, 65])
def test_embeddings_grow_to_a_multiple_of_64_with_the_mean_of_the_old_rows(
    tiny_model: Path, tmp_path: Path, tied: bool, n_new: int
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.add_tokens([f"<new {i}>" for i in range(n_new)])
    assert vocabulary_size(tokenizer) == 768 + n_new
    model = small_model(768, tied)
    old = [
        model.get_input_embeddings().weight.clone(),
        model.get_output_embeddings().weight.clone(),
    ]
    wanted = {1: 832, 65: 896}[n_new]
    line = fit_vocabulary(model, tokenizer)
    assert line is not None
    assert f"the vocabulary grows from 768 to {wanted}, a multiple of 64" in line
    assert model.config.vocab_size == wanted
    for before, layer in zip(
        old, (model.get_input_embeddings(), model.get_output_embeddings()), strict=True
    ):
        assert layer.weight.shape == (wanted, 16)
        assert layer.weight.requires_grad
        assert torch.equal(layer.weight[:768], before)
        torch.testing.assert_close(layer.weight[768:], before.mean(dim=0).expand(wanted - 768, 16))
    shared = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert shared is tied
    assert model(torch.tensor([[wanted - 1]])).logits.shape == (1, 1, wanted)
    assert fit_vocabulary(model, tokenizer) is None
    model.save_pretrained(tmp_path / "grown")
    again = load_model(str(tmp_path / "grown"), torch.float32)
    assert torch.equal(again.get_output_embeddings().weight, model.get_output_embeddings().weight)


@pytest.mark.parametrize("rows", [768, 800])
def test_embeddings_that_suffice_are_not_changed(tiny_model: Path, rows: int) -> None:
    model = small_model(rows, tied=False)
    assert fit_vocabulary(model, load_tokenizer(str(tiny_model))) is None
    assert model.config.vocab_size == rows
    assert model.get_input_embeddings().num_embeddings == rows
