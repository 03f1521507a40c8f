"""Load a model, fit its vocabulary to the tokenizer, and read its shape and limits."""

import sys
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from screl.core.io import UserError
from screl.core.shape import Shape, read_shape, with_weights
from screl.models.folder import check_weights, load_explained
from screl.models.tokenizer import Tokenizer, eos_ids, pad_id, vocabulary_size

Model = Any  # transformers' PreTrainedModel, which is untyped
ModelConfig = Any  # transformers' PreTrainedConfig, also untyped
LLAMA_LIKE = ("llama", "mistral", "qwen2")  # the model_types that ``Shape`` describes exactly

disable_progress_bar()  # "Loading weights" and "Writing shards" would break up our own bars


def load_model(name: str, dtype: torch.dtype | str, attention: str | None = None) -> Model:
    """Return the causal LM with its weights in ``dtype``; "auto" is the dtype of the files.

    ``attention`` names an implementation of transformers; with None, transformers chooses. Raises
    UserError if the model cannot be loaded.
    """
    check_weights(name)
    model, loading = load_explained(
        AutoModelForCausalLM.from_pretrained,
        name,
        dtype=dtype,
        attn_implementation=attention,
        output_loading_info=True,
    )
    if missing := sorted(loading["missing_keys"]):  # transformers would initialize them randomly
        weights = "1 weight is" if len(missing) == 1 else f"{len(missing)} weights are"
        raise UserError(
            f"{name}: {weights} missing (first: {missing[0]}); "
            "copy or download the checkpoint again"
        )
    return model


def empty_model(name: str, attention: str) -> Model:
    """Return the model with its weights on the meta device, where they take no memory."""
    config = load_explained(AutoConfig.from_pretrained, name)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model.tie_weights()
    return model


def load_shape(name: str) -> Shape:
    """Return the shape of the model, from its config.

    An architecture that is not built like LLaMA is described as a LLaMA with as many weights.
    """
    config = load_explained(AutoConfig.from_pretrained, name)
    shape = read_shape(config.get_text_config())
    if config.model_type in LLAMA_LIKE:
        return shape
    return with_weights(shape, sum(w.numel() for w in empty_model(name, "eager").parameters()))


def longest_sequence(name: str) -> int:
    """Return the most tokens the model has positions for, sys.maxsize if it has no limit."""
    config = load_explained(AutoConfig.from_pretrained, name)
    return int(getattr(config.get_text_config(), "max_position_embeddings", sys.maxsize))


def fit_vocabulary(model: Model, tokenizer: Tokenizer) -> str | None:
    """Grow the embeddings to a multiple of 64 if the tokenizer has ids beyond them.

    Returns a message about the change, or None if nothing changed. The new rows are the mean of the
    old ones; tied weights stay tied.
    """
    rows, needed = model.get_input_embeddings().num_embeddings, vocabulary_size(tokenizer)
    if needed <= rows:
        return None
    model.resize_token_embeddings(needed, pad_to_multiple_of=64, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[rows:] = layer.weight[:rows].mean(dim=0, dtype=torch.float32)
    return (
        f"the tokenizer has {needed:,} ids: the vocabulary grows from {rows:,} to "
        f"{model.config.get_text_config().vocab_size:,}, a multiple of 64; the new rows are the "
        "mean of the old ones"
    )


def make_coherent(model: Model, tokenizer: Tokenizer, end_of_turn: int | None = None) -> None:
    """Copy the special tokens to the config and generation config: those of the tokenizer and the
    ``end_of_turn`` that the model has learned."""
    ends = eos_ids(model.generation_config, tokenizer, end_of_turn)
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
        config.pad_token_id = pad_id(tokenizer)
