"""Write the miniature's word problems in GSM8K format: data/mini/train.jsonl and test.jsonl.

    python data/mini/generate.py --seed 0

No test problem has the kind and the numbers of a training problem, so the same sum with other names
is never in both files.
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
sys.path.insert(0, str(ROOT))  # for the imports below when this is run as a script

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
    """A problem: a kind with its numbers and names filled in."""

    kind: Kind
    numbers: Numbers
    words: dict[str, str]
    wording: int

    @property
    def signature(self) -> Signature:
        """Return the kind and its sorted numbers, which identify a problem."""
        return self.kind.name, tuple(sorted(self.numbers.values()))

    @property
    def question(self) -> str:
        """Return the problem text."""
        shown = {key: show(value) for key, value in self.numbers.items()}
        return self.kind.questions[self.wording].format(**shown, **self.words)

    def steps(self, path: int) -> list[tuple[str, str, str]]:
        """Return the path's steps as texts ``(quantity, expression, result)``."""
        numbers = dict(self.numbers)
        steps = []
        for step in self.kind.paths[path].split("; "):
            expression, quantity = step.split(" = ")
            text, numbers[quantity] = evaluate(expression.split(), numbers)
            steps.append((quantity, text, show(numbers[quantity])))
        return steps

    def solution(self, path: int) -> str:
        """Return the path as GSM8K writes it: annotated sentences, then ``#### answer``."""
        steps = self.steps(path)
        sentences = [
            self.kind.says[quantity].format(f"<<{text}={result}>>{result}", **self.words)
            for quantity, text, result in steps
        ]
        return "\n".join([*sentences, f"#### {steps[-1][2]}"])


def evaluate(tokens: list[str], numbers: Numbers) -> tuple[str, Fraction]:
    """Return text and exact value of ``a + b * c``, evaluated left to right as ``(a+b)*c``."""
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
    """Return the value of a number or of a named quantity."""
    return Fraction(token) if token.isdigit() else numbers[token]


def show(value: Fraction) -> str:
    """Return a number in decimals; raise ValueError if that is not exact."""
    decimal = f"{float(value):g}"
    if Fraction(decimal) != value:
        raise ValueError(f"{value} has no short decimal form")
    return decimal


def draw_instance(random: Random) -> Instance:
    """Draw a random problem of a random kind."""
    kind = random.choice(KINDS)
    numbers = {key: Fraction(value) for key, value in kind.draw(random).items()}
    name, friend = random.sample(PEOPLE, 2)
    words = {"name": name, "friend": friend, "things": random.choice(THINGS)}
    return Instance(kind, numbers, words, random.randrange(len(kind.questions)))


def draw_instances(random: Random, forbidden: set[Signature]) -> Iterator[Instance]:
    """Yield problems without end whose signatures are new, and add each to ``forbidden``."""
    while True:
        instance = draw_instance(random)
        if instance.signature not in forbidden and is_solvable(instance):
            forbidden.add(instance.signature)
            yield instance


def is_solvable(instance: Instance) -> bool:
    """Return whether all paths agree, through positive numbers with at most two decimals."""
    results = [[Fraction(result) for _, _, result in instance.steps(path)]
               for path in range(len(instance.kind.paths))]  # fmt: skip
    return len({path[-1] for path in results}) == 1 and all(
        value > 0 and (value * 100).denominator == 1 for path in results for value in path
    )


def shipped_sets(seed: int) -> dict[str, list[Instance]]:
    """Return the train and test problems, in which no signature occurs twice."""
    instances = draw_instances(Random(seed), set())
    return {
        "train": [next(instances) for _ in range(N_TRAIN)],
        "test": [next(instances) for _ in range(N_TEST)],
    }


def to_rows(split: str, instances: list[Instance], seed: int) -> list[str]:
    """Return JSONL rows, each with a random path of the problem as its solution."""
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the problems (default 0)")
    parser.add_argument(
        "--output_dir", type=Path, default=Path(__file__).parent,
        help="folder to write train.jsonl and test.jsonl to (default: that of this script)",
    )  # fmt: skip
    arguments = parser.parse_args()
    for split, instances in shipped_sets(arguments.seed).items():
        path = arguments.output_dir / f"{split}.jsonl"
        write_atomic(path, to_rows(split, instances, arguments.seed))
        print(f"{path}: {len(instances)} problems")


if __name__ == "__main__":
    main()
