"""Test that packed examples get the losses and gradients of padded ones and never see each other.

Kernels that need a GPU are replaced by stand-ins here; test_gpu.py runs the real ones.
"""

import sys
from copy import deepcopy
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from screl.core.io import UserError
from screl.models.tokenizer import Example
from screl.training import model as model_module
from screl.training.model import (
    PACKED_ATTENTION,
    Batch,
    PackedLM,
    decoder_layers,
    exact_attention,
    flash_attention,
    pack,
    packed_attention,
    product_attention,
    turn_dropout_off,
    use_liger,
)


def make_model(**changes: float) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
           "attn_implementation": "eager"} | changes
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight *= 5  # attention that matters
    return model


def make_examples(*shapes: tuple[int, int], seed: int = 1) -> list[Example]:
    random = np.random.default_rng(seed)
    return [Example(random.integers(3, 96, n).astype(np.int32), k) for n, k in shapes]


EXAMPLES = make_examples((30, 10), (50, 20), (7, 3), (20, 19))


def padded_losses(model: LlamaForCausalLM, examples: list[Example]) -> torch.Tensor:
    """Return a plain reference: right-padded, masked, by transformers' eager attention."""
    longest = max(map(len, examples))
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.from_numpy(example.input_ids.astype(np.int64))
        mask[row, : len(example)] = 1
    logits = model(input_ids=ids, attention_mask=mask).logits
    return torch.cat(
        [
            functional.cross_entropy(
                logits[row, example.n_prompt - 1 : len(example) - 1],
                ids[row, example.n_prompt : len(example)],
                reduction="none",
            )
            for row, example in enumerate(examples)
        ]
    )


def packed(model: LlamaForCausalLM) -> PackedLM:
    copy = LlamaForCausalLM._from_config(
        deepcopy(model.config), attn_implementation=PACKED_ATTENTION
    )
    copy.load_state_dict(model.state_dict())
    return PackedLM(copy)


def losses(ours: PackedLM, examples: list[Example]) -> torch.Tensor:
    """Return the loss of every target, by the same forward pass."""
    batch = pack(examples)
    return functional.cross_entropy(ours(batch, logits=True), batch.targets, reduction="none")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
def test_losses_and_gradients_equal_those_of_padded_examples(
    n_key_heads: int, checkpointing: bool
) -> None:
    model = make_model(num_key_value_heads=n_key_heads)
    ours = packed(model)
    if checkpointing:
        ours.model.train().gradient_checkpointing_enable({"use_reentrant": False})
    expected = padded_losses(model, EXAMPLES)
    torch.testing.assert_close(losses(ours, EXAMPLES), expected, rtol=1e-5, atol=1e-5)
    weights = [0.5, 2.0, 0.0, 1.0]
    n_targets = torch.tensor([example.n_targets for example in EXAMPLES])
    total = (expected * torch.tensor(weights).repeat_interleave(n_targets)).sum()
    loss = ours(pack(EXAMPLES, weights))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=1e-5)
    (total / 3).backward()
    (loss / 3).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for name, weight in ours.model.named_parameters():
        difference = (weight.grad - gradients[name]).norm() / gradients[name].norm()
        assert difference < 1e-5, name


def test_no_token_sees_another_example() -> None:
    """Whatever comes before or after an example, its losses are the same to the bit."""
    ours = packed(make_model())
    n = EXAMPLES[1].n_targets
    others = make_examples((30, 10), (7, 3), seed=2)
    first = losses(ours, [EXAMPLES[0], EXAMPLES[1], EXAMPLES[2]])
    start = EXAMPLES[0].n_targets
    second = losses(ours, [others[0], EXAMPLES[1], others[1]])
    assert torch.equal(first[start : start + n], second[start : start + n])
    assert not torch.equal(first[:start], second[:start])
    alone = losses(ours, [EXAMPLES[1]])
    torch.testing.assert_close(alone, first[start : start + n])


def test_no_gradient_flows_between_examples() -> None:
    ours = packed(make_model())
    embedded = []
    hook = ours.model.model.embed_tokens.register_forward_hook(
        lambda *parts: embedded.append(parts[2].detach().requires_grad_()) or embedded[0]
    )
    loss = ours(pack(EXAMPLES, [0.0, 1.0, 0.0, 0.0]))
    hook.remove()
    a, b = EXAMPLES[0], EXAMPLES[1]
    loss.backward()
    touched = embedded[0].grad[0].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert touched == [*range(len(a), len(a) + len(b) - 1)]  # its last token predicts nothing


def test_a_batch_marks_examples_and_targets() -> None:
    examples = [Example(np.array([5, 6, 2]), 1), Example(np.array([7, 8, 9, 2]), 3)]
    batch = pack(examples, [0.5, 0.25])
    assert batch.input_ids.tolist() == [[5, 6, 2, 7, 8, 9, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert batch.starts.tolist() == [0, 3, 7]
    assert batch.predicting.tolist() == [0, 1, 5]
    assert batch.targets.tolist() == [6, 2, 2]
    assert batch.weights.tolist() == [0.5, 0.5, 0.25]
    assert pack(examples).weights.tolist() == [1, 1, 1]
    assert batch.longest == 4
    assert isinstance(batch.to(torch.device("cpu")), Batch)


def test_eos_carries_loss_even_if_it_is_the_pad_token() -> None:
    """No token is special: position decides what carries loss."""
    assert pack([Example(np.array([2, 2, 6, 2]), 2)]).targets.tolist() == [6, 2]


@pytest.mark.parametrize("n_key_heads", [2, 4])
def test_product_attention_equals_the_exact_one_rounded(n_key_heads: int) -> None:
    torch.manual_seed(0)
    shapes = [(1, heads, 60, 16) for heads in (4, n_key_heads, n_key_heads)]
    exact = [torch.randn(shape, dtype=torch.bfloat16).float().requires_grad_() for shape in shapes]
    rounded = [part.detach().bfloat16().requires_grad_() for part in exact]
    expected, found = exact_attention(*exact, 0.3), product_attention(*rounded, 0.3)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    by = torch.randn(expected.shape)
    expected.backward(by)
    found.backward(by.bfloat16())
    for one, other in zip(exact, rounded, strict=True):
        assert (other.grad.float() - one.grad).norm() < 0.01 * one.grad.norm()
    torch.testing.assert_close(product_attention(*rounded, None), product_attention(*rounded, 0.25))


def plain_varlen(q, k, v, starts_q, starts_k, longest_q, longest_k, scale):
    """Compute torch's variable-length attention, (tokens, heads, width), on a CPU."""
    assert torch.equal(starts_q, starts_k)
    assert longest_q == longest_k == int(starts_q.diff().max())
    parts = zip(*(x.split(starts_q.diff().tolist()) for x in (q, k, v)), strict=True)
    heads_first = ([x.transpose(0, 1)[None] for x in part] for part in parts)
    return torch.cat([exact_attention(*part, scale)[0].transpose(0, 1) for part in heads_first])


def varlen_2_13(*parts, scale, window_size, enable_gqa=False):
    assert window_size == (-1, 0)
    assert enable_gqa == (parts[0].shape[1] != parts[1].shape[1])
    return plain_varlen(*parts, scale)


def varlen_2_11(*parts, scale, window_size):
    assert window_size == (-1, 0)
    assert parts[0].shape == parts[1].shape
    return plain_varlen(*parts, scale)


@pytest.mark.parametrize("kernel", [varlen_2_13, varlen_2_11])
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
def test_both_versions_of_the_gpu_kernel_get_their_arguments(
    kernel, n_key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, 9, 8) for heads in (4, n_key_heads, n_key_heads))
    starts = torch.tensor([0, 5, 9], dtype=torch.int32)
    expected, _ = packed_attention(None, q, k, v, None, starts=starts, longest=5, scaling=0.3)
    found = flash_attention(q, k, v, starts, 5, 0.3)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("window", "softcap"), [(4, None), (None, 2.0), (4, 2.0), (99, None)])
def test_windows_and_caps_equal_plain_products(
    window: int | None, softcap: float | None, dtype: torch.dtype
) -> None:
    """Of two examples of 9 and 5 tokens, the second has no token outside its window of 4 but 1."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, 14, 8).to(dtype) for heads in (4, 2, 2))
    starts = torch.tensor([0, 9, 14], dtype=torch.int32)
    distance = torch.arange(14)[:, None] - torch.arange(14)
    seen = (distance >= 0) & (distance < (window or 14))
    seen[9:, :9] = False
    scores = q.float() @ k.float().repeat_interleave(2, dim=1).mT * 3
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    shares = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
    expected = (shares @ v.float().repeat_interleave(2, dim=1)).transpose(1, 2)
    found, _ = packed_attention(
        None, q, k, v, None, starts=starts, longest=9, scaling=3.0,
        sliding_window=window, softcap=softcap,
    )  # fmt: skip
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype is torch.float32 else 0.03
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("window", "before"), [(None, -1), (4, 3), (5, -1), (9, -1)])
def test_the_gpu_kernel_gets_the_window(
    window: int | None, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def kernel(q, *parts, window_size, **options):
        sizes.append(window_size)
        return q

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    q = torch.zeros(1, 2, 9, 8)
    flash_attention(q, q, q, torch.tensor([0, 5, 9]), 5, 0.3, window)
    assert sizes == [(before, 0)]


@pytest.mark.parametrize("kind", ["s_aux", "position_bias"])
def test_attention_that_would_be_left_out_is_refused(kind: str) -> None:
    q = torch.zeros(1, 2, 5, 4)
    starts = torch.tensor([0, 5], dtype=torch.int32)
    with pytest.raises(UserError, match=f"uses {kind}, which training does not"):
        packed_attention(None, q, q, q, None, starts=starts, longest=5, **{kind: q})


def test_the_layers_are_found_whatever_their_class_is_called() -> None:
    model = make_model()
    layers = list(model.model.layers)
    for names in ([], None, ["RenamedLayer"]):
        model._no_split_modules = names
        assert decoder_layers(model) == layers
    model.model.heads = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    assert decoder_layers(model) == layers
    model.model.layers = torch.nn.Sequential(*layers)
    del model.model.heads
    with pytest.raises(UserError, match=r"LlamaForCausalLM: .*the 2 of num_hidden_layers: it has"):
        decoder_layers(model)
    model.model.blocks = torch.nn.ModuleList([*layers, deepcopy(layers[0])])
    with pytest.raises(UserError, match="num_hidden_layers: 3 LlamaDecoderLayer"):
        decoder_layers(model)


def test_dropout_is_off_in_training_but_stays_in_the_config() -> None:
    config = GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model = GPT2LMHeadModel(config).train()
    asked = {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1}
    assert asked.items() <= turn_dropout_off(model).items()
    batch = torch.arange(3, 20)[None]
    assert torch.equal(model(batch).logits, model(batch).logits)
    assert model.config.attn_pdrop == 0.1
    assert turn_dropout_off(make_model()) == {}
    llama = make_model(attention_dropout=0.5).train()
    assert turn_dropout_off(llama) == {"attention_dropout": 0.5}
    assert torch.equal(llama(batch).logits, llama(batch).logits)


def test_liger_changes_all_norms_and_gated_layers_but_no_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model()
    assert use_liger(model) == 0  # without a GPU
    before = dict(model.named_parameters())

    class Norm(torch.nn.Module):
        def __init__(self, width: int, eps: float) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.ones(width)), eps

    class Gated(torch.nn.Module):
        def __init__(self, config: LlamaConfig) -> None:
            super().__init__()
            self.gate_proj = torch.nn.Linear(config.hidden_size, config.intermediate_size)

    liger = ModuleType("liger_kernel.transformers")
    liger.LigerRMSNorm, liger.LigerSwiGLUMLP = Norm, Gated
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, liger.__name__, liger)
    monkeypatch.setattr(model_module, "has_liger", lambda: True)
    assert use_liger(model) == 2 * 3 + 1
    kinds = [type(module) for module in model.modules()]
    assert (kinds.count(Norm), kinds.count(Gated)) == (5, 2)
    assert model.model.norm.eps == 1e-6
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is weight for name, weight in before.items())
