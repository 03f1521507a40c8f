"""What the files of a LLaMA tokenizer ask for, and transformers 5 no longer gives unasked.

Most LLaMA checkpoints were written by transformers 4, and with its reading they were trained.
Version 5 reads some of them otherwise, without a word; each function says how.
"""

from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from screl.files import UserError, read_json_object


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
