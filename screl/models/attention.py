"""Compute causal attention of whole sequences, with a sliding window and a soft cap if asked.

The layout is that of transformers: (rows, heads, tokens, width). Keys and values may have fewer
heads, each of which serves as many neighboring query heads.
"""

import torch
from torch.nn import functional


def seen_tokens(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Return whether each token sees each other one, (tokens, tokens): itself and those before.

    With ``window``, only the last ``window`` of these, itself included.
    """
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)


def exact_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None,
    window: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """Return causal attention by torch's kernel."""
    length = query.shape[2]
    reached = window is not None and window < length
    return functional.scaled_dot_product_attention(
        query, key, value, scale=scale, is_causal=not reached,
        attn_mask=seen_tokens(length, window, query.device) if reached else None,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


def product_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None,
    window: int | None = None, softcap: float | None = None,
) -> torch.Tensor:  # fmt: skip
    """Return the same by matrix products, which can also bound the scores by ``softcap``.

    In bf16 on CPUs, torch's kernel takes three times as long. The cap is that of Gemma 2
    (arXiv:2408.00118, section 2): softcap * tanh(score / softcap).
    """
    rows, n_heads, length, width = query.shape
    n_shared = n_heads // key.shape[1]  # query heads per key head, stacked along the tokens
    stacked = query.reshape(-1, n_shared * length, width)
    key, value = key.flatten(0, 1), value.flatten(0, 1)
    scale = width**-0.5 if scale is None else scale
    seen = seen_tokens(length, window, query.device)
    hidden = query.new_zeros(length, length).masked_fill_(~seen, -torch.inf).repeat(n_shared, 1)
    if softcap is None:
        scores = torch.baddbmm(hidden, stacked, key.mT, alpha=scale)
    else:
        scores = softcap * torch.tanh(torch.bmm(stacked, key.mT) * (scale / softcap)) + hidden
    return torch.bmm(scores.softmax(dim=-1), value).view(rows, n_heads, length, -1)
