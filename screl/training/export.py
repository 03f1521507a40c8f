"""Write the final checkpoint, and accept it only if it equals the trained model when read again.

ZeRO-3 runs are known to save a few hundred KB of empty tensors without an error (DeepSpeed issue
3841).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from screl.core.io import UserError, write_json
from screl.core.parallel import n_processors
from screl.core.prompt_choice import PromptChoice
from screl.models.folder import check_weights, move_into_place
from screl.models.loading import Model, empty_model, load_model, make_coherent
from screl.models.prompts import QUESTION, make_prompt, set_trained_template, templated_ids
from screl.models.tokenizer import Example, Tokenizer, eos_ids, load_tokenizer, pad_id
from screl.training.engine import materialize
from screl.training.model import PACKED_ATTENTION, PackedLM, pack
from screl.training.processes import counted, is_main_process, say
from screl.training.weights import find_weights

if TYPE_CHECKING:
    from screl.training.engine import TrainingEngine

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
FILE_BYTES = 5 * 10**9  # most weights of one file, held by the main process until it is written
ALPACA = PromptChoice("alpaca")
N_GREEDY = 16  # tokens of the completion that is compared
# How far below the highest logit the choice of another device may be, relative to that logit. In
# bf16, whose numbers are 1/128 apart, another attention kernel moved logits of 32 to 40 by up to
# 0.5.
TIE = {torch.bfloat16: 1 / 32, torch.float32: 1 / 256}  # float32: a GPU multiplies in TF32


def save_and_verify(
    engine: "TrainingEngine", tokenizer: Tokenizer, folder: Path, precision: str, arithmetic: str,
    choice: PromptChoice = ALPACA,
) -> None:  # fmt: skip
    """Write model and tokenizer to ``folder`` in ``precision``; all processes must call this.

    ``choice`` is the prompt that it was trained on. The files go to a subfolder first, where they
    are read again and compared with the trained model, in the ``arithmetic`` of the training. Then
    they are moved, ``config.json`` last, because no model loads without it. Raises UserError if
    anything differs.
    """
    model, dtype = engine.packed.model, DTYPES[precision]
    trained = make_prompt(tokenizer, choice)
    prompt = trained.ids(QUESTION)
    completion = greedy_tokens(engine.packed, prompt, engine.device)
    temporary = folder / "saving"
    if is_main_process():
        shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed
        temporary.mkdir(parents=True)
        make_coherent(model, tokenizer, trained.end_of_turn)
    weights = write_weights(engine, dtype, temporary)
    if not is_main_process():
        return
    if choice.prompt != "chat" and not set_trained_template(tokenizer):
        say("warning: the model is saved without a chat template: none yields the trained prompt")
    model.config.dtype, model.config.architectures = dtype, [type(model).__name__]
    model.config.save_pretrained(temporary)
    model.generation_config.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    with _all_cores():
        verify_checkpoint(temporary, weights, prompt, completion, DTYPES[arithmetic], choice)
    move_into_place(temporary, folder)


@dataclass(frozen=True)
class Trained:
    """What a saved weight must equal."""

    shape: torch.Size
    dtype: torch.dtype
    norm: float


def write_weights(engine: "TrainingEngine", dtype: torch.dtype, folder: Path) -> dict[str, Trained]:
    """Write the weights to ``folder`` and return what was written; all processes must call this.

    The main process holds one file's weights at a time, others one weight. Weights that
    transformers stores under other names are all held and left to it.
    """
    model = engine.packed.model
    most = torch.inf if get_checkpoint_conversion_mapping(model.config.model_type) else FILE_BYTES
    written: dict[str, Trained] = {}
    files: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    for name, weight in engine.weights():
        if not is_main_process():
            continue
        size = weight.numel() * dtype.itemsize
        if held and sum(map(_n_bytes, held.values())) + size > most:
            files.append(_write_file(held, folder, len(files)))
            held = {}
        # A copy: memory that is already on the CPU belongs to the model.
        held[name] = weight.to("cpu", dtype, copy=True).contiguous()
        with _all_cores():
            written[name] = Trained(weight.shape, dtype, _norm(held[name]))
    if not is_main_process():
        return {}
    if most is torch.inf:
        model.save_pretrained(folder, state_dict=held)
    else:
        files.append(_write_file(held, folder, len(files)))
        _name_files(
            folder, files, sum(one.shape.numel() for one in written.values()) * dtype.itemsize
        )
    return written


def _write_file(weights: dict[str, torch.Tensor], folder: Path, number: int) -> list[str]:
    """Write one file under a temporary name; return the names of its weights."""
    save_file(weights, folder / f"{number}.safetensors", metadata={"format": "pt"})
    return list(weights)


def _name_files(folder: Path, files: list[list[str]], n_bytes: int) -> None:
    """Give the files the names that transformers expects, and write their index if several."""
    if len(files) == 1:
        os.rename(folder / "0.safetensors", folder / "model.safetensors")
        return
    where: dict[str, str] = {}
    for number, names in enumerate(files):
        file = f"model-{number + 1:05}-of-{len(files):05}.safetensors"
        os.rename(folder / f"{number}.safetensors", folder / file)
        where |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": n_bytes}, "weight_map": where}
    write_json(folder / "model.safetensors.index.json", index)


def _n_bytes(weight: torch.Tensor) -> int:
    return weight.numel() * weight.itemsize


def _norm(weight: torch.Tensor) -> float:
    return float(weight.detach().float().norm())


def greedy_tokens(packed: PackedLM, prompt: list[int], device: torch.device) -> list[int]:
    """Return the most probable next ``N_GREEDY`` tokens after ``prompt``, one by one."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(N_GREEDY):
            ids.append(int(_logits_after(packed, ids, len(ids), device)[0].argmax()))
    return ids[len(prompt) :]


def _logits_after(
    packed: PackedLM, ids: list[int], n_prompt: int, device: torch.device
) -> torch.Tensor:
    """Return the (n, vocabulary) logits after the prompt and after each later token of ``ids``."""
    row = torch.tensor([*ids, 0], dtype=torch.int32).numpy()
    return packed(pack([Example(row, n_prompt)]).to(device), logits=True)


@contextmanager
def _all_cores() -> Iterator[None]:
    """Use all cores while the other processes wait, since torchrun gives each only one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_processors())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def verify_checkpoint(
    folder: Path, weights: dict[str, Trained], prompt: list[int], completion: list[int],
    arithmetic: torch.dtype, choice: PromptChoice = ALPACA,
) -> None:  # fmt: skip
    """Raise UserError if the checkpoint in ``folder`` is not the trained model.

    Compares names, shapes, dtypes and norms of all weights, the tokens of a prompt, the special
    tokens, and a greedy completion. If the saved model would choose another token than the trained
    one, both must be about equally probable, since another device may round a tie differently.
    """
    model, tokenizer = _read_again(folder), load_tokenizer(str(folder))
    if make_prompt(tokenizer, choice).ids(QUESTION) != prompt:
        raise _differs(folder, "its tokenizer splits a prompt into other tokens")
    if choice.prompt != "chat" and templated_ids(tokenizer, QUESTION) not in (prompt, None):
        raise _differs(folder, "its chat template is not the prompt")
    _check_special_tokens(folder, model, tokenizer)
    _compare_weights(folder, weights, dict(model.named_parameters()))
    with torch.no_grad():
        packed = PackedLM(model.to(arithmetic))
        logits = _logits_after(
            packed, prompt + completion[:-1], len(prompt), torch.device("cpu")
        ).float()
    chosen = logits.gather(1, torch.tensor(completion)[:, None])[:, 0]
    highest = logits.max(dim=1).values
    if (highest - chosen > TIE[arithmetic] * highest.abs()).any():
        raise _differs(folder, f"its greedy completion of {QUESTION!r} differs")


def _read_again(folder: Path) -> Model:
    """Return the saved model, read in slices if possible.

    ``from_pretrained`` keeps the pages of all files in memory beside the model.
    """
    check_weights(str(folder))
    model = empty_model(str(folder), PACKED_ATTENTION).eval()
    stored = find_weights(str(folder), model)
    if isinstance(stored, str):
        return load_model(str(folder), "auto", PACKED_ATTENTION)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    materialize(model, stored, torch.device("cpu"))
    return model


def _check_special_tokens(folder: Path, model: Model, tokenizer: Tokenizer) -> None:
    """Raise UserError if a config disagrees with the tokenizer about special tokens."""
    ends = eos_ids(model.generation_config, tokenizer)
    expected = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": pad_id(tokenizer),
    }
    for config in (model.config, model.generation_config):
        for key, value in expected.items():
            if getattr(config, key) != value:
                raise _differs(
                    folder, f"{key} is {getattr(config, key)} in {type(config).__name__}, "
                            f"{value} in the tokenizer"
                )  # fmt: skip


def _compare_weights(
    folder: Path, trained: dict[str, Trained], saved: dict[str, torch.Tensor]
) -> None:
    """Raise UserError if names, shapes, dtypes or norms of the weights differ."""
    if different := sorted(trained.keys() ^ saved.keys()):
        raise _differs(
            folder, f"{counted(len(different), 'weight')} only in one of them, first {different[0]}"
        )
    for name, weight in trained.items():
        now = saved[name]
        if (now.shape, now.dtype) != (weight.shape, weight.dtype):
            raise _differs(folder, f"{name} is {now.dtype} {tuple(now.shape)}, trained "
                                   f"{weight.dtype} {tuple(weight.shape)}")  # fmt: skip
        if (norm := _norm(now)) != weight.norm:
            raise _differs(folder, f"{name} has norm {norm}, trained {weight.norm}")


def _differs(folder: Path, how: str) -> UserError:
    """Return the error for a checkpoint that is not the trained model."""
    return UserError(
        f"{folder}: the saved model is not the trained one ({how}); it is left there for you to "
        "inspect, and the same command continues from the last checkpoint"
    )
