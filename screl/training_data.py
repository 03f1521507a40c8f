"""What a run trains on: tokenized examples, and which of them every step has."""

from collections.abc import Sequence
from dataclasses import dataclass

from screl.problems import ProblemId
from screl.sft_data import Example


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
