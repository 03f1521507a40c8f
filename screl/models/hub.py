"""Ask the hub for a model once, before anything is loaded, and explain in one line what it says.

transformers asks for every file six times, for half a minute, and prints each attempt.
"""

import os
import sys
from functools import cache

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
)

from screl.core.io import UserError

PATIENCE = 10  # seconds


@cache
def reach_hub(name: str) -> None:
    """Raise UserError if the model ``name`` is neither on the hub nor in the hub's cache here.

    If it is in the cache and the hub cannot be reached, the hub is not asked again by this process
    and those that it starts, and a line says so.
    """
    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        raise UserError(
            f"{name}: neither a folder here nor a hub id, which is written org/model"
        ) from None
    hub = constants.ENDPOINT
    if constants.is_offline_mode():
        if not cached:
            raise UserError(
                f"{name}: not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set; "
                f"unset it, or {_download(name)}"
            )
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=PATIENCE)
    except HfHubHTTPError as error:
        raise UserError(f"{name}: {_explain(name, error)}") from None
    except Exception as error:  # those of the HTTP client, whichever it is
        if not cached:
            raise UserError(
                f"{name}: cannot reach {hub} ({_one_line(error)}); on a machine with a network, "
                f"{_download(name)}"
            ) from None
        sys.stderr.write(f"{name}: cannot reach {hub}; the copy in the cache is used\n")
        os.environ["HF_HUB_OFFLINE"] = "1"
        constants.HF_HUB_OFFLINE = True


def _download(name: str) -> str:
    return f"download it (hf download {name} --local-dir DIR) and give DIR"


def _explain(name: str, error: HfHubHTTPError) -> str:
    """Return what an answer of the hub means, and what to do."""
    hub, status = constants.ENDPOINT, error.response.status_code
    if isinstance(error, EntryNotFoundError):
        return f"has no config.json on {hub}: not a model in Hugging Face layout"
    if isinstance(error, GatedRepoError) or status == 403:
        return (
            f"{hub} gives this model only to users whom its owner has let in; ask for access at "
            f"{hub}/{name}, then run: hf auth login"
        )
    if status in (401, 404):
        return (
            f"neither a folder here nor a model on {hub} ({status}); check the spelling or, if the "
            "model is private, run: hf auth login"
        )
    return f"{hub} answered {status}; try again later, or {_download(name)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
