"""Cache the keys and values of sequences of different lengths that share a batch."""

import math

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from screl.core.io import UserError
from screl.models.attention import exact_attention, product_attention
from screl.models.loading import Model

OTHER_ATTENTION = ("s_aux", "position_bias")  # arguments that slot_attention does not support
ATTENTION = "slots"  # the name under which transformers finds slot_attention


class SlotCache(Cache):
    """Keys and values of every slot; slot ``i`` holds ``lengths[i]`` tokens, from the left.

    ``width`` is the number of positions that the next token attends to. All slots have room for the
    longest sequence so far, of which few come near the most tokens that may be written.
    """

    def __init__(self, model: Model, n_slots: int) -> None:
        super().__init__(layers=[])
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        # of each layer: keys and values
        self._states = [
            torch.empty(2, n_slots, heads, 0, size, dtype=model.dtype, device=model.device)
            for _ in range(config.num_hidden_layers)
        ]
        self._slots = torch.arange(n_slots, device=model.device)
        self.lengths = torch.zeros_like(self._slots)
        self.width = 0

    def reserve(self, n_tokens: int) -> None:
        """Make room for ``n_tokens`` in every slot.

        It grows by 64 tokens, so that growing costs about as much as reading it twice in 64 steps,
        and one layer after the other, so that only one is in memory twice.
        """
        *shape, capacity, size = self._states[0].shape
        if n_tokens <= capacity:
            return
        for i, before in enumerate(self._states):
            # zeros: masked values are multiplied by 0, and 0 times uninitialized memory may be NaN
            self._states[i] = before.new_zeros(*shape, 64 * math.ceil(n_tokens / 64), size)
            self._states[i][..., :capacity, :] = before

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token, (rows, heads, 1, size), to each of the first slots.

        Returns the keys and values of those slots, (rows, heads, width, size).
        """
        slots = self._slots[: len(key_states)]
        keys, values = self._states[layer_idx][:, : len(slots)]
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
        for states in self._states:
            states[:, target, :, :n_tokens] = states[:, source, :, :n_tokens]
        self.lengths[target] = self.lengths[source]


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Compute attention for prompts or for one token per row.

    Prompts are causal and padded on the right, so they need no mask. Raises UserError for a model
    that needs another kind of attention.
    """
    if unknown := [name for name in OTHER_ATTENTION if others.get(name) is not None]:
        raise UserError(f"this model's attention uses {', '.join(unknown)}; give --engine vllm")
    if attention_mask is not None and query.shape[2] == 1:
        mixed = _attend_to_slots(
            query, key, value, attention_mask, scaling, sliding_window, softcap
        )
    elif softcap is None:
        mixed = exact_attention(query, key, value, scaling, sliding_window)
    else:
        mixed = product_attention(query, key, value, scaling, sliding_window, softcap)
    return mixed.transpose(1, 2).contiguous(), None


def _attend_to_slots(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor,
    scaling: float | None, window: int | None, softcap: float | None,
) -> torch.Tensor:  # fmt: skip
    """Return the attention of one token per row to its slot, (rows, heads, 1, size).

    The queries that share a key head are treated as several tokens, so that keys and values are
    read in place rather than repeated.
    """
    if window is not None:  # the last positions of those seen, which are 0 to n - 1
        positions = torch.arange(seen.shape[-1], device=seen.device)
        seen = seen & (positions >= seen.sum(dim=-1, keepdim=True) - window)
    rows, heads, _, size = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, size)
    if softcap is None:
        mixed = torch.nn.functional.scaled_dot_product_attention(
            grouped, key, value, attn_mask=seen, scale=scaling
        )
    else:
        scale = size**-0.5 if scaling is None else scaling
        scores = softcap * torch.tanh(grouped @ key.mT * (scale / softcap))
        mixed = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ value
    return mixed.reshape(rows, heads, 1, -1)


AttentionInterface.register(ATTENTION, slot_attention)
