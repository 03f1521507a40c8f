"""Packed examples: the losses and gradients of padded ones, and nobody sees a neighbour."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from screl import packed_model
from screl.files import UserError
from screl.packed_model import ATTENTION, Batch, PackedLM, pack, packed_attention
from screl.sft_data import Example


def make_model(**changes: int) -> LlamaForCausalLM:
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
    """A plain reference: right-padded, masked, by transformers' eager attention."""
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
    copy = LlamaForCausalLM._from_config(deepcopy(model.config), attn_implementation=ATTENTION)
    copy.load_state_dict(model.state_dict())
    return PackedLM(copy)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
def test_losses_and_gradients_are_those_of_padded_examples(
    n_key_heads: int, checkpointing: bool
) -> None:
    model = make_model(num_key_value_heads=n_key_heads)
    ours = packed(model)
    if checkpointing:
        ours.model.train().gradient_checkpointing_enable({"use_reentrant": False})
    expected, found = padded_losses(model, EXAMPLES), ours(pack(EXAMPLES))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    expected.mean().backward()
    found.mean().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for name, weight in ours.model.named_parameters():
        difference = (weight.grad - gradients[name]).norm() / gradients[name].norm()
        assert difference < 1e-5, name


def test_the_head_in_parts_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = packed(make_model())
    together = ours(pack(EXAMPLES))
    together.sum().backward()
    expected = {name: weight.grad.clone() for name, weight in ours.named_parameters()}
    ours.zero_grad()
    monkeypatch.setattr(packed_model, "HEAD_TOKENS", 7)
    widest = []
    hook = ours.model.lm_head.register_forward_hook(lambda *parts: widest.append(parts[2].shape[0]))
    in_parts = ours(pack(EXAMPLES))
    in_parts.sum().backward()
    hook.remove()
    torch.testing.assert_close(in_parts, together)
    assert max(widest) == 7
    assert sum(widest) == 2 * len(together)  # once forward, once again backward: never kept
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name])


def test_no_token_sees_another_example() -> None:
    """Whatever stands beside an example, in front or behind, its losses are the same to the bit."""
    ours = packed(make_model())
    n = EXAMPLES[1].n_targets
    others = make_examples((30, 10), (7, 3), seed=2)
    first = ours(pack([EXAMPLES[0], EXAMPLES[1], EXAMPLES[2]]))
    start = EXAMPLES[0].n_targets
    second = ours(pack([others[0], EXAMPLES[1], others[1]]))
    assert torch.equal(first[start : start + n], second[start : start + n])
    assert not torch.equal(first[:start], second[:start])
    alone = ours(pack([EXAMPLES[1]]))
    torch.testing.assert_close(alone, first[start : start + n])


def test_no_gradient_flows_between_examples() -> None:
    ours = packed(make_model())
    embedded = []
    hook = ours.model.model.embed_tokens.register_forward_hook(
        lambda *parts: embedded.append(parts[2].detach().requires_grad_()) or embedded[0]
    )
    losses = ours(pack(EXAMPLES))
    hook.remove()
    a, b = EXAMPLES[0], EXAMPLES[1]
    losses[a.n_targets : a.n_targets + b.n_targets].sum().backward()
    touched = embedded[0].grad[0].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert touched == [*range(len(a), len(a) + len(b) - 1)]  # its last token predicts nothing


def test_a_batch_says_where_examples_and_targets_are() -> None:
    batch = pack([Example(np.array([5, 6, 2]), 1), Example(np.array([7, 8, 9, 2]), 3)])
    assert batch.input_ids.tolist() == [[5, 6, 2, 7, 8, 9, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert batch.starts.tolist() == [0, 3, 7]
    assert batch.predicting.tolist() == [0, 1, 5]
    assert batch.targets.tolist() == [6, 2, 2]
    assert batch.longest == 4
    assert isinstance(batch.to(torch.device("cpu")), Batch)


def test_eos_carries_loss_also_where_it_is_the_pad_token() -> None:
    """No token is special: what carries loss is a matter of position."""
    assert pack([Example(np.array([2, 2, 6, 2]), 2)]).targets.tolist() == [6, 2]


def test_kinds_of_attention_that_would_be_left_out_are_refused() -> None:
    q = torch.zeros(1, 2, 5, 4)
    starts = torch.tensor([0, 5], dtype=torch.int32)
    for others, message in [({"softcap": 30.0}, "softcap"), ({"sliding_window": 4}, "last 4")]:
        with pytest.raises(UserError, match=message):
            packed_attention(None, q, q, q, None, starts=starts, longest=5, **others)
    packed_attention(None, q, q, q, None, starts=starts, longest=5, sliding_window=5)
