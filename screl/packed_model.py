"""A causal LM on examples laid end to end, without padding; none of their tokens sees another's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface

from screl.files import UserError
from screl.modeling import Model
from screl.sft_data import Example

ATTENTION = "packed"  # the name under which transformers finds packed_attention
HEAD_TOKENS = 1024  # whose logits are in memory at once: 131 MB at 32,000 words in float32


@dataclass(frozen=True)
class Batch:
    """Examples end to end; ``targets`` are the tokens that carry loss, in their order."""

    input_ids: torch.Tensor  # (1, tokens)
    position_ids: torch.Tensor  # (1, tokens), from 0 in every example
    starts: torch.Tensor  # (examples + 1,) int32: where each example starts, and the end
    predicting: torch.Tensor  # (targets,) positions of the tokens in front of the targets
    targets: torch.Tensor  # (targets,)
    longest: int  # tokens of the longest example

    def to(self, device: torch.device) -> "Batch":
        """The batch on ``device``."""
        tensors = {name: x.to(device) for name, x in vars(self).items() if name != "longest"}
        return Batch(longest=self.longest, **tensors)


def pack(examples: Sequence[Example]) -> Batch:
    """Lay ``examples`` end to end."""
    lengths = [len(example) for example in examples]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    predicting = [
        np.arange(start + example.n_prompt - 1, start + len(example) - 1)
        for start, example in zip(starts, examples, strict=False)
    ]
    return Batch(
        input_ids=tensor([example.input_ids for example in examples])[None],
        position_ids=tensor([np.arange(length) for length in lengths])[None],
        starts=torch.from_numpy(starts.astype(np.int32)),
        predicting=tensor(predicting),
        targets=tensor([example.input_ids[example.n_prompt :] for example in examples]),
        longest=max(lengths),
    )


def tensor(parts: Sequence[np.ndarray]) -> torch.Tensor:
    """One tensor of token ids or positions."""
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


class PackedLM(nn.Module):
    """Gives the loss of every response token; the logits of the others are never made."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, logits: bool = False) -> torch.Tensor:
        """Return (targets,) negative log-likelihoods in nats, float32; or, for a few targets, the
        (targets, vocabulary) logits."""
        hidden = self.model.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            use_cache=False,
            starts=batch.starts,
            longest=batch.longest,
        ).last_hidden_state[0, batch.predicting]
        head = self.model.get_output_embeddings()
        if logits:
            whole: torch.Tensor = head(hidden)
            return whole
        if len(hidden) <= HEAD_TOKENS:
            return token_losses(head, hidden, batch.targets)
        parts = zip(hidden.split(HEAD_TOKENS), batch.targets.split(HEAD_TOKENS), strict=True)
        return torch.cat(
            [checkpoint(token_losses, head, *part, use_reentrant=False) for part in parts]
        )


def token_losses(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each target, from the hidden state in front of it; (targets,) float32."""
    return functional.cross_entropy(head(hidden).float(), targets, reduction="none")


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    starts: torch.Tensor,
    longest: int,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each example; in transformers' layout: (1, heads, tokens, width) in,
    (1, tokens, heads, width) out. Dropout is not applied (no LLaMA has it)."""
    refuse_unknown_attention(others, longest)
    if query.is_cuda and query.dtype is not torch.float32:
        out = flash_attention(query, key, value, starts, longest, scaling)
    else:
        lengths = starts.diff().tolist()
        parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
        attend = partial(
            functional.scaled_dot_product_attention,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        out = torch.cat([attend(q, k, v) for q, k, v in parts], dim=2).transpose(1, 2)
    return out, None


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float | None,
) -> torch.Tensor:
    """One variable-length FlashAttention kernel for all examples, torch's own."""
    from torch.nn.attention.varlen import varlen_attn  # only in builds for GPUs is there a kernel

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, width)
    out = varlen_attn(
        q, k, v, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)  # a tuple only where more is asked for
    return out[None]


def refuse_unknown_attention(others: dict[str, Any], longest: int) -> None:
    """UserError for kinds of attention that would silently be left out here."""
    window = others.get("sliding_window")
    if window is not None and window < longest:
        raise UserError(
            f"this model attends to the last {window} tokens only and a row has {longest}; "
            f"lower --max_length to {window}"
        )
    for kind in ("softcap", "s_aux", "position_bias"):
        if others.get(kind) is not None:
            raise UserError(f"this model's attention uses {kind}, which training does not support")


AttentionInterface.register(ATTENTION, packed_attention)
# Examples are kept apart by packed_attention: no mask of tokens x tokens is made.
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
