"""The names and shapes in weight files, compared with the model of config.json."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from screl.core.io import UserError
from screl.models.loading import empty_model
from screl.models.weight_headers import Headers, compare_weights, read_headers
from tests.conftest import MINI_MODEL
from tests.llama_layouts import copy_model

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return copy_model(tiny_model, tmp_path / "copy")


def headers_of(folder: Path) -> Headers:
    headers = read_headers(folder)
    assert headers is not None
    return headers


def compare(folder: Path) -> list[str]:
    return compare_weights(headers_of(folder), empty_model(str(folder), "eager"))


def rewrite(folder: Path, change: Any) -> None:
    """Apply ``change`` to the dict of weights in the file."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_headers_list_the_weights_of_the_model(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    headers = headers_of(tiny_model)
    assert headers.shapes == {name: tuple(w.shape) for name, w in model.named_parameters()}
    assert headers.n_values == model.num_parameters()
    assert (headers.dtypes, headers.n_files) == ({"F32": len(headers.shapes)}, 1)


@pytest.mark.parametrize("tied", [False, True])
def test_a_whole_checkpoint_has_no_fault(tiny_model: Path, tied: bool) -> None:
    folder = MINI_MODEL if tied else tiny_model
    assert ("lm_head.weight" in headers_of(folder).shapes) is not tied
    assert compare(folder) == []


def test_shards_are_read_together(copy: Path) -> None:
    whole = headers_of(copy)
    model = LlamaForCausalLM.from_pretrained(copy, dtype=torch.bfloat16)
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy, max_shard_size="40KB")
    headers = headers_of(copy)
    assert headers.n_files > 1
    assert headers.shapes == whole.shapes
    assert headers.dtypes == {"BF16": len(whole.shapes)}
    index = json.loads((copy / "model.safetensors.index.json").read_text())
    (copy / index["weight_map"][UP]).unlink()
    with pytest.raises(UserError, match=r"model-0.*damaged or missing"):
        read_headers(copy)


def test_missing_extra_and_misshapen_weights_are_named(copy: Path) -> None:
    rewrite(copy, lambda weights: weights.pop(UP))
    [line] = compare(copy)
    assert line.startswith(f"1 weight is missing and would be random (first: {UP})")
    rewrite(copy, lambda weights: weights.update({UP: torch.zeros(3, 3), "extra": torch.zeros(1)}))
    extra, misshapen = compare(copy)
    assert "1 weight is not of this model and would be ignored (first: extra)" in extra
    assert (
        f"1 weight is of another shape than config.json says and cannot be loaded (first: {UP}"
        in misshapen
    )


def test_obsolete_tables_of_old_llama_checkpoints_are_no_fault(copy: Path) -> None:
    rewrite(
        copy,
        lambda weights: weights.update(
            {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
        ),
    )
    assert compare(copy) == []


def test_the_empty_tensors_of_a_bad_zero3_save_are_one_fault(copy: Path) -> None:
    def empty(weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            weights[name] = weight if weight.dim() == 1 else torch.zeros(0)

    rewrite(copy, empty)
    [line] = compare(copy)
    assert "hold 160 values, the config asks for 69,792: a bad save" in line


def test_a_damaged_file_is_refused_and_a_folder_without_files_is_not(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged or missing"):
        read_headers(copy)
    path.unlink()
    assert read_headers(copy) is None
