"""What the files of a LLaMA tokenizer ask for, and transformers 5 no longer gives unasked.

Most LLaMA checkpoints were written by transformers 4, and with its reading they were trained.
Version 5 reads some of them otherwise, without a word; each function says how.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    LlamaTokenizer,
)
from transformers.utils import cached_file

from screl.core.alpaca import build_prompt
from screl.core.io import UserError, read_json_object
from screl.core.problems import Problem
from screl.models.folder import check_model_folder, load_explained

Tokenizer = Any  # transformers' PreTrainedTokenizerBase, which is untyped


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


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id that the tokenizer can produce."""
    return max(tokenizer.get_vocab().values()) + 1


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


def tokenizer_settings(name: str) -> dict[str, Any]:
    """tokenizer_config.json and, over it, special_tokens_map.json where transformers reads it.

    A token is its text, also where the file says more of it.
    """
    settings = _read(name, "tokenizer_config.json")
    if "added_tokens_decoder" not in settings:  # it is since 4.34, and the map is not read
        settings |= _read(name, "special_tokens_map.json")
    return {
        key: value["content"] if isinstance(value, dict) and "content" in value else value
        for key, value in settings.items()
    }


def refuse_empty_tokens(name: str, settings: dict[str, Any]) -> None:
    """UserError if BOS or EOS is "", as in the first conversions of LLaMA.

    Where they were written, sentencepiece was asked for the real ones. Version 5 takes "" for
    <unk>, or asks itself for it without end.
    """
    for token in ("bos_token", "eos_token"):
        if settings.get(token) == "":
            raise UserError(
                f"{name}: its tokenizer files name an empty {token}; write those of its "
                'tokenizer.model into tokenizer_config.json, of LLaMA "bos_token": "<s>", '
                '"eos_token": "</s>", "unk_token": "<unk>", and delete special_tokens_map.json'
            )


def is_sentencepiece_llama(name: str, settings: dict[str, Any], model_type: str) -> bool:
    """Whether this is a LLaMA tokenizer of which there is only tokenizer.model.

    Where its class is not given, or in the old spelling LLaMATokenizer, version 5 would use one
    that puts no space in front of a text and so splits it into other tokens.
    """
    if _path(name, "tokenizer.json") or not _path(name, "tokenizer.model"):
        return False
    return is_llama(settings) or ("tokenizer_class" not in settings and model_type == "llama")


def wants_bos(settings: dict[str, Any], alone: bool) -> bool | None:
    """Whether a LLaMA tokenizer puts BOS in front; None for others and where tokenizer.json says.

    Version 4 wrote ``add_bos_token`` and prepended BOS where it is missing. Version 5 does not
    where it is missing, nor heeds it beside a tokenizer.json; it never writes it. ``alone``: that
    there is no tokenizer.json, see ``is_sentencepiece_llama``.
    """
    if alone or is_llama(settings):
        wanted: bool | None = settings.get("add_bos_token", True if alone else None)
        return wanted
    return None


def is_llama(settings: dict[str, Any]) -> bool:
    """Whether the class is LLaMA's in any of its spellings."""
    return str(settings.get("tokenizer_class")).lower().removesuffix("fast") == "llamatokenizer"


def _path(name: str, file: str) -> Path | None:
    """A file of a checkpoint, local or of the hub; None if it has no such file."""
    try:
        return Path(cached_file(name, file))
    except OSError:
        return None


def _read(name: str, file: str) -> dict[str, Any]:
    path = _path(name, file)
    return read_json_object(path) if path else {}


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of prompt, response and EOS; the first ``n_prompt`` of them carry no loss."""

    input_ids: np.ndarray  # (tokens,) int32
    n_prompt: int

    @property
    def n_targets(self) -> int:
        """Tokens that carry loss."""
        return len(self.input_ids) - self.n_prompt

    def __len__(self) -> int:
        return len(self.input_ids)


def tokenize_example(tokenizer: Tokenizer, problem: Problem) -> Example:
    """One training row.

    Prompt and response are tokenized together, as published. Where that merges characters across
    the boundary, the response is tokenized alone: at inference the model is given exactly the
    prompt's own tokens, so these must come first.
    """
    prompt = build_prompt(problem.question)
    start = prompt_ids(tokenizer, prompt)
    ids = prompt_ids(tokenizer, prompt + problem.solution)
    if ids[: len(start)] != start:
        ids = start + tokenizer(problem.solution, add_special_tokens=False).input_ids
    return Example(np.array([*ids, tokenizer.eos_token_id], dtype=np.int32), len(start))


def describe_example(tokenizer: Tokenizer, problem: Problem, example: Example) -> str:
    """What ``--dry_run`` shows of a row: its text, and each token with ``*`` where it has loss."""
    tokens = tokenizer.convert_ids_to_tokens(example.input_ids.tolist())
    rows = [
        f"  {'*' if position >= example.n_prompt else ' '} {token_id:>7} {token!r}"
        for position, (token_id, token) in enumerate(
            zip(example.input_ids.tolist(), tokens, strict=True)
        )
    ]
    return "\n".join(
        [
            f"first row (problem {problem.problem_id!r}):",
            build_prompt(problem.question) + problem.solution,
            f"{len(example)} tokens, {len(example) - example.n_prompt} with loss (*):",
            *rows,
        ]
    )
