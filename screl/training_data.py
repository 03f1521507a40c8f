"""What a run trains on: tokenized examples, and which of them every step has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from screl.files import UserError
from screl.modeling import Tokenizer, load_tokenizer
from screl.packing import check_plan
from screl.problems import Problem, ProblemId
from screl.processes import say
from screl.sft_data import Example, cache_key, tokenize_examples, training_order

if TYPE_CHECKING:
    from train import TrainConfig


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
    config: "TrainConfig", problems: Sequence[Problem], identity: dict[str, Any], n_processes: int
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


def report_epochs(config: "TrainConfig", n_rows: int, n_steps: int) -> None:
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


def report_rows(config: "TrainConfig", problems: Sequence[Problem], lengths: list[int]) -> None:
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
