"""A model's files: what must be there, what decides the outcome, and errors in one line."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from screl.core.io import UserError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# What else decides what a checkpoint says. Not every *.json: results may lie in its folder too.
SETTINGS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip


def check_model_folder(name: str) -> None:
    """UserError if ``name`` is a local folder without a model's config.

    A name that is no local path is left to the hub.
    """
    folder = Path(name)
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") != 1:
            raise UserError(f"{name}: no such model folder, nor is this a hub id such as org/model")
        return
    if not (folder / "config.json").is_file():
        unfinished = any(folder.glob("checkpoint-*"))
        remedy = (
            "its training has not finished: run the same train.py command again"
            if unfinished
            else "give a folder in Hugging Face layout"
        )
        raise UserError(f"{name}: has no config.json; {remedy}")


def check_weights(name: str) -> None:
    """UserError if ``name`` is a local folder that no model can be loaded from."""
    check_model_folder(name)
    folder = Path(name)
    if folder.exists() and not any(True for pattern in WEIGHTS for _ in folder.glob(pattern)):
        raise UserError(
            f"{name}: has a config.json but no weights ({' or '.join(WEIGHTS)}); "
            "copy or download them again"
        )


def fingerprint(name: str) -> str:
    """A hash of a local checkpoint's config, tokenizer and weights; of a hub id, its commit.

    Of each weight file it reads the size, the header and 64 KiB at 64 even distances, so that
    140 GB take a second; a training step changes practically every weight, hence all of these.
    """
    folder = Path(name)
    if not folder.exists():
        from transformers.utils import cached_file

        config = Path(load_explained(cached_file, name, filename="config.json"))
        return f"hub:{name}@{config.parent.name}"  # of .../snapshots/COMMIT/config.json
    digest = hashlib.sha256()
    for path in (folder / name for name in SETTINGS):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for part in range(64):
                file.seek(size * part // 64)
                digest.update(file.read(1 << 16))
    return digest.hexdigest()


def move_into_place(temporary: Path, folder: Path) -> None:
    """Move a finished checkpoint up into ``folder``: ``config.json``, without which nothing loads,
    last."""
    files = sorted(temporary.iterdir(), key=lambda path: path.name == "config.json")
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        path.chmod(files[-1].stat().st_mode)  # safetensors makes its files private to the user
        os.replace(path, folder / path.name)
    temporary.rmdir()


def load_explained(loader: Callable[..., Any], name: str, **settings: Any) -> Any:
    """``loader(name)`` with its many-line errors made one line."""
    try:
        return loader(name, **settings)
    # RuntimeError: weights of other shapes; UnpicklingError: a .bin that is none
    except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name}: cannot be loaded: {reason}") from None
    except SafetensorError as error:
        raise UserError(f"{name}: damaged weights ({error}); copy or train them again") from None
