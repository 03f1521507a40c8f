"""Liger's kernels need a GPU; which modules would get them is told by stand-ins."""

import sys
from types import ModuleType

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from screl.training import model as liger


@pytest.fixture
def model() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=3,
                    num_attention_heads=2)
    )  # fmt: skip


def test_without_a_gpu_nothing_changes(model: LlamaForCausalLM) -> None:
    assert not torch.cuda.is_available()
    assert liger.use_liger(model) == 0


def test_all_norms_and_gated_layers_change_and_no_class(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms, gated = [], []
    patches = ModuleType("liger_kernel.transformers.monkey_patch")
    patches._patch_rms_norm_module = lambda module, eps: norms.append((type(module).__name__, eps))
    patches._patch_swiglu_module = lambda module, kernel: gated.append((type(module), kernel))
    swiglu = ModuleType("liger_kernel.transformers.swiglu")
    swiglu.LigerSwiGLUMLP = "kernel"
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, patches.__name__, patches)
    monkeypatch.setitem(sys.modules, swiglu.__name__, swiglu)
    monkeypatch.setattr(liger, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert liger.use_liger(model) == 3 * 3 + 1
    assert norms == [("LlamaRMSNorm", 1e-6)] * 7
    assert gated == [(type(model.model.layers[0].mlp), "kernel")] * 3
