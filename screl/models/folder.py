"""Check that a model folder is complete, fingerprint it, and move a finished one into place."""

import hashlib
import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from screl.core.io import UserError
from screl.models.hub import reach_hub

WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
# The other files that affect a model's output. Not all *.json: its folder may also hold results.
SETTINGS_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip


def check_model_folder(name: str) -> None:
    """Raise UserError if ``name`` is a local folder without a model's config, or a misspelt one.

    Any other name may be a hub id, which is not checked here: ``reach_hub`` does that.
    """
    folder = Path(name)
    if not folder.exists():
        is_path = name.startswith((".", "/", "~")) or name.count("/") != 1
        if is_path or folder.parent.is_dir():
            raise UserError(f"{name}: no such folder{_near_names(folder)}")
        return
    if not (folder / "config.json").is_file():
        unfinished = any(folder.glob("checkpoint-*"))
        fix = (
            "its training has not finished: run the same train.py command again"
            if unfinished
            else "give a folder in Hugging Face layout"
        )
        raise UserError(f"{name}: has no config.json; {fix}")


def _near_names(folder: Path) -> str:
    """Return the folders that may have been meant, as ``; did you mean runs/sft?``, or nothing."""
    missing = next(path for path in [*reversed(folder.parents), folder] if not path.exists())
    if not missing.parent.is_dir():
        return "; a hub id is written org/model"
    neighbors = sorted(path.name for path in missing.parent.iterdir() if path.is_dir())
    near = get_close_matches(missing.name, neighbors)
    named = " or ".join(str(missing.parent / name) for name in near)
    return f"; did you mean {named}?" if near else "; a hub id is written org/model"


def check_weights(name: str) -> None:
    """Raise UserError if ``name`` is a local folder without a model's config or weights."""
    check_model_folder(name)
    folder = Path(name)
    if folder.exists() and not any(next(folder.glob(p), None) for p in WEIGHT_PATTERNS):
        raise UserError(
            f"{name}: has a config.json but no weights ({' or '.join(WEIGHT_PATTERNS)}); "
            "copy or download them again"
        )


def fingerprint(name: str) -> str:
    """Return a hash of a local model's config, tokenizer and weights, or the commit of a hub id.

    Of each weight file, only the size and 64 KiB at 64 evenly spaced positions (including the
    header) are read, so 140 GB take a second. A training step changes practically every weight,
    hence every block.
    """
    folder = Path(name)
    if not folder.exists():
        from transformers.utils import cached_file

        config = Path(load_explained(cached_file, name, filename="config.json"))
        return f"hub:{name}@{config.parent.name}"  # from .../snapshots/COMMIT/config.json
    digest = hashlib.sha256()
    for path in (folder / name for name in SETTINGS_FILES):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(path for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for part in range(64):
                file.seek(size * part // 64)
                digest.update(file.read(1 << 16))
    return digest.hexdigest()


def move_into_place(temporary: Path, folder: Path) -> None:
    """Move a finished model into ``folder``, config.json last, since no model loads without it."""
    files = sorted(temporary.iterdir(), key=lambda path: path.name == "config.json")
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        path.chmod(files[-1].stat().st_mode)  # safetensors makes its files private to the user
        os.replace(path, folder / path.name)
    temporary.rmdir()


def load_explained(loader: Callable[..., Any], name: str, **settings: Any) -> Any:
    """Return ``loader(name)``; raise UserError, in one line, instead of its long errors."""
    check_model_folder(name)
    if not Path(name).exists():
        reach_hub(name)
    try:
        return loader(name, **settings)
    # RuntimeError: weights of another shape; UnpicklingError: a .bin that is not a pickle
    except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name}: cannot be loaded: {reason}") from None
    except SafetensorError as error:
        raise UserError(f"{name}: damaged weights ({error}); copy or train them again") from None
