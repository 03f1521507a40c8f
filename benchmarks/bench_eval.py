"""Measure time and memory of eval.py on GSM8K's test set with 100 samples per problem.

    python benchmarks/bench_eval.py                       # 1,319 problems x 100 samples
    python benchmarks/bench_eval.py --n_problems 7473     # as many as the training set has

Writes its own input, a sample store: texts as long as GSM8K's, problems from hopeless to easy, and
wrong answers that mostly differ, so that voting helps. Scores it as a user would, with every k and
every interval, and prints seconds, samples/s, and the peak memory of all processes together. Then
compares two runs, and adds breakdowns.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import ROOT, report, words

sys.path.insert(0, str(ROOT))

from screl.core.io import write_json
from screl.samples.store import Sample, SampleWriter

N_PROBLEMS = 1319  # GSM8K's test problems


def main() -> None:
    """Write the input, score it, and print time and memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n_problems", type=int, default=N_PROBLEMS)
    parser.add_argument("--n_samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench_eval_"))
    try:
        run_benchmark(folder, arguments)
    finally:
        shutil.rmtree(folder)


def run_benchmark(folder: Path, arguments: argparse.Namespace) -> None:
    """Print one line per run of eval.py, and the table of scores."""
    data_path = folder / "test.jsonl"
    problems = [MadeUpProblem(random.Random(i)) for i in range(arguments.n_problems)]
    data_path.write_text("".join(json.dumps(problem.row) + "\n" for problem in problems))
    stores = [folder / "a", folder / "b"]
    for store in stores:
        write_store(store, data_path, problems, arguments.n_samples)
    n_samples = arguments.n_problems * arguments.n_samples
    size = (stores[0] / "samples-0.jsonl").stat().st_size
    print(f"input: {arguments.n_problems} problems x {arguments.n_samples}, {size / 1e6:.0f} MB")
    command = [sys.executable, str(ROOT / "eval.py")]
    output = ["--output_path", str(folder / "metrics.json")]
    for repeat in range(arguments.repeats):
        name = f"score, run {repeat + 1}"
        table = report(name, [*command, str(stores[0]), *output], n_samples)
    report("two runs compared", [*command, *map(str, stores), *output], 2 * n_samples)
    by = ["--breakdown", "steps", "length", "cut_off"]
    report("three breakdowns", [*command, str(stores[0]), *output, *by], n_samples)
    errors = ["--errors_path", str(folder / "errors.jsonl")]
    report("wrong completions written", [*command, str(stores[0]), *output, *errors], n_samples)
    print(table)


class MadeUpProblem:
    """A question, its solution, and the share of samples that solve it."""

    def __init__(self, rng: random.Random) -> None:
        self._a, self._b, self._c = (rng.randint(2, 90) for _ in range(3))
        self._answer = (self._a + self._b) * self._c
        self._share_right = rng.betavariate(0.6, 0.8)
        self._popular_slip = rng.randint(1, 9)  # a wrong answer that several samples share
        question = f"{words(rng, 45)} {self._a} {self._b} {self._c}?"
        self.row = {"query": question, "response": self._write(rng, 0)}

    def complete(self, rng: random.Random) -> str:
        """Return a completion."""
        if rng.random() < self._share_right:
            return self._write(rng, 0)
        kind = rng.random()
        if kind < 0.05:
            return self._write(rng, 0).split("####")[0]
        return self._write(rng, self._popular_slip if kind < 0.25 else rng.randint(1, 300))

    def _write(self, rng: random.Random, slip: int) -> str:
        a, b, c = self._a, self._b, self._c
        return (
            f"{words(rng, 12)} {a}+{b} = <<{a}+{b}={a + b}>>{a + b} {words(rng, 8)}.\n"
            f"{words(rng, 12)} <<{a + b}*{c}={self._answer + slip}>>{self._answer + slip}.\n"
            f"#### {self._answer + slip}"
        )


def write_store(path: Path, data_path: Path, problems: list[MadeUpProblem], n_samples: int) -> None:
    """Write a finished sample store."""
    manifest = {"data_path": str(data_path), "n_samples": n_samples, "n_problems": len(problems)}
    write_json(path / "manifest.json", manifest | {"greedy": False})
    with SampleWriter(path) as writer:
        writer.write(make_samples(path.name, problems, n_samples))


def make_samples(name: str, problems: list[MadeUpProblem], n_samples: int) -> Iterator[Sample]:
    """Yield the samples of each problem in turn."""
    for i, problem in enumerate(problems):
        rng = random.Random(f"{name} {i}")
        for j in range(n_samples):
            text = problem.complete(rng)
            reason = "stop" if "####" in text else "length"
            yield Sample(i, j, text, len(text) // 4, reason)


if __name__ == "__main__":
    main()
