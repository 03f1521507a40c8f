"""Test what needs CUDA: the attention kernel, Liger's kernels, and a whole run on a GPU."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from screl.training.model import exact_attention, flash_attention, pack, use_liger
from tests.conftest import run_script
from tests.training.conftest import read_log, train_options
from tests.training.test_model import EXAMPLES, make_model, packed

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("window", [None, 7, 30, 99])
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
def test_flash_attention_equals_exact_attention_of_each_example(
    n_key_heads: int, window: int | None
) -> None:
    torch.manual_seed(0)
    shapes = [(1, heads, 60, 16) for heads in (4, n_key_heads, n_key_heads)]
    rounded = [
        torch.randn(shape, device="cuda", dtype=torch.bfloat16).requires_grad_() for shape in shapes
    ]
    exact = [part.detach().float().requires_grad_() for part in rounded]
    starts = torch.tensor([0, 35, 60], dtype=torch.int32, device="cuda")
    parts = zip(*(x.split([35, 25], dim=2) for x in exact), strict=True)
    expected = torch.cat([exact_attention(*part, 0.3, window) for part in parts], dim=2)
    expected = expected.transpose(1, 2)
    found = flash_attention(*rounded, starts, 35, 0.3, window)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    by = torch.randn_like(expected)
    expected.backward(by)
    found.backward(by.bfloat16())
    for one, other in zip(exact, rounded, strict=True):
        assert (other.grad.float() - one.grad).norm() < 0.02 * one.grad.norm()


def test_the_packed_kernel_equals_padded_sdpa() -> None:
    """Against transformers' own model with torch's attention, right-padded, in bf16."""
    model = make_model()
    model.set_attn_implementation("sdpa")
    model.to("cuda", torch.bfloat16)
    longest = max(map(len, EXAMPLES))
    ids = torch.zeros(len(EXAMPLES), longest, dtype=torch.long, device="cuda")
    mask = torch.zeros_like(ids)
    for row, example in enumerate(EXAMPLES):
        ids[row, : len(example)] = torch.from_numpy(example.input_ids).cuda()
        mask[row, : len(example)] = 1
    logits = model(input_ids=ids, attention_mask=mask).logits
    expected = torch.cat(
        [logits[row, e.n_prompt - 1 : len(e) - 1] for row, e in enumerate(EXAMPLES)]
    )
    ours = packed(make_model())
    ours.model.to("cuda", torch.bfloat16)
    found = ours(pack(EXAMPLES).to(torch.device("cuda")), logits=True)
    assert (found - expected).norm() < 0.02 * expected.norm()


def loss_and_gradients(
    model: LlamaForCausalLM, liger: bool
) -> tuple[float, dict[str, torch.Tensor]]:
    ours = packed(model)
    ours.model.to("cuda", torch.bfloat16)
    if liger:
        assert use_liger(ours.model) == 7  # two layers of two norms and an MLP, and the last norm
    loss = ours(pack(EXAMPLES, [0.1] * len(EXAMPLES)).to(torch.device("cuda")))
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in ours.model.named_parameters()}


def test_ligers_kernels_compute_the_same_within_bf16() -> None:
    pytest.importorskip("liger_kernel")
    model = make_model()
    expected, gradients = loss_and_gradients(model, liger=False)
    found, others = loss_and_gradients(model, liger=True)
    assert found == pytest.approx(expected, rel=0.02)
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() < 0.1 * gradient.norm(), name


def test_a_run_on_a_gpu_learns_what_a_cpu_learns(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """Also its final checkpoint passes, and memory and device time are those of the GPU."""
    for name, visible in (("gpu", {}), ("cpu", {"CUDA_VISIBLE_DEVICES": ""})):
        argv = train_options(tiny_model, data, tmp_path / name, precision="bf16")
        result = run_script("train.py", *argv, **visible)
        assert result.returncode == 0, result.stderr[-3000:]
    assert read_log(tmp_path / "gpu") == pytest.approx(read_log(tmp_path / "cpu"), abs=0.05)
    info = json.loads((tmp_path / "gpu/run.json").read_text())
    assert info["gpu"]
    assert info["results"]["cost"]["device"] == "gpu"
    assert info["peak_gpu_memory_mib"] >= info["results"]["memory_mib"] > 0
