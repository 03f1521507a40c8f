"""Report a session of sampling: run.json, and the lines that sample.py ends with."""

import sys
from typing import TYPE_CHECKING

from screl.core.cost import Stopwatch
from screl.core.io import UserError
from screl.core.run_info import write_run_info
from screl.grading.verdict import FOR_FORMULAS, GOLD_KINDS
from screl.grading.verifiers import failure_lines
from screl.sampling.checks import show_alarm
from screl.sampling.config import SampleConfig
from screl.sampling.tally import sampling_cost

if TYPE_CHECKING:
    from screl.sampling.run import Prompts, SessionResult  # whose import of transformers is slow


def write_run_json(
    config: SampleConfig, prompts: "Prompts", session: "SessionResult", stopwatch: Stopwatch
) -> None:
    """Write run.json: the config, the store's contents, this session's work, and the cost."""
    from screl.models.loading import load_shape

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


def report_session(config: SampleConfig, session: "SessionResult", n_problems: int) -> None:
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
