"""Print the quickstart's table: python scripts/quickstart_table.py runs/quickstart N_SEEDS

Scores are means over problems and seeds in percent, ± the standard error over problems of the mean
over seeds. The next column shows the score of each seed.
"""

import re
import statistics
import sys
from pathlib import Path

import numpy as np

# A script's sys.path starts at its own folder, scripts/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import run_main
from screl.core.io import format_table, read_json
from screl.core.problems import load_problems
from screl.grading.verdict import JudgeRules
from screl.samples.reader import open_runs
from screl.scoring.report import show_metric
from screl.scoring.score import score_runs
from screl.scoring.statistics import Floats, mean_and_error, paired_difference

TEST = Path("data/mini/test.jsonl")
HEADER = [
    "model",
    "rows",
    "steps",
    "samples",
    "right",
    "kept",
    "maj1@1",
    "each seed",
    "- sft",
    "- sft_matched",
    "- random",
    "maj1@8",
]
BASELINES = ("sft", "sft_matched", "rft_k16_random")


def scores_of(stores: list[Path], metric: str) -> Floats | None:
    """Return scores of shape (seeds, problems); None if the quickstart has no such stores."""
    if not all(store.exists() for store in stores):
        return None
    problems = load_problems(TEST)
    scores = [
        score_runs(open_runs(store, problems, "test"), problems, TEST, JudgeRules()).scores[metric]
        for store in stores
    ]
    return np.stack(scores)


def show_mean(scores: Floats | None) -> str:
    """Show the mean over seeds as ``value ± standard error``, or an interval if all are equal."""
    if scores is None:
        return "-"
    (value,), (error,) = mean_and_error(scores.mean(axis=0)[:, None])
    return show_metric(value, error, scores.shape[1])


def show_difference(scores: Floats, baseline: Floats) -> str:
    """Show the difference in points, paired by problem."""
    value, error = paired_difference(baseline.mean(axis=0), scores.mean(axis=0))
    return f"{value:+.1f} ± {error:.1f}"


def describe_data(model: str, seed_runs: list[Path]) -> list[str]:
    """Return rows and steps, and samples, right, and kept per problem, as means over seeds."""
    trainings = [read_json(run / model / "run.json")["results"] for run in seed_runs]
    cells = [f"{statistics.fmean(t[key] for t in trainings):.0f}" for key in ("n_rows", "n_steps")]
    if not model.startswith("rft"):
        return [*cells, "-", "-", "-"]
    results = [read_json(run / f"{model}.run.json")["results"] for run in seed_runs]
    for count in ("n_sampled", "n_right", "n_kept"):
        counts = (of_seed["runs"][-1]["funnel"][count] for of_seed in results)
        cells.append(f"{statistics.fmean(counts) / results[0]['n_problems']:.2f}")
    return cells


def make_table(root: Path, n_seeds: int) -> str:
    """Return the table of all models under ``root``, without empty columns."""
    seed_runs = [root / f"seed{seed}" for seed in range(n_seeds)]
    names = sorted({path.parent.name for path in seed_runs[0].glob("*/greedy")}, key=row_order)
    greedy = {
        name: scores_of([run / name / "greedy" for run in seed_runs], "maj1@1") for name in names
    }
    base = scores_of([root / "base" / "greedy"], "maj1@1")
    rows = [HEADER, ["base", *"-----", show_mean(base), *"-----"]]
    for name, scores in greedy.items():
        assert scores is not None
        each = " ".join(f"{100 * of_seed.mean():.1f}" for of_seed in scores)
        differences = [
            show_difference(scores, baseline)
            if (baseline := greedy.get(other)) is not None and row_order(name) > row_order(other)
            else "-"
            for other in BASELINES
        ]
        votes = scores_of([run / name / "votes" for run in seed_runs], "maj1@8")
        data = describe_data(name, seed_runs)
        rows.append([name, *data, show_mean(scores), each, *differences, show_mean(votes)])
    columns = zip(*rows, strict=True)
    shown = [column for column in columns if any(cell != "-" for cell in column[1:])]
    return format_table([list(row) for row in zip(*shown, strict=True)])


def row_order(name: str) -> tuple[bool, int, bool, str]:
    """Sort SFT before RFT, a small k before a large one, and a control before its model."""
    k = re.search(r"_k(\d+)", name)
    return name.startswith("rft"), int(k[1]) if k else 0, not name.endswith("_random"), name


def main() -> None:
    """Print the table, its legend, and where the files are."""
    root, n_seeds = Path(sys.argv[1]), int(sys.argv[2])
    table = make_table(root, n_seeds)
    print(f"\n{table}\n")
    n_problems = len(load_problems(TEST))
    seeds = "1 seed" if n_seeds == 1 else f"{n_seeds} seeds"
    print(f"{n_problems} test problems ({TEST}), {seeds}; percent ± standard error.")
    print("rows, steps: training rows and steps; samples, right, kept: per training problem.")
    print("sft_matched: SFT data for as many steps as the largest RFT run.")
    if "rft_k16_random" in table:
        print("rft_k16_random: like rft_k16, with random right samples instead of one per path.")
    differences = "- sft, - sft_matched" + ", - random" * ("- random" in table)
    print(f"{differences}: difference in maj1@1, in points, paired by problem.")
    print(f"Checkpoints, samples, run.json: {root}/seed*/; kept samples: {root}/seed*/rft_k*.jsonl")


if __name__ == "__main__":
    run_main(main)
