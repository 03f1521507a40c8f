"""Run a causal LM on examples laid end to end, without padding or attention across examples.

On GPUs with Liger installed, its fused Triton kernels compute norms and SwiGLU. Liger's fused head
is not used, because ours weights every token separately (``head_loss``). Liger's own entry points
change transformers' classes; this module replaces only one model's modules, because the saved
checkpoint is read again on the CPU, where these kernels do not run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface

from screl.core.io import UserError
from screl.models.attention import exact_attention, product_attention
from screl.models.loading import Model
from screl.models.tokenizer import Example
from screl.training.loss import Head, head_loss

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
    """A causal LM that returns the loss of the response tokens and runs the head on no others."""

    def __init__(self, model: Model) -> None:
        super().__init__()
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
        head = model_head(self.model)
        if logits:
            return head.logits(hidden)
        return head_loss(hidden, head, batch.targets, batch.weights)


def model_head(model: Model) -> Head:
    """Return the model's head with what its config says about logits.

    Cohere multiplies them by ``logit_scale``, Granite divides them by ``logits_scaling``, Gemma
    bounds them by ``final_logit_softcapping``.
    """
    layer, config = model.get_output_embeddings(), model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    return Head(
        layer.weight,
        layer.bias,
        scale / (getattr(config, "logits_scaling", None) or 1.0),
        getattr(config, "final_logit_softcapping", None),
    )


def decoder_layers(model: Model) -> list[nn.Module]:
    """Return the transformer's layers, the largest list of as many modules as the config has.

    transformers' own ``_no_split_modules`` is empty or out of date for some models, and a model
    that is not divided layer by layer needs more memory than was planned. Raises UserError, with
    the lists that the model has, if none is as long.
    """
    n_layers = model.config.get_text_config().num_hidden_layers
    lists: list[nn.ModuleList] = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    found = [layers for layers in lists if len(layers) == n_layers]
    if not found:
        named = ", ".join(f"{len(layers)} {type(layers[0]).__name__}" for layers in lists if layers)
        raise UserError(
            f"{type(model).__name__}: training divides a model layer by layer, and none of its "
            f"lists of modules has the {n_layers} of num_hidden_layers: {named or 'it has no list'}"
        )
    sizes = [sum(weight.numel() for weight in layers.parameters()) for layers in found]
    return list(found[sizes.index(max(sizes))])


def turn_dropout_off(model: Model) -> dict[str, float]:
    """Set every dropout of ``model`` to 0, and return what its config asks for, by name.

    Packed attention applies none, the published recipe has none, and without it a run that is
    continued draws the same numbers as one that was not interrupted. The config is not changed.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    config = model.config.get_text_config().to_dict()
    return {name: p for name, p in config.items() if "drop" in name and isinstance(p, float) and p}


@contextmanager
def evaluating(packed: PackedLM) -> Iterator[None]:
    """Turn off dropout and gradients."""
    mode = packed.model.training
    packed.eval()
    with torch.no_grad():
        yield
    packed.train(mode)


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
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return causal attention within each example.

    The layout is that of transformers: (1, heads, tokens, width) in, (1, tokens, heads, width) out.
    Dropout is off in training (``turn_dropout_off``). The variable-length kernel has no soft cap,
    so with one every example is computed by itself, on GPUs too.
    """
    for kind in ("s_aux", "position_bias"):
        if others.get(kind) is not None:
            raise UserError(f"this model's attention uses {kind}, which training does not support")
    if query.is_cuda and query.dtype is not torch.float32 and softcap is None:
        out = flash_attention(query, key, value, starts, longest, scaling, sliding_window)
    else:
        lengths = starts.diff().tolist()
        parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
        attend = exact_attention
        if query.dtype is torch.bfloat16 or softcap is not None:
            attend = partial(product_attention, softcap=softcap)
        out = torch.cat(
            [attend(q, k, v, scaling, sliding_window) for q, k, v in parts], dim=2
        ).transpose(1, 2)
    return out, None


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None = None,
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
    before = -1 if window is None or window >= longest else window - 1  # besides the token itself
    out = varlen_attn(
        q, k, v, starts, starts, longest, longest, scale=scaling, window_size=(before, 0), **options
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
    activation = getattr(model.config.get_text_config(), "hidden_act", None)
    for path, module in list(model.named_modules()):
        with torch.device("meta"):  # the new module gets the weights of the old one
            if type(module).__name__ in ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm"):
                fused = LigerRMSNorm(len(module.weight), eps=module.variance_epsilon)
                fused.weight = module.weight
            elif all(hasattr(module, name) for name in GATED) and activation == "silu":
                fused = LigerSwiGLUMLP(model.config)
                for name in GATED:
                    setattr(fused, name, getattr(module, name))
            else:
                continue
        model.set_submodule(path, fused)
        changed += 1
    return changed
