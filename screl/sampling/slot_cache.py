"""Cache the keys and values of sequences of different lengths that share a batch."""

import math

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from screl.models.loading import Model

OTHER_ATTENTION = (
    "sliding_window",
    "softcap",
    "s_aux",
)  # arguments that slot_attention does not support
ATTENTION = "slots"  # the name under which transformers finds slot_attention


class SlotCache(Cache):
    """Keys and values of every slot; slot ``i`` holds ``lengths[i]`` tokens, from the left.

    ``width`` is the number of positions that the next token attends to.
    """

    def __init__(self, model: Model, n_slots: int) -> None:
        super().__init__(layers=[])
        config = model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, 2, n_slots, heads, 0, size)
        self._states = torch.empty(shape, dtype=model.dtype, device=model.device)
        self._slots = torch.arange(n_slots, device=model.device)
        self.lengths = torch.zeros_like(self._slots)
        self.width = 0

    def reserve(self, n_tokens: int) -> None:
        """Make room for ``n_tokens`` in every slot."""
        *shape, capacity, size = self._states.shape
        if n_tokens > capacity:
            # zeros: masked values are multiplied by 0, and 0 times uninitialized memory may be NaN
            states = self._states.new_zeros(*shape, 64 * math.ceil(n_tokens / 64), size)
            states[..., :capacity, :] = self._states
            self._states = states

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token, (rows, heads, 1, size), to each of the first slots.

        Returns the keys and values of those slots, (rows, heads, width, size).
        """
        slots = self._slots[: len(key_states)]
        keys, values = self._states[layer_idx, :, : len(slots)]
        keys[slots, :, self.lengths[: len(slots)]] = key_states[:, :, 0]
        values[slots, :, self.lengths[: len(slots)]] = value_states[:, :, 0]
        return keys[:, :, : self.width], values[:, :, : self.width]

    def fill(self, slots: slice, prompts: Cache, which: torch.Tensor) -> None:
        """Copy the states of prompt ``which[i]`` of a prefill into the i-th slot of ``slots``."""
        for states, layer in zip(self._states, prompts.layers, strict=True):
            n_tokens = layer.keys.shape[2]
            states[0, slots, :, :n_tokens] = layer.keys[which]
            states[1, slots, :, :n_tokens] = layer.values[which]

    def move(self, source: int, target: int, n_tokens: int) -> None:
        """Copy the ``n_tokens`` of slot ``source`` to slot ``target``."""
        self._states[:, :, target, :, :n_tokens] = self._states[:, :, source, :, :n_tokens]
        self.lengths[target] = self.lengths[source]


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Compute attention for prompts or for one token per row.

    Prompts are causal and padded on the right, so they need no mask. For one token, the queries
    that share a key head are treated as several tokens, so that keys and values are read in place
    rather than repeated. Raises ValueError for a model that needs another kind of attention.
    """
    if unknown := [name for name in OTHER_ATTENTION if others.get(name) is not None]:
        raise ValueError(f"this model's attention uses {', '.join(unknown)}; give --engine vllm")
    attend = torch.nn.functional.scaled_dot_product_attention
    rows, heads, n_tokens, size = query.shape
    if attention_mask is None or n_tokens > 1:
        mixed = attend(query, key, value, is_causal=n_tokens > 1, scale=scaling, enable_gqa=True)
    else:
        grouped = query.reshape(rows, key.shape[1], -1, size)
        mixed = attend(grouped, key, value, attn_mask=attention_mask, scale=scaling)
        mixed = mixed.reshape(rows, heads, 1, size)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, slot_attention)
