"""The quickstart's one table: python scripts/quickstart_table.py runs/quickstart N_SEEDS

Scores are means over problems and seeds, in percent. ``±`` is the standard error over problems of
the seeds' mean; how much the seeds differ is shown beside it, one value a seed.
"""

import statistics
import sys
from pathlib import Path

# A script's sys.path starts at its own folder, scripts/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.answers import gold_answers
from screl.completions import load_completions
from screl.config import run_main
from screl.files import read_json
from screl.metrics import mean_over_problems, paired_difference
from screl.problems import load_problems
from screl.scoring import score_runs
from screl.table import format_table

TEST = Path("data/mini/test.jsonl")
HEADER = [
    "model",
    "rows",
    "steps",
    "samples",
    "right",
    "new paths",
    "maj1@1",
    "each seed",
    "- sft",
    "- sft_matched",
    "maj1@8",
]
Scores = list[list[float]]  # seeds x problems


def scores_of(stores: list[Path], metric: str) -> Scores | None:
    """Per-problem scores of every seed's store; None where the quickstart does not sample it."""
    if not all(store.exists() for store in stores):
        return None
    problems = load_problems(TEST)
    golds = gold_answers(problems, TEST, "strict")
    return [
        score_runs(load_completions(store, problems, "test"), golds, TEST, "strict").scores[metric]
        for store in stores
    ]


def mean_over_seeds(scores: Scores) -> list[float]:
    """For every problem the mean of its scores."""
    return [statistics.fmean(of_one_problem) for of_one_problem in zip(*scores, strict=True)]


def show_mean(scores: Scores | None) -> str:
    """``value ± standard error`` in percent."""
    if scores is None:
        return "-"
    metric = mean_over_problems(mean_over_seeds(scores))
    return f"{metric.value:.1f} ± {metric.standard_error:.1f}"


def show_difference(scores: Scores, baseline: Scores) -> str:
    """Paired over problems, in points."""
    value, error = paired_difference(mean_over_seeds(scores), mean_over_seeds(baseline))
    return f"{value:+.1f} ± {error:.1f}"


def describe_data(model: str, seed_runs: list[Path]) -> list[str]:
    """Training rows and steps; samples, right ones and new paths kept, a problem; seeds' means."""
    trainings = [read_json(run / model / "run.json")["results"] for run in seed_runs]
    cells = [f"{statistics.fmean(t[key] for t in trainings):.0f}" for key in ("n_rows", "n_steps")]
    if not model.startswith("rft"):
        return [*cells, "-", "-", "-"]
    funnels = [read_json(run / f"{model}.run.json")["results"] for run in seed_runs]
    for count in ("n_sampled", "n_right", "n_distinct"):
        cells.append(f"{statistics.fmean(f[count] / f['n_problems'] for f in funnels):.2f}")
    return cells


def make_table(root: Path, n_seeds: int) -> str:
    """The table of all that was run under ``root``."""
    seed_runs = [root / f"seed{seed}" for seed in range(n_seeds)]
    names = sorted({path.parent.name for path in seed_runs[0].glob("*/greedy")}, key=row_order)
    greedy = {
        name: scores_of([run / name / "greedy" for run in seed_runs], "maj1@1") for name in names
    }
    base = scores_of([root / "base" / "greedy"], "maj1@1")
    rows = [HEADER, ["base", *"-----", show_mean(base), *"----"]]
    for name, scores in greedy.items():
        assert scores is not None
        each = " ".join(f"{100 * statistics.fmean(of_seed):.1f}" for of_seed in scores)
        differences = [
            show_difference(scores, baseline)
            if (baseline := greedy.get(other)) and row_order(name) > row_order(other)
            else "-"
            for other in ("sft", "sft_matched")
        ]
        votes = scores_of([run / name / "votes" for run in seed_runs], "maj1@8")
        data = describe_data(name, seed_runs)
        rows.append([name, *data, show_mean(scores), each, *differences, show_mean(votes)])
    return format_table(rows)


def row_order(name: str) -> tuple[bool, int, str]:
    """SFT before RFT, a small k before a large one."""
    return name.startswith("rft"), int(name.partition("_k")[2] or 0), name


def main() -> None:
    """Print the table and where everything lies."""
    root, n_seeds = Path(sys.argv[1]), int(sys.argv[2])
    print(f"\n{make_table(root, n_seeds)}\n")
    n_problems = len(load_problems(TEST))
    print(f"{n_problems} test problems ({TEST}), {n_seeds} seed(s); percent ± standard error.")
    print("rows, steps: of training; samples, right, new paths: per training problem.")
    print("sft_matched: SFT data for as many steps as the largest RFT run.")
    print("- sft, - sft_matched: paired differences of maj1@1, problem by problem, in points.")
    print(
        f"Checkpoints, samples, run.json: {root}/seed*/; what was kept: {root}/seed*/rft_k*.jsonl"
    )


if __name__ == "__main__":
    run_main(main)
