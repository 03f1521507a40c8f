"""Sample k completions per problem, or one greedy completion, into a sample store.

    python sample.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir SAMPLES \\
        --n_samples 100 --temperature 0.7
    python sample.py --model_name_or_path M --data_path data/test_use.jsonl --output_dir SAMPLES2 \\
        --greedy
    python sample.py --model_name_or_path BASE_MODEL --data_path data/test_use.jsonl \\
        --output_dir SAMPLES3 --greedy --prompt icl

The same command continues an interrupted or killed run where it stopped. With a larger --n_samples,
or with problems appended to the data, it makes only the samples that the store lacks.
"""

import sys
from typing import TYPE_CHECKING

from screl.core.config import parse_config, run_main, say, show_config
from screl.core.cost import Stopwatch
from screl.core.io import UserError, locked
from screl.core.run_info import write_run_info
from screl.core.stopping import stop_signals
from screl.grading.styles import load_judged_problems
from screl.grading.verdict import FOR_FORMULAS, GOLD_KINDS
from screl.grading.verifiers import failure_lines
from screl.samples.store import finish_store, open_store
from screl.sampling.checks import show_alarm
from screl.sampling.config import SampleConfig, check_sample_options

if TYPE_CHECKING:
    from screl.sampling.run import Prompts, SessionResult


def main() -> None:
    """Make the samples that the store lacks, then report what the store holds."""
    config = parse_config(SampleConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_sample_options(config)
    config.prompt_choice.check()
    problems, rules = load_judged_problems(config.data_path, config.keys, config.path_rules(), say)
    # slow imports: after the cheap checks, and not for --help
    from screl.sampling.preview import describe_sampling_plan, remake_sample
    from screl.sampling.run import (
        Prompts,
        choose_engine,
        make_manifest,
        run_sampling,
        with_prompt,
    )  # fmt: skip

    config = with_prompt(config)
    engine = choose_engine(config)
    prompts = Prompts(config, problems)
    if config.dry_run:
        print(show_config(config))
        print(describe_sampling_plan(config, engine, problems, prompts))
        return
    if config.only:
        print(remake_sample(config, engine, problems, prompts))
        return
    with locked(config.output_dir, "another process is sampling into it; wait until it ends"):
        manifest = make_manifest(config, engine, problems, prompts)
        open_store(config.output_dir, manifest, problems)
        with stop_signals():
            session = run_sampling(config, engine, problems, prompts, rules)
        if config.until_correct and not session.unfulfilled and not session.is_interrupted:
            finish_store(config.output_dir)
        if session.n_samples or not (config.output_dir / "run.json").exists():
            write_run_json(config, prompts, session, stopwatch)
        report(config, session, len(problems))


def write_run_json(
    config: SampleConfig, prompts: "Prompts", session: "SessionResult", stopwatch: Stopwatch
) -> None:
    """Write run.json: the config, the store's contents, this session's work, and the cost."""
    from screl.models.loading import load_shape
    from screl.sampling.tally import sampling_cost

    path = config.output_dir / "run.json"
    cost = sampling_cost(
        session.summary,
        load_shape(config.model_name_or_path),
        map(len, prompts.ids.values()),
        stopwatch.time_of(session.devices),
        path,
        session.n_samples,
    )
    results = session.summary.results | {
        "n_samples_made_now": session.n_samples,
        "tokens_per_second": session.tokens_per_second,
        "alarms": session.alarms,
        "cost": cost,
    }
    write_run_info(path, config, stopwatch.started, results)


def report(config: SampleConfig, session: "SessionResult", n_problems: int) -> None:
    """Print a summary of run.json.

    Raises UserError if some samples could not be made, and KeyboardInterrupt after an interrupt,
    both saying what is stored.
    """
    results, more_samples, _ = session.summary
    if session.is_interrupted:
        at_most = "at most " if config.until_correct else ""
        n_wanted = n_problems * (config.max_samples or config.n_samples)
        raise KeyboardInterrupt(
            f"{config.output_dir}: interrupted; {session.n_samples} samples made, "
            f"{results['n_samples']} of {at_most}{n_wanted} are stored; run the same command again "
            "to make the others"
        )
    print(
        f"{config.output_dir}: {session.n_samples} samples made, {results['n_samples']} are "
        f"stored, {results['n_tokens']} tokens, {results['share_cut_off']:.1%} cut off at "
        f"{config.max_new_tokens} tokens"
        + (f", {session.tokens_per_second:.0f} tokens/s" if session.tokens_per_second else "")
    )
    if results["n_not_graded"]:
        print(
            f"warning: {results['n_not_graded']} samples are not graded here, because the gold "
            f"answer of their problems is not {GOLD_KINDS[config.grader]}"
            f"{FOR_FORMULAS if config.grader == 'number' else ''}",
            file=sys.stderr,
        )
    for line in failure_lines(results.get("verifier", {}).get("not_verified", {})):
        print(line, file=sys.stderr)
    if more_samples:
        print(more_samples)
    for name, line in session.alarms.items():
        print(show_alarm(name, line), file=sys.stderr)
    if session.unfulfilled:
        first = session.unfulfilled[0]
        ids = list(dict.fromkeys(str(one.request.problem_id) for one in session.unfulfilled))
        problems = "1 problem" if len(ids) == 1 else f"{len(ids)} problems"
        raise UserError(
            f"{config.output_dir}: samples of {problems} could not be made "
            f"({', '.join(ids[:20])}); for {first.request.problem_id}: {first.reason}; all others "
            "are stored: run the same command again to retry these"
        )


if __name__ == "__main__":
    run_main(main)
