"""Write the report of scripts/real_gpu.sh: python scripts/real_gpu_report.py RUNS REPORT.md

Every number is read from the files of the run: sample stores, run.json, the filter's funnel. Only
finished seeds count. Scores are in percent ± standard error: over problems, and with several seeds
over problems and seeds (screl/scoring/statistics.py).
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

# A script's sys.path starts at its own folder, scripts/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import run_main
from screl.core.io import UserError, format_table, read_json_object, write_atomic
from screl.core.problems import Problem, load_problems
from screl.core.run_info import git_commit
from screl.grading.verdict import JudgeRules
from screl.samples.reader import open_runs
from screl.scoring.report import show_interval, show_mean, show_metric
from screl.scoring.score import score_runs
from screl.scoring.statistics import Floats, compare, difference_over_seeds, mean_over_seeds

Info = dict[str, Any]  # a run.json
# The stages of a seed in the order they run, by the run.json that each writes in the seed's folder.
STAGES = {
    "sft/run.json": "train SFT",
    "sft/samples/run.json": "sample training problems",
    "kept.run.json": "filter",
    "rft/run.json": "train RFT",
    "sft/greedy/run.json": "greedy, SFT",
    "sft/votes/run.json": "sample test problems, SFT",
    "rft/greedy/run.json": "greedy, RFT",
    "rft/votes/run.json": "sample test problems, RFT",
}
LAST_STAGE = "rft/votes/run.json"


@dataclass(frozen=True)
class Results:
    """The finished seeds of a run and its test problems."""

    root: Path
    seeds: list[Path]  # their folders
    test: list[Problem]

    def infos(self, name: str) -> list[Info]:
        """Return the run.json called ``name`` of every seed."""
        return [read_json_object(seed / name) for seed in self.seeds]

    def every_info(self) -> list[Info]:
        """Return the run.json of every stage, in the order they ran."""
        base = read_json_object(self.root / "base/greedy/run.json")
        return [base, *(read_json_object(seed / name) for seed in self.seeds for name in STAGES)]

    def scores(self, store: str) -> dict[str, Floats]:
        """Return the scores of each seed's ``store`` by metric, each of shape (seeds, problems)."""
        by_seed = [self.scores_of(seed / store) for seed in self.seeds]
        return {name: np.stack([scores[name] for scores in by_seed]) for name in by_seed[0]}

    def scores_of(self, store: Path) -> dict[str, Floats]:
        """Return the scores of one store by metric, each of shape (problems,)."""
        data = self.root / "test.jsonl"
        return score_runs(open_runs(store, self.test, "test"), self.test, data, JudgeRules()).scores


def show_scores(scores: Floats) -> str:
    """Show scores of shape (seeds, problems) as ``value ± standard error``."""
    if len(scores) == 1:
        return show_mean(scores[0])
    mean = mean_over_seeds(scores)
    return show_metric(mean.value, mean.standard_error, scores.shape[1])


def show_difference(first: Floats, second: Floats) -> str:
    """Show ``second - first``, paired by problem, with its 95% interval."""
    if len(first) == 1:
        one = compare(first[0], second[0])
        value, error, interval = one.value, one.standard_error or 0.0, one.interval
    else:
        value, error, interval, _ = difference_over_seeds(first, second)
    return f"{value:+.2f} ± {error:.2f} {show_interval(interval, '+')}"


def each(scores: Floats, sign: str = "") -> str:
    """Show the mean of each seed in percent."""
    return " ".join(format(100 * of_seed.mean(), f"{sign}.1f") for of_seed in scores)


def score_rows(results: Results) -> list[list[str]]:
    """Return the table of scores; its last row is RFT - SFT."""
    greedy = {name: results.scores(f"{name}/greedy")["maj1@1"] for name in ("sft", "rft")}
    sampled = {name: results.scores(f"{name}/votes") for name in ("sft", "rft")}
    k = results.infos("sft/votes/run.json")[0]["config"]["n_samples"]
    vote = f"maj1@{k}" if k > 1 else "mean@1"
    base = results.scores_of(results.root / "base/greedy")["maj1@1"]
    rows = [["model", "rows", "steps", "maj1@1", "each seed", vote, "each seed"]]
    rows.append(["base", "-", "-", show_mean(base), "-", "-", "-"])
    for name in ("sft", "rft"):
        trained = [info["results"] for info in results.infos(f"{name}/run.json")]
        counts = (f"{fmean(t[key] for t in trained):.0f}" for key in ("n_rows", "n_steps"))
        cells = (greedy[name], sampled[name][vote])
        rows.append([name, *counts, *(f(cell) for cell in cells for f in (show_scores, each))])
    both = [(greedy["sft"], greedy["rft"]), (sampled["sft"][vote], sampled["rft"][vote])]
    difference = [
        text for sft, rft in both for text in (show_difference(sft, rft), each(rft - sft, "+"))
    ]
    return [*rows, ["rft - sft", "-", "-", *difference]]


def kept_rows(results: Results) -> list[list[str]]:
    """Return the filter's counts per training problem, one row per seed."""
    rows = [["seed", "samples", "right", "distinct paths", "kept", "problems with a right sample"]]
    for seed, info in zip(results.seeds, results.infos("kept.run.json"), strict=True):
        (report,), n = info["results"]["runs"], info["results"]["n_problems"]
        counts = ("n_sampled", "n_right", "n_distinct", "n_kept")
        solved = 1 - report["solved"]["never"] / n
        cells = (f"{report['funnel'][count] / n:.3f}" for count in counts)
        rows.append([seed.name.removeprefix("seed"), *cells, f"{solved:.1%}"])
    return rows


def cost_rows(results: Results) -> list[list[str]]:
    """Return seconds and rates of each stage, means over seeds, and the highest peak memory."""
    rows = [["stage", "seconds", "tokens/s", "memory, MiB", "predicted"]]
    for name, stage in STAGES.items():
        infos = results.infos(name)
        rates = [rate for info in infos if (rate := info["results"].get("tokens_per_second"))]
        memory = max(map(peak_memory, infos))
        predicted = infos[0]["results"].get("predicted_memory_mib")
        rows.append(
            [
                stage,
                f"{fmean(info['seconds'] for info in infos):.0f}",
                f"{fmean(rates):,.0f}" if rates else "-",
                f"{memory:,}",
                f"{predicted:,}" if predicted else "-",
            ]
        )
    return rows


def peak_memory(info: Info) -> int:
    """Return the peak in MiB as train.py measured it, else the GPU's, else the process's."""
    measured = info["results"].get("memory_mib")
    return int(measured or info["peak_gpu_memory_mib"] or info["peak_memory_mib"])


def facts(results: Results) -> list[str]:
    """Return machine, dates, versions, and commits as lines of Markdown."""
    every = results.every_info()
    versions = distinct(" ".join(f"{k} {v}" for k, v in info["versions"].items()) for info in every)
    no_git = "not in a git checkout"
    commits = distinct(info["git_commit"] or no_git for info in every)
    started = [info["started"] for info in every]
    return [
        f"* machine: {distinct(info['gpu'] or 'no GPU, ' + info['machine'] for info in every)}",
        f"* date: {min(started)} to {max(started)} (UTC; start of the first and of the last stage)",
        f"* versions: {versions}",
        f"* commit of the code that ran: {commits}; of this report: {git_commit() or no_git}",
        f"* seeds: {' '.join(seed.name.removeprefix('seed') for seed in results.seeds)}",
    ]


def distinct(values: Iterable[str]) -> str:
    """Join the values, each once."""
    return "; ".join(dict.fromkeys(values))


def block(text: str) -> str:
    """Return ``text`` as a code block, which keeps columns aligned."""
    return f"```\n{text}\n```"


def make_report(results: Results) -> str:
    """Return the report in Markdown."""
    first = results.every_info()[: 1 + len(STAGES)]
    n_train, n_test = len(load_problems(results.root / "train.jsonl")), len(results.test)
    over = "problems" if len(results.seeds) == 1 else "problems and seeds"
    parts = [
        f"# SFT and RFT of {first[0]['config']['model_name_or_path']}",
        f"`bash scripts/real_gpu.sh`: {n_train:,} training and {n_test:,} test problems. "
        "`models/smollm2-135m` is SmolLM2-135M-Instruct, Q4_1 (see data/get_model.py).",
        "\n".join(facts(results)),
        block(format_table(score_rows(results))),
        f"Percent ± standard error over {over}. Differences are in points, paired by problem, with "
        "95% intervals.",
        "What the filter kept of the SFT model's samples, counts per training problem:",
        block(format_table(kept_rows(results))),
        "Cost, mean over seeds. Seconds include loading and saving; for a stage that was "
        "interrupted they cover its last session. Memory is the peak (on a GPU, what torch "
        "allocated), next to train.py's prediction:",
        block(format_table(cost_rows(results))),
        "Commands of the first seed:",
        block("\n".join(f"python {info['command']}" for info in first)),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the report and print it; raise UserError if no seed is finished."""
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/real_gpu_report.py RUNS REPORT.md")
    root, output = Path(sys.argv[1]), Path(sys.argv[2])
    seeds = [seed for seed in sorted(root.glob("seed*")) if (seed / LAST_STAGE).exists()]
    if not seeds:
        raise UserError(f"{root}: no seed is finished; run scripts/real_gpu.sh until one is")
    report = make_report(Results(root, seeds, load_problems(root / "test.jsonl")))
    write_atomic(output, [report])
    print(f"{report}\n{output}")


if __name__ == "__main__":
    run_main(main)
