"""Group sampling: k completions of every problem, or one greedy one, into a sample store.

    python sample.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir SAMPLES \\
        --n_samples 100 --temperature 0.7
    python sample.py --model_name_or_path M --data_path data/test_use.jsonl --output_dir SAMPLES2 \\
        --greedy
    python sample.py --model_name_or_path BASE_MODEL --data_path data/test_use.jsonl \\
        --output_dir SAMPLES3 --greedy --prompt icl

A killed run goes on where it stopped when the same command is given again; a larger --n_samples,
and problems added to the data, add to what is there.
"""

import sys
from typing import TYPE_CHECKING

from screl.core.config import parse_config, run_main, show_config
from screl.core.cost import Stopwatch, cost_to_json
from screl.core.io import UserError, locked
from screl.core.problems import Problem, load_problems
from screl.core.run_info import write_run_info
from screl.samples.reader import open_runs
from screl.samples.store import finish_store, open_store
from screl.sampling.config import SampleConfig, check_options

if TYPE_CHECKING:
    pass
    from screl.sampling.run import Made, Prompts


def main() -> None:
    """Find out what is missing, have it made, say what came of it."""
    config = parse_config(SampleConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_options(config)
    problems = load_problems(config.data_path)
    # heavy: after the cheap checks, and not for --help
    from screl.sampling.preview import describe_sampling_plan, make_again
    from screl.sampling.run import Prompts, choose_engine, make_manifest, sample

    engine = choose_engine(config)
    prompts = Prompts(config, problems)
    if config.dry_run:
        print(show_config(config))
        print(describe_sampling_plan(config, engine, problems, prompts))
        return
    if config.only:
        print(make_again(config, engine, problems, prompts))
        return
    with locked(config.output_dir, "another process is sampling into it; wait for its end"):
        manifest = make_manifest(config, engine, problems, prompts)
        open_store(config.output_dir, manifest, problems)
        made = sample(config, engine, problems, prompts)
        report(config, problems, prompts, made, stopwatch)


def report(
    config: SampleConfig, problems: list[Problem], prompts: "Prompts", made: "Made",
    stopwatch: Stopwatch,
) -> None:  # fmt: skip
    """run.json, and what it says in short. UserError if something could not be made."""
    from screl.sampling.checks import summarize_run
    from screl.sampling.run import sampling_cost

    if config.until_correct and not made.unfulfilled:
        finish_store(config.output_dir)
    (run,) = open_runs(config.output_dir, problems, "train", allow_partial=True)
    found = summarize_run(problems, run)
    results, more, _ = found
    if made.n_samples or not (config.output_dir / "run.json").exists():
        now = {
            "n_samples_made_now": made.n_samples,
            "tokens_per_second": made.tokens_per_second,
            "alarms": made.alarms,
            "cost": cost_to_json(sampling_cost(config, problems, prompts, made, found, stopwatch)),
        }
        write_run_info(config.output_dir / "run.json", config, stopwatch.started, results | now)
    print(
        f"{config.output_dir}: {made.n_samples} samples made, {results['n_samples']} are there, "
        f"{results['n_tokens']} tokens, {results['share_cut_off']:.1%} cut off at "
        f"{config.max_new_tokens} tokens"
        + (f", {made.tokens_per_second:.0f} tokens/s" if made.tokens_per_second else "")
    )
    if more:
        print(more)
    for line in made.alarms.values():
        print(f"warning: {line}", file=sys.stderr)
    if made.unfulfilled:
        first = made.unfulfilled[0]
        problem_ids = list(dict.fromkeys(str(u.request.problem_id) for u in made.unfulfilled))
        raise UserError(
            f"{config.output_dir}: samples of {len(problem_ids)} problems could not be made "
            f"({', '.join(problem_ids[:20])}); of {first.request.problem_id}: {first.reason}; all "
            "others are there: run the same command again to try these again"
        )


if __name__ == "__main__":
    run_main(main)
