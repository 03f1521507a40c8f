"""Load a checkpoint and its tokenizer, and the tokenizer rules, in one place for every model."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaTokenizer,
)
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils.logging import disable_progress_bar

from screl.files import UserError
from screl.model_folder import check_model_folder, check_weights, load_explained
from screl.model_shape import Shape, read_shape
from screl.tokenizer_files import (
    is_sentencepiece_llama,
    refuse_empty_tokens,
    tokenizer_settings,
    wants_bos,
)

Tokenizer = Any  # transformers' PreTrainedTokenizerBase, which is untyped
Model = Any

disable_progress_bar()  # "Loading weights" and "Writing shards" would break up our own bars


def load_tokenizer(name: str) -> Tokenizer:
    """The checkpoint's tokenizer, whose prompts begin with the BOS that its own files ask for.

    It must have an EOS token; it need not have a pad token, and has none if it is beyond the
    vocabulary.
    """
    check_model_folder(name)
    config = load_explained(AutoConfig.from_pretrained, name).get_text_config()
    settings = tokenizer_settings(name)
    refuse_empty_tokens(name, settings)
    alone = is_sentencepiece_llama(name, settings, config.model_type)
    loader = (LlamaTokenizer if alone else AutoTokenizer).from_pretrained
    bos = wants_bos(settings, alone)
    options = {} if bos is None else {"add_bos_token": bos}
    tokenizer = load_explained(loader, name, **options)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: its tokenizer has no eos_token; set one in tokenizer_config.json")
    if (tokenizer.pad_token_id or 0) >= config.vocab_size:
        # The published [PAD] is in no vocabulary: version 4 took it for <unk>, 5 would add it
        # behind the last embedding. It does not if another one is named.
        tokenizer = load_explained(loader, name, **options, pad_token=tokenizer.eos_token)
        tokenizer.pad_token = None
    return tokenizer


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


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id that the tokenizer can produce."""
    return max(tokenizer.get_vocab().values()) + 1


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


def pad_id(tokenizer: Tokenizer) -> int:
    """What fills a batch. Never seen by the model: padding is masked by position, not by value.

    So a tokenizer without a pad token needs no new one and no resized embedding, and where pad is
    EOS the EOS at the end of an answer still carries loss.
    """
    pad: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


def eos_ids(generation_config: GenerationConfig, tokenizer: Tokenizer) -> list[int]:
    """Every token that ends a completion: the tokenizer's EOS and the generation config's."""
    configured = generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, *several} - {None})


def load_generation_config(name: str) -> GenerationConfig:
    """The checkpoint's generation config; without one, what its config.json says."""
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:
        return GenerationConfig.from_model_config(load_explained(AutoConfig.from_pretrained, name))


def load_shape(name: str) -> Shape:
    """How large the model is, by its config."""
    return read_shape(load_explained(AutoConfig.from_pretrained, name))


def longest_sequence(name: str) -> int:
    """Tokens that the model has positions for."""
    config = load_explained(AutoConfig.from_pretrained, name)
    return int(getattr(config, "max_position_embeddings", sys.maxsize))


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Token ids of a prompt with whatever BOS the tokenizer itself adds, and no EOS."""
    ids: list[int] = tokenizer(prompt).input_ids
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def decode_completion(tokenizer: Tokenizer, prompt: list[int], ids: list[int]) -> str:
    """The text that ``ids`` add to the prompt.

    Decoded behind the last prompt tokens, since sentencepiece drops the space in front of the
    first token it decodes.
    """
    tail = prompt[-4:]
    before = tokenizer.decode(tail, skip_special_tokens=True)
    text: str = tokenizer.decode(tail + ids, skip_special_tokens=True)
    return text[len(before) :]


def make_coherent(model: Model, tokenizer: Tokenizer) -> None:
    """Let config and generation config name the special tokens that the tokenizer has."""
    ends = eos_ids(model.generation_config, tokenizer)
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
        config.pad_token_id = pad_id(tokenizer)
