"""Problems to token rows: the prompt is given, the response and its EOS carry the loss.

What a run trains on: tokenized examples, and which of them every step has.
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

from screl.core.io import UserError
from screl.core.problems import Problem, ProblemId
from screl.models.tokenizer import (
    Example,
    Tokenizer,
    load_tokenizer,
    tokenize_example,
)
from screl.training.config import TrainConfig
from screl.training.packing import check_plan
from screl.training.processes import say

SCREL = Path(__file__).parents[1]
# The code that turns rows into tokens: a change of it makes the cache anew.
MAKES_ROWS = [SCREL / "core/alpaca.py", SCREL / "models/tokenizer.py", Path(__file__)]


def tokenize_examples(tokenizer: Tokenizer, problems: Sequence[Problem], key: str) -> list[Example]:
    """The row of every problem, from the cache where ``key`` (see ``cache_key``) is there."""
    cached = cache_folder() / f"{key}.npz"
    try:
        return read_examples(cached)
    except (OSError, ValueError, KeyError, BadZipFile):  # not there, or torn
        examples = [tokenize_example(tokenizer, problem) for problem in problems]
    with suppress(OSError):  # a cache that cannot be written costs a minute the next time
        write_examples(cached, examples)
    return examples


def cache_key(*contents: str) -> str:
    """A name for tokenized data: a hash of the hashes of its content, of the library's version and
    of the code that makes it."""
    code = [path.read_text() for path in sorted(MAKES_ROWS)]
    parts = [*contents, transformers.__version__, *code]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def cache_folder() -> Path:
    """Where tokenized data is kept for the next run with the same data and tokenizer."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "gsm8k-screl" / "tokens"


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples to one .npz file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(
        temporary,
        input_ids=np.concatenate([example.input_ids for example in examples]),
        lengths=np.array([len(example) for example in examples]),
        n_prompt=np.array([example.n_prompt for example in examples]),
    )
    os.replace(temporary, path)


def read_examples(path: Path) -> list[Example]:
    """What ``write_examples`` wrote."""
    with np.load(path) as arrays:
        rows = np.split(arrays["input_ids"], np.cumsum(arrays["lengths"])[:-1])
        return [Example(*row) for row in zip(rows, arrays["n_prompt"].tolist(), strict=True)]


def training_order(
    n_rows: int, num_epochs: float, global_batch_size: int, seed: int
) -> list[list[int]]:
    """Row numbers of every step, each of exactly ``global_batch_size`` rows.

    Shuffled epochs follow one another without a gap, so every step is full; the last is filled
    from one more shuffle.
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


@dataclass(frozen=True)
class TrainingData:
    """Examples with the ids of their problems, and the rows of every step."""

    examples: Sequence[Example]
    problem_ids: Sequence[ProblemId]
    steps: Sequence[Sequence[int]]

    def n_tokens(self, step: int) -> int:
        """Of a step, over all processes."""
        return sum(len(self.examples[row]) for row in self.steps[step])

    def counts(self) -> dict[str, int]:
        """What run.json says of it."""
        return {
            "n_rows": len(self.examples),
            "n_steps": len(self.steps),
            "n_tokens": sum(self.n_tokens(step) for step in range(len(self.steps))),
        }


def prepare(
    config: TrainConfig, problems: Sequence[Problem], identity: dict[str, Any], n_processes: int
) -> tuple[Tokenizer, TrainingData]:
    """Return the tokenizer and the TrainingData: rows as tokens, and the rows of every step.

    UserError if a row or the number of processes makes some step impossible.
    """
    tokenizer = load_tokenizer(config.model_name_or_path)
    key = cache_key(identity["model_sha256"], identity["data_sha256"])
    every = tokenize_examples(tokenizer, problems, key)
    fitting = [row for row, example in enumerate(every) if len(example) <= config.max_length]
    report_rows(config, problems, [len(example) for example in every])
    longest = max(len(every[row]) for row in fitting)
    check_plan(longest, config.global_batch_size, n_processes, config.micro_batch_tokens)
    order = training_order(
        len(fitting), config.num_train_epochs, config.global_batch_size, config.seed
    )
    report_epochs(config, len(fitting), len(order))
    data = TrainingData(
        [every[row] for row in fitting], [problems[row].problem_id for row in fitting], order
    )
    return tokenizer, data


def report_epochs(config: TrainConfig, n_rows: int, n_steps: int) -> None:
    """Say so where full steps make more epochs than were asked for; UserError for no step."""
    if not n_steps:
        raise UserError(
            f"--num_train_epochs {config.num_train_epochs} of {n_rows} rows is not one row"
        )
    epochs = n_steps * config.global_batch_size / n_rows
    if epochs > 1.1 * config.num_train_epochs:
        say(
            f"warning: {n_steps} steps of {config.global_batch_size} rows are {epochs:.2f} epochs, "
            f"not {config.num_train_epochs:g}; a smaller --global_batch_size comes closer"
        )


def report_rows(config: TrainConfig, problems: Sequence[Problem], lengths: list[int]) -> None:
    """Say what is trained on, and name what is left out; UserError if that is everything, or if
    there is a row with nothing to learn."""
    for problem in problems:
        if not problem.solution.strip():
            raise UserError(
                f"{config.data_path}:{problem.line}: the response is empty; mend or delete this "
                "line"
            )
    too_long = [
        str(problem.line)
        for problem, length in zip(problems, lengths, strict=True)
        if length > config.max_length
    ]
    n_tokens = sum(length for length in lengths if length <= config.max_length)
    say(f"{len(lengths) - len(too_long)} rows, {n_tokens} tokens")
    if too_long:
        numbers = too_long[:10] + ["..."] * (len(too_long) > 10)
        say(
            f"warning: {len(too_long)} of {len(lengths)} rows have more than "
            f"--max_length {config.max_length} tokens and are left out: {config.data_path} "
            f"line {', '.join(numbers)}"
        )
    if len(too_long) == len(lengths):
        raise UserError(f"{config.data_path}: no row is left; raise --max_length")
