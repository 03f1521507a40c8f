"""Compare completions and scores with those of lm-evaluation-harness, on the same problems.

    python -m venv lm_eval_venv
    lm_eval_venv/bin/pip install -r requirements.txt lm-eval==0.4.13
    python benchmarks/check_lm_eval.py --lm_eval_python lm_eval_venv/bin/python \\
        --model_name_or_path models/smollm2-135m --data_path data/test_use.jsonl

Both answer the first --n problems greedily in float32, after the same eight solved problems: the
harness by the task of benchmarks/lm_eval/gsm8k_icl.yaml, this project by ``sample.py --prompt icl``
and ``eval.py --graders``. Prints every difference and exits with status 1 if there is one. The
harness keeps the white space at both ends of a completion, which sample.py removes; it is not
compared. A second run with the same --work_dir compares the same completions again.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import run_main
from screl.core.io import UserError, format_table, read_json
from screl.core.problems import build_prompt, load_problems
from screl.core.rows import read_rows
from screl.grading.graders import GRADERS
from screl.samples.store import read_manifest, read_samples

ROOT = Path(__file__).resolve().parents[1]
TASK = "gsm8k_icl"
FILTERS = {"strict-match": "lm_eval_strict", "flexible-extract": "lm_eval_flexible"}


class Answered(NamedTuple):
    """A prompt, its completion, and the verdict of each of the harness's filters."""

    prompt: str
    completion: str
    is_right: dict[str, bool]


def main() -> None:
    """Run both programs, compare them, and exit with status 1 if they differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lm_eval_python", required=True, help="a Python with lm-eval installed")
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--data_path", type=Path, required=True, help="GSM8K's test problems")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs/check_lm_eval")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    arguments = parser.parse_args()
    folder = arguments.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    problems, shots = folder / "problems.jsonl", folder / "shots.jsonl"
    lines = arguments.data_path.read_text(encoding="utf-8").splitlines(keepends=True)
    problems.write_text("".join(lines[: arguments.n]), encoding="utf-8")
    shots.write_bytes((ROOT / "data/icl/gsm8k.jsonl").read_bytes())
    model = arguments.model_name_or_path
    if Path(model).exists():
        model = str(Path(model).resolve())
    theirs, their_scores = run_lm_eval(arguments.lm_eval_python, model, folder)
    ours, our_scores = run_ours(arguments.engine, model, folder)
    sys.exit(1 if report(theirs, their_scores, ours, our_scores) else 0)


def run_lm_eval(
    python: str, model: str, folder: Path
) -> tuple[dict[int, Answered], dict[str, float]]:
    """Return the harness's answers by row and its scores in percent."""
    output = folder / "lm_eval"
    if not list(output.glob("*/results_*.json")):
        command = [
            python, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu",
            "--model_args", f"pretrained={model},dtype=float32", "--batch_size", "1",
            "--tasks", TASK, "--include_path", str(ROOT / "benchmarks/lm_eval"),
            "--output_path", str(output.resolve()), "--log_samples",
        ]  # fmt: skip
        # data files are relative to the folder, and so must be the cache of what was read from them
        environment = os.environ | {"HF_DATASETS_CACHE": str(folder.resolve() / "cache")}
        run(command, folder, environment)
    (results_path,) = output.glob("*/results_*.json")
    (samples_path,) = output.glob(f"*/samples_{TASK}_*.jsonl")
    answered: dict[int, Answered] = {}
    for _, row in read_rows(samples_path):
        new = Answered(row["arguments"]["gen_args_0"]["arg_0"], row["resps"][0][0].strip(), {})
        verdicts = answered.setdefault(row["doc_id"], new).is_right
        verdicts[row["filter"]] = row["exact_match"] == 1.0
    results: dict[str, Any] = read_json(results_path)["results"][TASK]
    return answered, {name: 100 * results[f"exact_match,{name}"] for name in FILTERS}


def run_ours(engine: str, model: str, folder: Path) -> tuple[dict[int, Answered], dict[str, float]]:
    """Return the answers of sample.py by row and the scores of eval.py."""
    data, store, metrics = (folder / name for name in ("problems.jsonl", "store", "metrics.json"))
    sample = [
        sys.executable, "sample.py", "--greedy", "--prompt", "icl", "--precision", "fp32",
        "--engine", engine, "--batch_size", "8", "--max_new_tokens", "256",
        "--model_name_or_path", model, "--data_path", str(data.resolve()),
        "--output_dir", str(store.resolve()),
    ]  # fmt: skip
    run(sample, ROOT)
    score = [sys.executable, "eval.py", str(store.resolve()), "--graders"]
    run([*score, "--output_path", str(metrics.resolve())], ROOT)
    template = read_manifest(store)["prompt_template"]
    problems = {problem.problem_id: problem for problem in load_problems(data)}
    answered = {}
    for one in read_samples(store):
        problem, text = problems[one.problem_id], one.completion
        verdicts = {
            name: GRADERS[grader](text, problem.solution).is_right
            for name, grader in FILTERS.items()
        }
        prompt = build_prompt(problem.question, template)
        answered[problem.line - 1] = Answered(prompt, text, verdicts)
    graders = read_json(metrics)[0]["graders"]
    return answered, {name: graders[ours]["value"] for name, ours in FILTERS.items()}


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command and keep its output out of the report; raise UserError if it fails."""
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise UserError(f"{command[1:3]} failed with exit status {done.returncode}")


def report(
    theirs: dict[int, Answered], their_scores: dict[str, float],
    ours: dict[int, Answered], our_scores: dict[str, float],
) -> int:  # fmt: skip
    """Print what is the same and each difference; return the number of differences."""
    rows = [["compared", "same", "of"]]
    n_different = 0
    for name in ("prompt", "completion"):
        n_same = sum(getattr(theirs[i], name) == getattr(ours[i], name) for i in theirs)
        rows.append([f"{name}s", str(n_same), str(len(theirs))])
        n_different += len(theirs) - n_same
    for name in FILTERS:
        n_same = sum(theirs[i].is_right[name] == ours[i].is_right[name] for i in theirs)
        rows.append([f"verdicts, {name}", str(n_same), str(len(theirs))])
        n_different += len(theirs) - n_same
    print(format_table(rows), end="\n\n")
    scores = [["score", "lm-eval", "ours"]]
    scores += [[name, f"{their_scores[name]:.1f}", f"{our_scores[name]:.1f}"] for name in FILTERS]
    print(format_table(scores))
    for i in sorted(theirs):
        if theirs[i] != ours[i]:
            print(f"\nrow {i + 1}\n  lm-eval {theirs[i][1:]!r}\n  ours    {ours[i][1:]!r}")
    return n_different


if __name__ == "__main__":
    run_main(main)
