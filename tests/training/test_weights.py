"""Every process reads its own part of a checkpoint, and no more."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from screl.core.io import UserError
from screl.models.loading import empty_model, load_model
from screl.models.tokenizer import load_tokenizer
from screl.training import weights
from screl.training.config import TrainConfig
from screl.training.model import PACKED_ATTENTION
from screl.training.weights import StoredWeights

pytest.importorskip("deepspeed")
from screl.training.deepspeed import load_copy

SHAPES = [(7, 5), (13,), (4, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_parts", [1, 2, 3, 8, 50])
def test_flat_parts_may_begin_and_end_within_a_row(
    shape: tuple[int, ...], n_parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As zero3 cuts a weight, in slices of at most two of the widest rows."""
    monkeypatch.setattr(weights, "SLICE_VALUES", 12)
    weight = torch.randn(shape)
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    stored = StoredWeights({"weight": tmp_path / "model.safetensors"}, {"weight": shape})
    size = -(-weight.numel() // n_parts)
    for start in range(0, weight.numel(), size):
        part = torch.empty(min(size, weight.numel() - start))
        stored.fill("weight", part, start)
        assert torch.equal(part, weight.flatten()[start : start + size])


@pytest.mark.parametrize("n_parts", [1, 2, 5, 13])
def test_new_rows_are_the_mean_of_the_stored_ones(n_parts: int, tmp_path: Path) -> None:
    weight = torch.randn(7, 5)
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    stored = StoredWeights({"weight": tmp_path / "model.safetensors"}, {"weight": (7, 5)})
    expected = torch.cat([weight, weight.mean(dim=0).expand(6, 5)]).flatten()
    size = -(-65 // n_parts)
    parts = [torch.empty(min(size, 65 - start)) for start in range(0, 65, size)]
    for number, part in enumerate(parts):
        stored.fill("weight", part, number * size)
    torch.testing.assert_close(torch.cat(parts), expected)


def test_zero2_is_refused_above_what_the_machine_holds(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the checkpoint cannot be read in slices; the message names fsdp."""
    folder = str(shutil.copytree(tiny_model, tmp_path / "model"))
    model = load_model(folder, torch.float32)
    torch.save(model.state_dict(), tmp_path / "model/pytorch_model.bin")
    (tmp_path / "model/model.safetensors").unlink()
    pages = 8 * 4 * model.num_parameters() // os.sysconf("SC_PAGE_SIZE")
    config, tokenizer = TrainConfig(folder, tmp_path, tmp_path), load_tokenizer(folder)
    device = torch.device("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    real = os.sysconf
    for room, fits in ((pages + 1, True), (pages - 1, False)):
        monkeypatch.setattr(
            os, "sysconf", lambda name, room=room: room if name == "SC_PHYS_PAGES" else real(name)
        )
        empty = empty_model(folder, PACKED_ATTENTION)
        if fits:
            assert load_copy(empty, config, tokenizer, {}, device).num_parameters()
            continue
        with pytest.raises(UserError, match=r"on each of 8 processes.*; use --sharding fsdp"):
            load_copy(empty, config, tokenizer, {}, device)
