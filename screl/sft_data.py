"""Problems to token rows: the prompt is given, the response and its EOS carry the loss."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from zipfile import BadZipFile

import numpy as np
import transformers

from screl.modeling import Tokenizer, prompt_ids
from screl.problems import Problem
from screl.prompts import build_prompt

HERE = Path(__file__)
MAKES_ROWS = [
    HERE, *(HERE.with_name(f"{name}.py") for name in ("modeling", "prompts", "tokenizer_files"))
]  # fmt: skip


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
