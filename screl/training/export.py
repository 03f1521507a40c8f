"""The checkpoint that a run leaves: written, read again, compared, and only then in its place.

ZeRO-3 runs are known to have saved a few hundred KB of empty tensors and to have called that a
success (DeepSpeed issue 3841).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from screl.core.alpaca import build_prompt
from screl.core.io import UserError
from screl.core.parallel import n_processors
from screl.models.folder import move_into_place
from screl.models.loading import Model, load_model, make_coherent
from screl.models.tokenizer import Example, Tokenizer, eos_ids, load_tokenizer, pad_id, prompt_ids
from screl.training.model import ATTENTION, PackedLM, pack
from screl.training.processes import is_main_process

if TYPE_CHECKING:
    from screl.training.loop import Engine


DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
N_GREEDY = 16  # tokens of the completion that is compared
# How far below the highest logit another device's choice may be, as a share of it. In bf16, whose
# numbers are 1/128 apart, another attention kernel moved logits of 32 to 40 by up to 0.5.
TIE = {torch.bfloat16: 1 / 32, torch.float32: 1 / 256}  # float32: a GPU multiplies in TF32
QUESTION = "Tom has 3 boxes of 4 pens and gives 5 pens away. How many pens are left?"


def save_and_verify(
    engine: "Engine", tokenizer: Tokenizer, folder: Path, precision: str, arithmetic: str
) -> None:
    """Write model and tokenizer to ``folder``, in ``precision``; every process must call it.

    All goes to a folder inside first, is read from there and compared with the trained model.
    ``config.json``, without which nothing loads, is moved last. UserError if anything differs.
    """
    weights = gather(engine, DTYPES[precision])
    model = engine.packed.model
    prompt = prompt_ids(tokenizer, build_prompt(QUESTION))
    completion = greedy_tokens(engine.packed, prompt, engine.device)
    if not is_main_process():
        return
    temporary = folder / "saving"
    make_coherent(model, tokenizer)
    model.save_pretrained(temporary, state_dict=weights)
    model.config.dtype = DTYPES[precision]  # it wrote that of the arithmetic
    model.config.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    with all_cores():
        verify(temporary, weights, prompt, completion, DTYPES[arithmetic])
    move_into_place(temporary, folder)


@contextmanager
def all_cores() -> Iterator[None]:
    """While the other processes wait: torchrun gives each a single thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_processors())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gather(engine: "Engine", dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The whole weights on the main process's CPU; nothing on the others."""
    kept = {}
    for name, weight in engine.weights():
        if is_main_process():
            kept[name] = weight.to("cpu", dtype)
    return kept


def greedy_tokens(packed: PackedLM, prompt: list[int], device: torch.device) -> list[int]:
    """The next ``N_GREEDY`` tokens after ``prompt``, each the most probable one."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(N_GREEDY):
            ids.append(int(logits_after(packed, ids, len(ids), device)[0].argmax()))
    return ids[len(prompt) :]


def logits_after(
    packed: PackedLM, ids: list[int], n_prompt: int, device: torch.device
) -> torch.Tensor:
    """(n, vocabulary) logits of the token behind each of ``ids`` from the end of the prompt on."""
    row = torch.tensor([*ids, 0], dtype=torch.int32).numpy()
    return packed(pack([Example(row, n_prompt)]).to(device), logits=True)


def verify(
    folder: Path, weights: dict[str, torch.Tensor], prompt: list[int], completion: list[int],
    arithmetic: torch.dtype,
) -> None:  # fmt: skip
    """UserError if the checkpoint in ``folder`` is not the trained model.

    Compared are names, shapes, dtypes and norms of all weights, how the tokenizer reads a prompt,
    the special tokens, and a greedy completion in the arithmetic of the training. Where the trained
    model chose a token that the saved one does not, both must be about as probable: another device
    may round a tie otherwise.
    """
    model, tokenizer = load_model(str(folder), "auto", ATTENTION), load_tokenizer(str(folder))
    if prompt_ids(tokenizer, build_prompt(QUESTION)) != prompt:
        raise wrong(folder, "its tokenizer reads a prompt in another way")
    check_special_tokens(folder, model, tokenizer)
    saved = dict(model.named_parameters())
    if different := sorted(weights.keys() ^ saved.keys()):
        raise wrong(folder, f"{len(different)} weights are not in both, first {different[0]}")
    for name, weight in weights.items():
        now = saved[name]
        if (now.shape, now.dtype) != (weight.shape, weight.dtype):
            raise wrong(folder, f"{name} is {now.dtype} {tuple(now.shape)}, trained "
                                f"{weight.dtype} {tuple(weight.shape)}")  # fmt: skip
        norms = [float(one.detach().float().norm()) for one in (now, weight)]
        if norms[0] != norms[1]:
            raise wrong(folder, f"{name} has norm {norms[0]}, trained {norms[1]}")
    with torch.no_grad():
        packed = PackedLM(model.to(arithmetic))
        logits = logits_after(
            packed, prompt + completion[:-1], len(prompt), torch.device("cpu")
        ).float()
    chosen = logits.gather(1, torch.tensor(completion)[:, None])[:, 0]
    highest = logits.max(dim=1).values
    if (highest - chosen > TIE[arithmetic] * highest.abs()).any():
        raise wrong(folder, f"its greedy completion of {QUESTION!r} is another")


def check_special_tokens(folder: Path, model: Model, tokenizer: Tokenizer) -> None:
    """UserError if config or generation config name other special tokens than the tokenizer."""
    ends = eos_ids(model.generation_config, tokenizer)
    expected = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": pad_id(tokenizer),
    }
    for config in (model.config, model.generation_config):
        for key, value in expected.items():
            if getattr(config, key) != value:
                raise wrong(
                    folder, f"{key} is {getattr(config, key)} in {type(config).__name__}, "
                            f"{value} by the tokenizer"
                )  # fmt: skip


def wrong(folder: Path, what: str) -> UserError:
    """The error for a checkpoint that does not hold what was trained."""
    return UserError(
        f"{folder}: the saved model is not the trained one ({what}); it is left there to be looked "
        "at, and the same command goes on from the last checkpoint"
    )
