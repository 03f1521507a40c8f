"""Compare finished runs with the paper: its claims, its figures, and the cost per point.

    python analyze.py paper        # results/paper.md, from the published numbers
    python analyze.py miniature    # results/miniature.md, from the runs of scripts/miniature
    python analyze.py cost RUN [RUN ...] [--output_path cost.json]

paper, miniature: write a report with every claim of the paper and the estimate that decides it,
fits with intervals, and predictions; figures go to a folder next to the report.

cost: print the cost of each stage that made a model, in FLOPs and device hours, and the cost per
point of accuracy, with the paper's Table 4 (arXiv 2308.01825) for comparison. RUN is the folder of
a model that train.py made; its accuracy comes from the greedy samples in RUN/greedy, beside RUN,
or in --samples.
"""

import sys
from pathlib import Path

from screl.analysis.claims import CLAIMS
from screl.analysis.config import CostConfig, MiniatureConfig, PaperConfig
from screl.analysis.cost import ModelCost, model_costs, trace
from screl.analysis.cost_report import cost_report, costs_to_json
from screl.analysis.miniature import miniature_study
from screl.analysis.report import study_report
from screl.analysis.study import Study, paper_study
from screl.core.config import parse_config, run_main
from screl.core.cost import PROCESSORS, Stopwatch
from screl.core.io import refuse_to_overwrite, sibling, write_atomic, write_json
from screl.core.run_info import describe_runs, write_run_info
from screl.samples.reader import refuse_repeats


def cost(argv: list[str]) -> None:
    """Print the cost of runs; with --output_path, also write it as JSON."""
    config = parse_config(CostConfig, argv, __doc__, prog="analyze.py cost")
    stopwatch = Stopwatch()
    refuse_repeats(config.runs)
    costs = [model_costs(trace(run), config.samples) for run in config.runs]
    if config.output_path:
        run_json = sibling(config.output_path, ".run.json")
        refuse_to_overwrite([config.output_path, run_json], files_read(costs))
    print(cost_report(costs))
    if config.output_path:
        write_json(config.output_path, costs_to_json(costs))
        results = {"cost": stopwatch.time_of(PROCESSORS)}
        write_run_info(run_json, config, stopwatch.started, results)


def files_read(costs: list[list[ModelCost]]) -> list[Path]:
    """Return the outputs of all stages and the run.json files that were read."""
    stages = [path for models in costs for path in models[-1].stage.all_stages()]
    return [
        path
        for stage in stages
        for path in (stage, stage / "run.json", sibling(stage, ".run.json"))
    ]


def paper(argv: list[str]) -> None:
    """Write the report on the published numbers."""
    config = parse_config(PaperConfig, argv, __doc__, prog="analyze.py paper")
    head = "Made from the published numbers in data/paper by `python analyze.py paper`."
    write_report(config.output_path, "The published numbers", [paper_study()], head)


def miniature(argv: list[str]) -> None:
    """Write the report that compares the miniature's runs with the published numbers."""
    config = parse_config(MiniatureConfig, argv, __doc__, prog="analyze.py miniature")
    study = miniature_study(config.runs)
    made = "Run by `bash scripts/miniature/run.sh`, written by `python analyze.py miniature`."
    head = f"{made}\n\n{describe_runs(config.runs.rglob('*run.json'))}"
    write_report(config.output_path, "The paper in miniature", [paper_study(), study], head)


def write_report(path: Path, title: str, studies: list[Study], head: str) -> None:
    """Write the report and its figures, and print the outcome of every claim."""
    folder = path.with_suffix("")
    text = study_report(title, studies, folder, head)
    write_atomic(path, [text])
    print(f"wrote {path}, figures in {folder}")
    for claim in CLAIMS:
        print(f"{claim.judge(studies[-1]).outcome:14}{claim.text}")


COMMANDS = {"paper": paper, "miniature": miniature, "cost": cost}


def main() -> None:
    """Run the subcommand named by the first argument."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(__doc__)
        return
    if word not in COMMANDS:
        sys.stderr.write(f"usage: python analyze.py {{{','.join(COMMANDS)}}} ..., or --help\n")
        sys.exit(2)
    COMMANDS[word](sys.argv[2:])


if __name__ == "__main__":
    run_main(main)
