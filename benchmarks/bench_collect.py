"""Measure time and memory of collect_rejection_sampling.py on an input as large as the paper's.

    python benchmarks/bench_collect.py                       # 7,473 problems x 100 samples
    python benchmarks/bench_collect.py --n_samples 1000      # ten times as much: 5 GB of disk
    python benchmarks/bench_collect.py --published PUBLISHED_collect_rejection_sampling.py

Writes its own input in the published layout (about 490 MB at k=100, 48% right, about 5 distinct
paths per problem, like LLaMA-7B in the paper's Tables 1 and 2), runs the filter on it as a user
would, and prints seconds, samples/s, and the peak memory of all processes together. --published
also times the original program (github.com/OFA-Sys/gsm8k-ScRel; needs pip install editdistance) on
the same input and compares the bytes.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from measure import ROOT, report, words

sys.path.insert(0, str(ROOT))

from screl.core.problems import build_prompt

N_PROBLEMS = 7473  # GSM8K's training problems
SHARE_RIGHT = 0.48
N_PATHS = 24  # orders of a problem's numbers
N_STEPS = 4
N_WORDINGS = 6  # of each step


def main() -> None:
    """Write the input, run the filter on it, and print time and memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n_problems", type=int, default=N_PROBLEMS)
    parser.add_argument("--n_samples", type=int, default=100)
    parser.add_argument("--fidelity", choices=("paper", "strict"), default="paper")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs")
    parser.add_argument("--folder", type=Path, help="keep the input here and reuse it")
    parser.add_argument("--published", type=Path, help="the original program, to compare with")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="bench_collect_"))
    try:
        run_benchmark(folder, arguments)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


def run_benchmark(folder: Path, arguments: argparse.Namespace) -> None:
    """Print one line per run of each program."""
    n_samples = arguments.n_samples
    write_input(folder / "input", arguments.n_problems, n_samples)
    size = sum(path.stat().st_size for path in (folder / "input").glob("raw_generation_*.json"))
    print(f"input: {arguments.n_problems} problems x {n_samples} samples, {size / 1e6:.0f} MB")
    command = [
        *(sys.executable, str(ROOT / "collect_rejection_sampling.py")),
        *("--fidelity", arguments.fidelity),
        *("--data_path", str(folder / "input" / "problems.jsonl")),
        *("--samples", str(folder / "input")),
    ]
    output = folder / "rft.jsonl"
    n_rows = arguments.n_problems * n_samples
    for repeat in range(arguments.repeats):
        for path in folder.glob("rft*"):  # start from scratch
            path.unlink()
        name = f"filter, run {repeat + 1}"
        printed = report(name, [*command, "--output_path", str(output)], n_rows)
    print(printed)
    if arguments.published:
        run_published(folder / "input", arguments.published, n_rows, n_samples, output)


PUBLISHED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("published", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.TRAIN_FILE = sys.argv[2] + "/problems.jsonl"
module.collect(sys.argv[2], int(sys.argv[3]))
"""


def run_published(folder: Path, program: Path, n_rows: int, n_samples: int, ours: Path) -> None:
    """Time the original program and compare what it writes with ``ours``."""
    last = n_samples + 1  # it reads seeds 0 to last - 1; 1 to n_samples exist
    command = [sys.executable, "-c", PUBLISHED, str(program.resolve()), str(folder), str(last)]
    report("the published program", command, n_rows)
    theirs = folder / f"equation_different_pass_query_{last}_0.7_sft.jsonl.v2.farest"
    print(f"same bytes as the published program: {theirs.read_bytes() == ours.read_bytes()}")
    for path in folder.glob("*pass_query_*"):
        path.unlink()


def write_input(folder: Path, n_problems: int, n_samples: int) -> None:
    """Write problems and, unless it exists, one file of completions for every seed."""
    folder.mkdir(parents=True, exist_ok=True)
    problems = [MadeUpProblem(random.Random(i)) for i in range(n_problems)]
    rows = (
        json.dumps({"query": problem.question, "response": problem.solution}) + "\n"
        for problem in problems
    )
    (folder / "problems.jsonl").write_text("".join(rows))
    for seed in range(1, n_samples + 1):
        path = folder / f"raw_generation_0.7_{seed}.json"
        if path.is_file():
            continue
        rng = random.Random(f"seed {seed}")
        rows = (
            json.dumps([[build_prompt(problem.question), problem.complete(rng)]]) + "\n"
            for problem in problems
        )
        path.write_text("".join(rows))


class MadeUpProblem:
    """A question with several solutions, each in several wordings."""

    def __init__(self, rng: random.Random) -> None:
        self._numbers = [rng.randint(2, 60) for _ in range(4)]
        self.question = f"{words(rng, 54)} {' '.join(map(str, self._numbers))}?"
        self._answer = sum(self._numbers) * 2
        self._orders = [rng.sample(self._numbers, 4) for _ in range(N_PATHS)]
        self._wordings = [
            [(words(rng, 3), words(rng, 2)) for _ in range(N_WORDINGS)] for _ in range(N_STEPS)
        ]
        self.solution = self._write(rng, self._orders[0])

    def complete(self, rng: random.Random) -> str:
        """Return a completion; a few paths are common, most are rare."""
        order = self._orders[min(int(rng.paretovariate(1.8)), N_PATHS) - 1]
        kind = rng.random()
        if kind < SHARE_RIGHT * 0.97:
            return self._write(rng, order)
        if kind < SHARE_RIGHT:  # a false equation, then the right answer
            return self._write(rng, order, slip=1, answer=self._answer)
        if kind < 0.6:
            return self._write(rng, order, slip=rng.randint(1, 9))
        if kind < 0.95:
            return self._write(rng, [number + rng.randint(0, 5) for number in order], answer=-1)
        return f"{self._write(rng, order).split('####')[0]}{words(rng, 12)}"

    def _write(
        self, rng: random.Random, order: list[int], slip: int = 0, answer: int | None = None
    ) -> str:
        a, b, c, d = order
        total = a + b + c + d
        equations = [
            *((f"{a}+{b}", a + b), (f"{c}+{d}", c + d)),
            *((f"{a + b}+{c + d}", total), (f"{total}*2", total * 2 + slip)),
        ]
        steps = []
        for wordings, (left, value) in zip(self._wordings, equations, strict=True):
            before, after = rng.choice(wordings)
            steps.append(f"{before} {left} = <<{left}={value}>>{value} {after}.")
        stated = total * 2 + slip if answer is None else answer
        return "\n".join(steps) + f"\n#### {stated}"


if __name__ == "__main__":
    main()
