"""Turn problems into token rows and decide which rows each step trains on.

Only the response and its EOS carry loss, not the prompt.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from zipfile import BadZipFile

import numpy as np
import transformers

from screl.core.io import UserError, file_sha256
from screl.core.problems import Problem, ProblemId, load_problems
from screl.models.prompts import Prompt, make_prompt
from screl.models.tokenizer import (
    Example,
    Tokenizer,
    load_tokenizer,
    special_tokens_in,
)
from screl.training.config import TrainConfig
from screl.training.packing import check_step
from screl.training.processes import counted, say

SCREL = Path(__file__).parents[1]
# The code that turns rows into tokens: changing it invalidates the cache.
ROW_CODE = [
    *(SCREL / "core" / name for name in ("layouts.py", "problems.py", "rows.py")),
    *(SCREL / "models" / name for name in ("chat.py", "prompts.py", "tokenizer.py")),
    Path(__file__),
]


@dataclass(frozen=True)
class TrainingData:
    """Tokenized examples, the ids of their problems, the rows of every step, and held-out rows."""

    examples: Sequence[Example]
    problem_ids: Sequence[ProblemId]
    steps: Sequence[Sequence[int]]
    held_out: Sequence[Example] = ()

    def n_tokens(self, step: int) -> int:
        """Return the number of tokens in a step, over all processes."""
        return sum(len(self.examples[row]) for row in self.steps[step])

    def counts(self) -> dict[str, int]:
        """Return the facts about the data for run.json."""
        return {
            "n_rows": len(self.examples),
            "n_steps": len(self.steps),
            "n_tokens": sum(self.n_tokens(step) for step in range(len(self.steps))),
        }


def load_training_data(
    config: TrainConfig, problems: Sequence[Problem], identity: dict[str, Any], n_processes: int
) -> tuple[Tokenizer, TrainingData]:
    """Return the tokenizer and the tokenized data; ``identity`` is from ``run_identity``.

    Raises UserError if a row, or the number of processes, makes a step impossible.
    """
    tokenizer = load_tokenizer(config.model_name_or_path)
    prompt = make_prompt(tokenizer, config.prompt_choice)
    made_by = (
        identity["model_sha256"], repr(config.prompt_choice), str(tokenizer.chat_template),
        repr(config.keys),
    )  # fmt: skip
    key = cache_key(identity["data_sha256"], *made_by)
    examples = tokenize_examples(prompt, problems, key, config.data_path)
    _report_rows(config, config.data_path, problems, examples)
    _report_inserted(prompt, problems)
    _report_special_tokens(tokenizer, problems, examples)
    kept = [row for row, example in enumerate(examples) if len(example) <= config.max_length]
    longest = max(len(examples[row]) for row in kept)
    check_step(longest, config.global_batch_size, n_processes, config.micro_batch_tokens)
    steps = training_order(
        len(kept), config.num_train_epochs, config.global_batch_size, config.seed
    )
    _report_epochs(config, len(kept), len(steps))
    data = TrainingData(
        [examples[row] for row in kept], [problems[row].problem_id for row in kept], steps,
        load_held_out(config, problems, tokenizer, made_by, n_processes),
    )  # fmt: skip
    return tokenizer, data


def load_held_out(
    config: TrainConfig, problems: Sequence[Problem], tokenizer: Tokenizer,
    made_by: tuple[str, ...], n_processes: int,
) -> list[Example]:  # fmt: skip
    """Return the rows of ``eval_data_path``, none without it; warn of questions of the training.

    ``made_by`` is the part of the cache's key that does not depend on the data. Raises UserError if
    the rows cannot be divided among the processes.
    """
    path = config.eval_data_path
    if path is None:
        return []
    held_out = load_problems(path, config.keys, needs_solution=True, say=say)
    prompt = make_prompt(tokenizer, config.prompt_choice)
    examples = tokenize_examples(prompt, held_out, cache_key(file_sha256(path), *made_by), path)
    _report_rows(config, path, held_out, examples)
    _report_special_tokens(tokenizer, held_out, examples)
    questions = {problem.question for problem in problems}
    if n_known := sum(problem.question in questions for problem in held_out):
        say(f"warning: {n_known} of {len(held_out)} questions in {path} are in {config.data_path}")
    kept = [example for example in examples if len(example) <= config.max_length]
    if len(kept) < n_processes:
        raise UserError(f"{path}: needs at least {n_processes} rows, one for each process")
    return kept


def training_order(
    n_rows: int, num_epochs: float, global_batch_size: int, seed: int
) -> list[list[int]]:
    """Return the row numbers of every step, exactly ``global_batch_size`` each.

    Shuffled epochs follow one another without a gap, so every step is full; the last step is filled
    with rows of one more shuffled epoch.
    """
    n_steps = -(-int(n_rows * num_epochs + 0.5) // global_batch_size)
    random = Random(seed)
    order: list[int] = []
    while len(order) < n_steps * global_batch_size:
        epoch = list(range(n_rows))
        random.shuffle(epoch)
        order += epoch
    return [
        order[start : start + global_batch_size]
        for start in range(0, n_steps * global_batch_size, global_batch_size)
    ]


def tokenize_examples(
    prompt: Prompt, problems: Sequence[Problem], key: str, path: Path
) -> list[Example]:
    """Return the token row of every problem, from the cache if it holds ``key``.

    If the cache cannot be written, the run goes on; only the next one must tokenize again. Raises
    UserError, with the line in ``path``, for a row that the chat template does not keep.
    """
    cached = cache_folder() / f"{key}.npz"
    try:
        return _read_examples(cached)
    except (OSError, ValueError, KeyError, BadZipFile):  # missing or torn
        examples = _make_examples(prompt, problems, path)
    with suppress(OSError):
        _write_examples(cached, examples)
    return examples


def _make_examples(prompt: Prompt, problems: Sequence[Problem], path: Path) -> list[Example]:
    examples: list[Example] = []
    refused: dict[int, UserError] = {}
    for problem in problems:
        try:
            examples.append(prompt.example(problem))
        except UserError as error:
            refused[problem.line] = error
    if refused:
        line, first = next(iter(refused.items()))
        more = f" ({len(refused)} such rows)" if len(refused) > 1 else ""
        raise UserError(f"{path}:{line}: {first}{more}")
    return examples


def cache_key(*hashes: str) -> str:
    """Return a name for tokenized data.

    It is a hash of the inputs' ``hashes``, the version of transformers, and the code that makes the
    rows.
    """
    code = [path.read_text() for path in sorted(ROW_CODE)]
    parts = [*hashes, transformers.__version__, *code]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def cache_folder() -> Path:
    """Return the folder where tokenized data is kept for later runs."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "gsm8k-screl" / "tokens"


def _write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples to one .npz file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(
        temporary,
        input_ids=np.concatenate([example.input_ids for example in examples]),
        lengths=np.array([len(example) for example in examples]),
        n_prompt=np.array([example.n_prompt for example in examples]),
    )
    os.replace(temporary, path)


def _read_examples(path: Path) -> list[Example]:
    with np.load(path) as arrays:
        rows = np.split(arrays["input_ids"], np.cumsum(arrays["lengths"])[:-1])
        return [Example(*row) for row in zip(rows, arrays["n_prompt"].tolist(), strict=True)]


def _report_rows(
    config: TrainConfig, path: Path, problems: Sequence[Problem], examples: Sequence[Example]
) -> None:
    """Print the amount of data in ``path`` and the rows that are left out.

    Raises UserError if no row is left.
    """
    lengths = [len(example) for example in examples]
    too_long = [
        str(problem.line)
        for problem, length in zip(problems, lengths, strict=True)
        if length > config.max_length
    ]
    n_tokens = sum(length for length in lengths if length <= config.max_length)
    what = "" if path == config.data_path else f"{path}: "
    say(f"{what}{counted(len(lengths) - len(too_long), 'row')}, {counted(n_tokens, 'token')}")
    if too_long:
        lines = too_long[:10] + ["..."] * (len(too_long) > 10)
        say(
            f"warning: left out {len(too_long)} of {counted(len(lengths), 'row')}, longer than "
            f"--max_length {config.max_length} tokens: {path} line {', '.join(lines)}"
        )
    if len(too_long) == len(lengths):
        raise UserError(f"{path}: no row is left; raise --max_length")


def _report_inserted(prompt: Prompt, problems: Sequence[Problem]) -> None:
    """Warn of text that the chat template puts before an answer, as the model learns it too."""
    if prompt.inserted and (n_rows := sum("</think>" not in p.solution for p in problems)):
        say(
            f"warning: the chat template writes {prompt.inserted!r} before the response of "
            f"{counted(n_rows, 'row')}, and the model learns to write it; where the template has "
            "an argument for that, --chat_template_kwargs '{\"enable_thinking\": false}' moves it "
            "into the prompt"
        )


def _report_special_tokens(
    tokenizer: Tokenizer, problems: Sequence[Problem], examples: Sequence[Example]
) -> None:
    """Warn of texts that a tokenizer takes for special tokens though it was asked not to."""
    found = [
        special_tokens_in(
            tokenizer, problem.question + problem.solution, example.input_ids.tolist()
        )
        for problem, example in zip(problems, examples, strict=True)
    ]
    if n_rows := sum(map(bool, found)):
        names = sorted({token for tokens in found for token in tokens})
        say(
            f"warning: {counted(n_rows, 'row')} hold the text of special tokens "
            f"({', '.join(names)}), which become control tokens here instead of plain text; take "
            "it out"
        )


def _report_epochs(config: TrainConfig, n_rows: int, n_steps: int) -> None:
    """Warn if full steps make more epochs than asked for; raise UserError if no step is left."""
    if not n_steps:
        raise UserError(
            f"--num_train_epochs {config.num_train_epochs} of {counted(n_rows, 'row')} is less "
            "than one row; raise it"
        )
    epochs = n_steps * config.global_batch_size / n_rows
    if epochs > 1.1 * config.num_train_epochs:
        say(
            f"warning: training takes {epochs:.2f} epochs, not {config.num_train_epochs:g}: steps "
            f"of {counted(config.global_batch_size, 'row')} are always full; a smaller "
            "--global_batch_size comes closer"
        )
