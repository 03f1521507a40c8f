"""Run a causal LM on examples laid end to end, without padding or attention across examples.

On GPUs with Liger installed, its fused Triton kernels compute norms and SwiGLU. Liger's fused head
is not used, because ours weights every token separately (``head_loss``). Liger's own entry points
change transformers' classes; this module replaces only one model's modules, because the saved
checkpoint is read again on the CPU, where these kernels do not run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from screl.core.io import UserError
from screl.models.loading import Model
from screl.models.tokenizer import Example
from screl.training.loss import head_loss

PACKED_ATTENTION = "packed"  # the name under which transformers finds packed_attention
GATED = ("gate_proj", "up_proj", "down_proj")  # the modules of a SwiGLU layer


@dataclass(frozen=True)
class Batch:
    """Examples laid end to end, and the tokens that carry loss, in order."""

    input_ids: torch.Tensor  # (1, tokens)
    position_ids: torch.Tensor  # (1, tokens), from 0 in every example
    starts: torch.Tensor  # (examples + 1,) int32: where each example starts, and the end
    predicting: torch.Tensor  # (targets,) positions of the tokens in front of the targets
    targets: torch.Tensor  # (targets,)
    weights: torch.Tensor  # (targets,) float32, of each target in the loss
    longest: int  # tokens of the longest example

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""
        tensors = {name: x.to(device) for name, x in vars(self).items() if name != "longest"}
        return Batch(longest=self.longest, **tensors)


def pack(examples: Sequence[Example], weights: Sequence[float] | None = None) -> Batch:
    """Lay ``examples`` end to end; ``weights`` holds each example's weight per response token.

    The default weight is 1.
    """
    lengths = [len(example) for example in examples]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    predicting = [
        np.arange(start + example.n_prompt - 1, start + len(example) - 1)
        for start, example in zip(starts, examples, strict=False)
    ]
    return Batch(
        input_ids=_tensor([example.input_ids for example in examples])[None],
        position_ids=_tensor([np.arange(length) for length in lengths])[None],
        starts=torch.from_numpy(starts.astype(np.int32)),
        predicting=_tensor(predicting),
        targets=_tensor([example.input_ids[example.n_prompt :] for example in examples]),
        weights=torch.tensor(weights or [1.0] * len(examples)).repeat_interleave(
            torch.tensor([example.n_targets for example in examples])
        ),
        longest=max(lengths),
    )


def _tensor(parts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


class PackedLM(nn.Module):
    """A causal LM that returns the loss of the response tokens and runs the head on no others.

    Raises UserError for a model whose head does more than multiply by a matrix.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        _refuse_unknown_head(model)
        self.model = model

    def forward(self, batch: Batch, logits: bool = False) -> torch.Tensor:
        """Return the batch's loss, a float32 sum in nats.

        With ``logits``, return the (targets, vocabulary) logits instead; use this for few targets.
        """
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
        return head_loss(hidden, head.weight, batch.targets, batch.weights)


def _refuse_unknown_head(model: Model) -> None:
    """Raise UserError for a head with parts that this module would silently leave out."""
    for kind in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, kind, None) not in (None, 1):
            raise UserError(f"this model's head uses {kind}, which training does not support")
    if model.get_output_embeddings().bias is not None:
        raise UserError("this model's head has a bias, which training does not support")


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
    """Return causal attention within each example.

    The layout is that of transformers: (1, heads, tokens, width) in, (1, tokens, heads, width) out.
    Dropout is not applied; no LLaMA has any.
    """
    _refuse_unknown_attention(others, longest)
    if query.is_cuda and query.dtype is not torch.float32:
        out = flash_attention(query, key, value, starts, longest, scaling)
    else:
        lengths = starts.diff().tolist()
        parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
        attend = bf16_attention if query.dtype is torch.bfloat16 else exact_attention
        out = torch.cat([attend(q, k, v, scaling) for q, k, v in parts], dim=2).transpose(1, 2)
    return out, None


def _refuse_unknown_attention(others: dict[str, Any], longest: int) -> None:
    """Raise UserError for kinds of attention that this module would silently leave out."""
    window = others.get("sliding_window")
    if window is not None and window < longest:
        raise UserError(
            f"this model attends to the last {window} tokens only, and a row has {longest}; "
            f"lower --max_length to {window}"
        )
    for kind in ("softcap", "s_aux", "position_bias"):
        if others.get(kind) is not None:
            raise UserError(f"this model's attention uses {kind}, which training does not support")


def exact_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Return causal attention within one example, by torch's kernel."""
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )


def bf16_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Return the same as exact_attention, by matrix products.

    In bf16 on CPUs, torch's kernel takes three times as long.
    """
    _, n_heads, length, width = query.shape
    n_shared = n_heads // key.shape[1]  # query heads per key head, stacked along the tokens
    future = query.new_full((length, length), -torch.inf).triu(1).repeat(n_shared, 1)
    stacked = query.reshape(-1, n_shared * length, width)
    scores = torch.baddbmm(future, stacked, key[0].mT, alpha=scale or width**-0.5)
    return torch.bmm(scores.softmax(dim=-1), value[0]).view(query.shape)


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float | None,
) -> torch.Tensor:
    """Return causal attention within each example, by one variable-length FlashAttention kernel."""
    from torch.nn.attention.varlen import varlen_attn  # only GPU builds have the kernel

    n_shared = query.shape[1] // key.shape[1]  # query heads per key head
    options: dict[str, Any] = {}
    if n_shared > 1 and _accepts(varlen_attn, "enable_gqa"):
        options = {"enable_gqa": True}
    elif n_shared > 1:  # torch 2.11 needs a copy of the key head for each of them
        key, value = (x.repeat_interleave(n_shared, dim=1) for x in (key, value))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, width)
    out = varlen_attn(
        q, k, v, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0), **options
    )
    assert isinstance(out, torch.Tensor)  # a tuple only if more is asked for
    return out[None]


@cache
def _accepts(kernel: Callable[..., Any], option: str) -> bool:
    return option in signature(kernel).parameters


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
# packed_attention keeps examples apart, so no mask of tokens x tokens is made.
AttentionMaskInterface.register(PACKED_ATTENTION, lambda *_, **__: None)


def has_liger() -> bool:
    """Return whether Liger's kernels can be used here."""
    return torch.cuda.is_available() and find_spec("liger_kernel") is not None


def use_liger(model: Model) -> int:
    """Change ``model`` to use Liger's kernels where it can; return how many modules changed."""
    if not has_liger():
        return 0
    from liger_kernel.transformers import LigerRMSNorm, LigerSwiGLUMLP

    changed = 0
    for path, module in list(model.named_modules()):
        with torch.device("meta"):  # the new module gets the weights of the old one
            if type(module).__name__ in ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm"):
                fused = LigerRMSNorm(len(module.weight), eps=module.variance_epsilon)
                fused.weight = module.weight
            elif all(hasattr(module, name) for name in GATED) and model.config.hidden_act == "silu":
                fused = LigerSwiGLUMLP(model.config)
                for name in GATED:
                    setattr(fused, name, getattr(module, name))
            else:
                continue
        model.set_submodule(path, fused)
        changed += 1
    return changed
