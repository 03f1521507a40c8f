"""Run the steps of scripts/quickstart.sh: base -> SFT -> k samples -> filter -> RFT -> scores.

Every step is a normal command of the project. What an earlier run has finished is not repeated.
"""

import argparse
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

RUNS, BASE = Path("runs/quickstart"), Path("data/mini/model")
TRAIN, TEST = Path("data/mini/train.jsonl"), Path("data/mini/test.jsonl")
EPOCHS = 3  # for SFT and RFT, as in the paper
FEW = 4  # k of the smaller RFT set
MANY = 16  # k of the larger one; samples per training problem
VOTES = 8  # samples per test problem for maj1@8


@dataclass(frozen=True)
class Step:
    """A command and the seconds it takes on two cores where nothing else runs."""

    seconds: int
    name: str
    words: tuple[object, ...]
    longer: Path | None = None  # train for as many steps as RFT on these rows


Job = list[Step]  # steps that need each other


def train(name: str, seed: int, data: Path, seconds: int, longer: Path | None = None) -> Step:
    """Return the step that fine-tunes the base model on ``data``."""
    words = ("train.py", "--config", "configs/train/mini.yaml", "--data_path", data,
             "--output_dir", RUNS / f"seed{seed}" / name, "--seed", seed)  # fmt: skip
    return Step(seconds, f"train {name}", words, longer)


def sample(name: str, model: Path, data: Path, store: Path, seconds: int, *options: object) -> Step:
    """Return the step that samples from ``model`` into ``store``."""
    words = ("sample.py", "--config", "configs/sample/mini.yaml", "--model_name_or_path", model,
             "--data_path", data, "--output_dir", store)  # fmt: skip
    return Step(seconds, f"sample {name}", (*words, *options))


def collect(seed: int, name: str, k: int, *options: object) -> Step:
    """Return the step that keeps the correct, distinct paths among the first ``k`` samples."""
    run = RUNS / f"seed{seed}"
    words = ("collect_rejection_sampling.py", "--data_path", TRAIN,
             "--samples", run / "sft/samples", "--k", k,
             "--output_path", run / f"{name}.jsonl")  # fmt: skip
    return Step(2, f"collect {name}", (*words, *options))


def plan(n_seeds: int, full: bool) -> list[list[Job]]:
    """Return the jobs in groups; the jobs of a group do not need each other."""
    groups: list[list[Job]] = []
    for seed in range(n_seeds):
        run, rft = RUNS / f"seed{seed}", f"rft_k{MANY}"
        samples = sample(
            f"{MANY} solutions per problem from sft", run / "sft", TRAIN, run / "sft/samples", 56,
            "--seed", seed, "--n_samples", MANY, "--n_workers", 2,
        )  # fmt: skip
        first = [train("sft", seed, TRAIN, 36), samples, collect(seed, rft, MANY)]
        longer = train("sft_matched", seed, TRAIN, 58, run / f"{rft}.jsonl")  # a control
        trained = {rft: train(rft, seed, run / f"{rft}.jsonl", 58), "sft_matched": longer}
        if full:
            small, random = f"rft_k{FEW}", f"{rft}_random"  # random correct samples: a control
            first += [collect(seed, small, FEW), collect(seed, random, MANY, "--control", "rows",
                                                         "--seed", seed)]  # fmt: skip
            trained[random] = train(random, seed, run / f"{random}.jsonl", 58)
            trained[small] = train(small, seed, run / f"{small}.jsonl", 40)
        jobs = [
            [step, *scoring(name, run / name, run, seed, full)] for name, step in trained.items()
        ]
        if seed == 0:
            jobs.append(scoring("base", BASE, RUNS, seed, full))
        jobs.append(scoring("sft", run / "sft", run, seed, full))
        groups += [[first], jobs]
    return groups


def scoring(name: str, model: Path, run: Path, seed: int, full: bool) -> Job:
    """Return the steps that sample what the scores of a model need."""
    store = run / name
    steps = [sample(f"{name} greedily", model, TEST, store / "greedy", 6, "--greedy", "--seed", 0)]
    if full and name in ("sft", f"rft_k{MANY}"):
        options = ("--seed", seed, "--n_samples", VOTES)
        steps.append(sample(f"{name} for votes", model, TEST, store / "votes", 28, *options))
    return steps


@dataclass
class Progress:
    """The steps done so far, which say how long the others will take."""

    steps: list[Step]
    n_begun: int = 0
    started: float = field(default_factory=time.monotonic)
    done: int = 0  # planned seconds of the steps that have ended
    worked: int = 0  # of those that an earlier run had not finished
    lock: threading.Lock = field(default_factory=threading.Lock)
    failed: bool = False

    def begin(self, step: Step) -> None:
        """Print which step begins, and how long is left if the rest goes as the steps before."""
        with self.lock:
            self.n_begun += 1
            pace = (time.monotonic() - self.started) / self.worked if self.worked else 1.0
            left = pace * (sum(one.seconds for one in self.steps) - self.done) / 60
            say(f"== step {self.n_begun} of {len(self.steps)}, about {math.ceil(left)} min left: "
                f"{step.name}")  # fmt: skip

    def end(self, step: Step, seconds: float, succeeded: bool) -> None:
        """Count a step that has ended after ``seconds``."""
        with self.lock:
            self.done += step.seconds
            self.worked += step.seconds if seconds > step.seconds / 5 else 0
            self.failed |= not succeeded


def run_job(job: Job, progress: Progress, alone: bool) -> None:
    """Run the steps of a job, unless one of another job has failed."""
    for step in job:
        if progress.failed:
            return
        progress.begin(step)
        started = time.monotonic()
        words = ["python", *map(str, step.words)]
        if step.words[0] == "train.py":
            words += ["--num_train_epochs", f"{epochs(step):g}"]
        if alone:
            status = subprocess.run(words, check=False).returncode
        else:
            status = run_named(step.name.split()[1], words)
        progress.end(step, time.monotonic() - started, status == 0)


def epochs(step: Step) -> float:
    """Return the epochs to train: more on few rows to match the steps of a longer run."""
    if step.longer is None:
        return EPOCHS
    return EPOCHS * n_lines(step.longer) / n_lines(TRAIN)


def n_lines(path: Path) -> int:
    """Return the number of lines in a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def run_named(name: str, words: list[str]) -> int:
    """Run a command with its name before each line of its output; return its exit status."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(f"{name}: {line.rstrip()}")
    return process.returncode


def say(line: str) -> None:
    """Print a line to stderr at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def all_steps(groups: list[list[Job]]) -> Iterator[Step]:
    """Yield the steps in order."""
    for group in groups:
        for job in group:
            yield from job


def main() -> None:
    """Run everything that is not done yet, then print the table."""
    parser = argparse.ArgumentParser(prog="bash scripts/quickstart.sh", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="training seeds")
    more = "add a smaller RFT set, random samples, and votes; twice as long"
    parser.add_argument("--full", action="store_true", help=more)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    # One thread for each process: two such processes train more together than one with two
    # threads, and another program that keeps a core busy slows them less.
    os.environ["OMP_NUM_THREADS"] = "1"
    groups = plan(options.seeds, options.full)
    progress = Progress(list(all_steps(groups)))
    for group in groups:
        run = partial(run_job, progress=progress, alone=len(group) == 1)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(run, group))
        if progress.failed:
            sys.exit("error: a step has failed, see above; run the same command again to continue")
    table = ["python", "scripts/quickstart_table.py", str(RUNS), str(options.seeds)]
    sys.exit(subprocess.run(table, check=False).returncode)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the step has said what is kept
        sys.exit(130)
