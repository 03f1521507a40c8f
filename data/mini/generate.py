"""Write the miniature's word problems in GSM8K format: data/mini/train.jsonl and test.jsonl.

    python data/mini/generate.py --seed 0

Every number is seeded. A problem of the test set shares with none of the training set its kind
together with its numbers, so the same sum under another name is not in both.
"""

import argparse
import json
import operator
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # run as a script: make `import data.mini`, `import screl` work

from data.mini.kinds import KINDS, PEOPLE, THINGS, Kind, Numbers  # noqa: E402
from screl.core.io import write_atomic  # noqa: E402

N_TRAIN, N_TEST = 1000, 1000
OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
Signature = tuple[str, tuple[Fraction, ...]]


@dataclass(frozen=True)
class Instance:
    """A kind with its numbers and names filled in."""

    kind: Kind
    numbers: Numbers
    words: dict[str, str]
    wording: int

    @property
    def signature(self) -> Signature:
        """The kind and its numbers in any order: what no two sets may share."""
        return self.kind.name, tuple(sorted(self.numbers.values()))

    @property
    def question(self) -> str:
        """The problem text."""
        shown = {key: show(value) for key, value in self.numbers.items()}
        return self.kind.questions[self.wording].format(**shown, **self.words)

    def steps(self, path: int) -> list[tuple[str, str, str]]:
        """The path's steps as ``(quantity, expression, result)`` texts."""
        numbers = dict(self.numbers)
        steps = []
        for step in self.kind.paths[path].split("; "):
            expression, quantity = step.split(" = ")
            text, numbers[quantity] = evaluate(expression.split(), numbers)
            steps.append((quantity, text, show(numbers[quantity])))
        return steps

    def solution(self, path: int) -> str:
        """The path as GSM8K writes it: annotated sentences, then ``#### answer``."""
        steps = self.steps(path)
        sentences = [
            self.kind.says[quantity].format(f"<<{text}={result}>>{result}", **self.words)
            for quantity, text, result in steps
        ]
        return "\n".join([*sentences, f"#### {steps[-1][2]}"])


def evaluate(tokens: list[str], numbers: Numbers) -> tuple[str, Fraction]:
    """Text and exact value of ``a + b * c``, read from left to right as ``(a+b)*c``."""
    value = operand(tokens[0], numbers)
    text = show(value)
    for position in range(1, len(tokens), 2):
        sign, right = tokens[position], operand(tokens[position + 1], numbers)
        if sign in "*/" and any(earlier in "+-" for earlier in tokens[1:position:2]):
            text = f"({text})"
        value = OPERATIONS[sign](value, right)
        text += sign + show(right)
    return text, value


def operand(token: str, numbers: Numbers) -> Fraction:
    """A quantity by name, or a number written out."""
    return Fraction(token) if token.isdigit() else numbers[token]


def show(value: Fraction) -> str:
    """A number in decimals; exact, since the kinds only make numbers that end."""
    decimal = f"{float(value):g}"
    if Fraction(decimal) != value:
        raise ValueError(f"{value} has no short decimal form")
    return decimal


def draw_instance(random: Random) -> Instance:
    """One random problem of a random kind."""
    kind = random.choice(KINDS)
    numbers = {key: Fraction(value) for key, value in kind.draw(random).items()}
    name, friend = random.sample(PEOPLE, 2)
    words = {"name": name, "friend": friend, "things": random.choice(THINGS)}
    return Instance(kind, numbers, words, random.randrange(len(kind.questions)))


def draw_instances(random: Random, forbidden: set[Signature]) -> Iterator[Instance]:
    """Endless problems whose signatures are new; each is added to ``forbidden``."""
    while True:
        instance = draw_instance(random)
        if instance.signature not in forbidden and is_solvable(instance):
            forbidden.add(instance.signature)
            yield instance


def is_solvable(instance: Instance) -> bool:
    """Every path gives the same answer through positive numbers with at most two decimals."""
    results = [[Fraction(result) for _, _, result in instance.steps(path)]
               for path in range(len(instance.kind.paths))]  # fmt: skip
    return len({path[-1] for path in results}) == 1 and all(
        value > 0 and (value * 100).denominator == 1 for path in results for value in path
    )


def shipped_sets(seed: int) -> dict[str, list[Instance]]:
    """The train and test instances; no signature occurs twice in them."""
    instances = draw_instances(Random(seed), set())
    return {
        "train": [next(instances) for _ in range(N_TRAIN)],
        "test": [next(instances) for _ in range(N_TEST)],
    }


def to_rows(split: str, instances: list[Instance], seed: int) -> list[str]:
    """JSONL rows; the gold path of each problem is one of its kind's paths at random."""
    random = Random(f"gold {split} {seed}")
    return [
        json.dumps(
            {
                "problem_id": f"{split}-{number:04d}-{instance.kind.name}",
                "query": instance.question,
                "response": instance.solution(random.randrange(len(instance.kind.paths))),
            }
        )
        + "\n"
        for number, instance in enumerate(instances)
    ]


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    for split, instances in shipped_sets(arguments.seed).items():
        path = arguments.output_dir / f"{split}.jsonl"
        write_atomic(path, to_rows(split, instances, arguments.seed))
        print(f"{path}: {len(instances)} problems")


if __name__ == "__main__":
    main()
