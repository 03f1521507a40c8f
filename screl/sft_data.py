"""Problems to token rows: the prompt is given, the response and its EOS carry the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from screl.modeling import Tokenizer, prompt_ids
from screl.problems import Problem
from screl.prompts import build_prompt

IGNORE_INDEX = -100  # labels of this value carry no loss


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of prompt, response and EOS; the first ``n_prompt`` of them carry no loss."""

    input_ids: np.ndarray  # (tokens,) int32
    n_prompt: int

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


def tokenize_examples(
    tokenizer: Tokenizer, problems: Sequence[Problem], max_length: int
) -> tuple[list[Example], list[Problem]]:
    """Return the rows of at most ``max_length`` tokens, and the problems that are longer.

    A row is never cut: without its end it would teach the model not to stop.
    """
    examples, too_long = [], []
    for problem in problems:
        example = tokenize_example(tokenizer, problem)
        if len(example) <= max_length:
            examples.append(example)
        else:
            too_long.append(problem)
    return examples, too_long


def training_order(
    lengths: Sequence[int], num_epochs: float, global_batch_size: int, seed: int
) -> list[int]:
    """Row numbers in the order of training: a whole number of steps of ``global_batch_size``.

    Shuffled epochs follow one another without a gap, so every step has exactly
    ``global_batch_size`` rows; the last is filled from one more shuffle. Within a step rows are
    sorted by length: the step's gradient is the same, its micro-batches need less padding.
    """
    n_steps = -(-int(len(lengths) * num_epochs + 0.5) // global_batch_size)
    random = Random(seed)
    order: list[int] = []
    while len(order) < n_steps * global_batch_size:
        epoch = list(range(len(lengths)))
        random.shuffle(epoch)
        order += epoch
    steps = [
        sorted(order[start : start + global_batch_size], key=lambda row: (lengths[row], row))
        for start in range(0, n_steps * global_batch_size, global_batch_size)
    ]
    return [row for step in steps for row in step]


def collate(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded ``input_ids``, ``attention_mask`` and ``labels``, each (rows, longest row)."""
    shape = (len(examples), max(map(len, examples)))
    input_ids = torch.full(shape, pad, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE_INDEX, dtype=torch.long)
    for row, example in enumerate(examples):
        ids = torch.from_numpy(example.input_ids.astype(np.int64))
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        labels[row, example.n_prompt : len(ids)] = ids[example.n_prompt :]
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


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
