"""Load a checkpoint and its tokenizer, and the tokenizer rules, in one place for every model."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
)
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils.logging import disable_progress_bar

from screl.core.io import UserError
from screl.core.shape import Shape, read_shape
from screl.models.folder import check_weights, load_explained
from screl.models.tokenizer import (
    Tokenizer,
    eos_ids,
    pad_id,
    vocabulary_size,
)

Model = Any

disable_progress_bar()  # "Loading weights" and "Writing shards" would break up our own bars


def load_model(name: str, dtype: torch.dtype | str, attention: str | None = None) -> Model:
    """The causal LM with its weights in ``dtype``; UserError if it cannot be loaded.

    ``dtype`` may be "auto": as saved. ``attention`` names an implementation known to transformers,
    to which None leaves the choice.
    """
    check_weights(name)
    model, loading = load_explained(
        AutoModelForCausalLM.from_pretrained,
        name,
        dtype=dtype,
        attn_implementation=attention,
        output_loading_info=True,
    )
    if missing := sorted(loading["missing_keys"]):  # transformers would make up random ones
        raise UserError(
            f"{name}: {len(missing)} weights are missing (first: {missing[0]}); "
            "copy or download the checkpoint again"
        )
    return model


def empty_model(name: str, attention: str) -> Model:
    """The same model without memory for its weights, which are on the meta device."""
    config = load_explained(AutoConfig.from_pretrained, name)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model.tie_weights()
    return model


def fit_vocabulary(model: Model, tokenizer: Tokenizer) -> str | None:
    """Grow the embeddings to a multiple of 64 if the tokenizer has ids beyond them, and say so.

    The new rows are the mean of the old ones. Tied weights stay tied. None if nothing was done.
    """
    rows, needed = model.get_input_embeddings().num_embeddings, vocabulary_size(tokenizer)
    if needed <= rows:
        return None
    model.resize_token_embeddings(needed, pad_to_multiple_of=64, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            with put_together(layer.weight):
                layer.weight[rows:] = layer.weight[:rows].mean(dim=0, dtype=torch.float32)
    return (
        f"the tokenizer has {needed:,} ids: the vocabulary grows from {rows:,} to "
        f"{model.config.get_text_config().vocab_size:,}, a multiple of 64; the new rows are the "
        "mean of the old ones"
    )


def put_together(weight: torch.Tensor) -> AbstractContextManager[Any]:
    """Where a weight that DeepSpeed's zero3 has divided already is whole, to be changed."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    whole: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(weight, modifier_rank=0)
    return whole


def load_shape(name: str) -> Shape:
    """How large the model is, by its config."""
    return read_shape(load_explained(AutoConfig.from_pretrained, name))


def longest_sequence(name: str) -> int:
    """Tokens that the model has positions for."""
    config = load_explained(AutoConfig.from_pretrained, name)
    return int(getattr(config, "max_position_embeddings", sys.maxsize))


def make_coherent(model: Model, tokenizer: Tokenizer) -> None:
    """Let config and generation config name the special tokens that the tokenizer has."""
    ends = eos_ids(model.generation_config, tokenizer)
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
        config.pad_token_id = pad_id(tokenizer)
