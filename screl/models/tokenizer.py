"""Load a checkpoint's tokenizer as it was in training, and convert text to tokens and back.

Most LLaMA checkpoints were written and trained with transformers 4. Version 5 silently reads some
of their tokenizer files differently; the functions below restore the old behavior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, LlamaTokenizer
from transformers.utils import cached_file

from screl.core.io import UserError, read_json_object
from screl.core.problems import Problem, build_prompt
from screl.models.folder import check_model_folder, load_explained

Tokenizer = Any  # transformers' PreTrainedTokenizerBase, which is untyped

N_SHOWN = 10  # tokens shown at each end of a row


def load_tokenizer(name: str) -> Tokenizer:
    """Return the checkpoint's tokenizer, which adds a BOS if the checkpoint's files ask for it.

    It has no pad token if the checkpoint has none, or only one without an embedding. Raises
    UserError if it has no EOS token.
    """
    check_model_folder(name)
    config = load_explained(AutoConfig.from_pretrained, name).get_text_config()
    settings = tokenizer_settings(name)
    _refuse_empty_tokens(name, settings)
    sentencepiece_only = _is_sentencepiece_llama(name, settings, config.model_type)
    loader = (LlamaTokenizer if sentencepiece_only else AutoTokenizer).from_pretrained
    bos = _adds_bos(settings, sentencepiece_only)
    options = {} if bos is None else {"add_bos_token": bos}
    tokenizer = load_explained(loader, name, **options)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: its tokenizer has no eos_token; set one in tokenizer_config.json")
    if (tokenizer.pad_token_id or 0) >= config.vocab_size:
        # The published [PAD] is in no vocabulary. Version 4 read it as <unk>; version 5 adds it
        # after the last embedding, unless another pad token is given.
        tokenizer = load_explained(loader, name, **options, pad_token=tokenizer.eos_token)
        tokenizer.pad_token = None
    return tokenizer


def tokenizer_settings(name: str) -> dict[str, Any]:
    """Return tokenizer_config.json, overridden by special_tokens_map.json if transformers reads it.

    A token that the file describes by a dict is returned as its text.
    """
    settings = _read(name, "tokenizer_config.json")
    if "added_tokens_decoder" not in settings:  # present since 4.34, which ignores the map
        settings |= _read(name, "special_tokens_map.json")
    return {
        key: value["content"] if isinstance(value, dict) and "content" in value else value
        for key, value in settings.items()
    }


def is_llama(settings: dict[str, Any]) -> bool:
    """Return whether the tokenizer class is LLaMA's, in any of its spellings."""
    return str(settings.get("tokenizer_class")).lower().removesuffix("fast") == "llamatokenizer"


def _refuse_empty_tokens(name: str, settings: dict[str, Any]) -> None:
    """Raise UserError if BOS or EOS is "", as in the first conversions of LLaMA.

    The old tokenizer then used sentencepiece's tokens; version 5 uses <unk>, or recurses endlessly.
    """
    for token in ("bos_token", "eos_token"):
        if settings.get(token) == "":
            raise UserError(
                f"{name}: its tokenizer files name an empty {token}; write the tokens of its "
                'tokenizer.model into tokenizer_config.json (for LLaMA "bos_token": "<s>", '
                '"eos_token": "</s>", "unk_token": "<unk>") and delete special_tokens_map.json'
            )


def _is_sentencepiece_llama(name: str, settings: dict[str, Any], model_type: str) -> bool:
    """Return whether this is a LLaMA tokenizer that has a tokenizer.model but no tokenizer.json.

    If its class is missing, or has the old spelling LLaMATokenizer, version 5 would load a class
    that puts no space before a text and so splits it into different tokens.
    """
    if _path(name, "tokenizer.json") or not _path(name, "tokenizer.model"):
        return False
    return is_llama(settings) or ("tokenizer_class" not in settings and model_type == "llama")


def _adds_bos(settings: dict[str, Any], sentencepiece_only: bool) -> bool | None:
    """Return whether a LLaMA tokenizer adds a BOS; None if transformers decides.

    Version 4 wrote ``add_bos_token``, obeyed it, and added the BOS if the key was missing. Version
    5 never writes it, ignores it if a tokenizer.json exists, and adds no BOS if the key is missing.
    """
    if sentencepiece_only or is_llama(settings):
        adds: bool | None = settings.get("add_bos_token", True if sentencepiece_only else None)
        return adds
    return None


def _path(name: str, file: str) -> Path | None:
    """Return the path of a checkpoint's file, local or from the hub; None if it has none."""
    try:
        return Path(cached_file(name, file))
    except OSError:
        return None


def _read(name: str, file: str) -> dict[str, Any]:
    path = _path(name, file)
    return read_json_object(path) if path else {}


def load_generation_config(name: str) -> GenerationConfig:
    """Return the checkpoint's generation config or, without one, the settings in config.json."""
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:
        return GenerationConfig.from_model_config(load_explained(AutoConfig.from_pretrained, name))


def eos_ids(
    generation_config: GenerationConfig, tokenizer: Tokenizer, end_of_turn: int | None = None
) -> list[int]:
    """Return all tokens that end a completion.

    They are the tokenizer's EOS, the generation config's, and the ``end_of_turn`` of the prompt.
    """
    configured = generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, *several, end_of_turn} - {None})


def pad_id(tokenizer: Tokenizer) -> int:
    """Return the id that pads a batch; the model never sees it, as padding is masked by position.

    So a tokenizer without a pad token needs neither a new token nor a resized embedding, and if pad
    is EOS, the EOS at the end of an answer still carries loss.
    """
    pad: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return one more than the largest id that the tokenizer can produce."""
    return max(tokenizer.get_vocab().values()) + 1


def text_ids(tokenizer: Tokenizer, text: str, add_special_tokens: bool = True) -> list[int]:
    """Return the token ids of a text; ``</s>`` or ``<|im_end|>`` in it is text like any other."""
    ids: list[int] = tokenizer(
        text, add_special_tokens=add_special_tokens, split_special_tokens=True
    ).input_ids
    return ids


def special_tokens_in(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[str]:
    """Return the special tokens in ``text`` that became tokens of control in ``ids``.

    This is empty unless the tokenizer ignores ``split_special_tokens``. The first and the last id
    may be the BOS and the EOS that belong there.
    """
    added = tokenizer.added_tokens_decoder.items()
    special = {str(token): number for number, token in added if token.special}
    inside = set(ids[1:-1])
    return [token for token, number in special.items() if token in text and number in inside]


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the token ids of a prompt, with the BOS if the tokenizer adds one, and without EOS."""
    ids = text_ids(tokenizer, prompt)
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def decode_completion(tokenizer: Tokenizer, prompt: list[int], ids: list[int]) -> str:
    """Return the text that ``ids`` add to the prompt.

    They are decoded together with the last prompt tokens, because sentencepiece drops the space
    before the first token.
    """
    tail = prompt[-4:]
    before = tokenizer.decode(tail, skip_special_tokens=True)
    text: str = tokenizer.decode(tail + ids, skip_special_tokens=True)
    return text[len(before) :]


@dataclass(frozen=True, slots=True)
class Example:
    """The token ids of a prompt, its response and EOS; the first ``n_prompt`` ids carry no loss."""

    input_ids: np.ndarray  # (tokens,) int32
    n_prompt: int

    @property
    def n_targets(self) -> int:
        """The number of tokens that carry loss."""
        return len(self.input_ids) - self.n_prompt

    def __len__(self) -> int:
        return len(self.input_ids)


def tokenize_example(tokenizer: Tokenizer, problem: Problem) -> Example:
    """Return one training row: the Alpaca prompt of ``problem`` and its solution.

    Prompt and response are tokenized together, as published. If that merges characters across the
    boundary, the response is tokenized separately, because the row must begin with the tokens of
    the prompt alone, which are the model's input at inference.
    """
    prompt = build_prompt(problem.question)
    start = prompt_ids(tokenizer, prompt)
    ids = prompt_ids(tokenizer, prompt + problem.solution)
    if ids[: len(start)] != start:
        ids = start + text_ids(tokenizer, problem.solution, add_special_tokens=False)
    return Example(np.array([*ids, tokenizer.eos_token_id], dtype=np.int32), len(start))


def describe_example(
    tokenizer: Tokenizer, problem: Problem, example: Example, verbose: bool = True,
    text: str | None = None,
) -> str:  # fmt: skip
    """Return a row as ``--dry_run`` prints it: its text, then its tokens, with ``*`` for loss.

    ``text`` is the row's text; None stands for the Alpaca prompt and the solution.

    Without ``verbose``, only the first and last N_SHOWN tokens.
    """
    ids = example.input_ids.tolist()
    tokens = tokenizer.convert_ids_to_tokens(ids)
    rows = [
        f"  {'*' if position >= example.n_prompt else ' '} {token_id:>7} {token!r}"
        for position, (token_id, token) in enumerate(zip(ids, tokens, strict=True))
    ]
    if not verbose and (n_left_out := len(rows) - 2 * N_SHOWN) > 1:
        rows[N_SHOWN:-N_SHOWN] = [f"    ... {n_left_out} more, shown with --verbose ..."]
    return "\n".join(
        [
            f"first row (problem {problem.problem_id!r}):",
            build_prompt(problem.question) + problem.solution if text is None else text,
            f"{len(example)} tokens, {example.n_targets} with loss (*), "
            f"from {tokens[example.n_prompt]!r} on:",
            *rows,
        ]
    )
