"""Count the samples of a run: their tokens, right answers, paths, and cost."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from screl.core.cost import Cost, add_session, count_samples, read_cost
from screl.core.io import UserError, read_json_object
from screl.core.problems import Problem, ProblemId
from screl.core.shape import Shape
from screl.grading.verdict import JudgeRules, Verdict, gold_answer, make_judge
from screl.samples.line_index import MISSING
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.sampling.path_estimate import describe_estimate, expected_new_paths

N_MORE = 100  # more samples per problem in the estimate: the paper's k


@dataclass(slots=True)
class ProblemTally:
    """Counts over the samples of one problem.

    ``lengths`` holds the tokens of each sample. For each equation path of the samples that the
    strict filter calls valid, including the solution's own path, ``path_counts`` holds the number
    of samples and ``first_sample_ids`` the smallest sample_id.
    """

    lengths: list[int] = field(default_factory=list)
    n_cut_off: int = 0
    n_graded: int = 0
    n_right: int = 0
    path_counts: dict[str, int] = field(default_factory=dict)
    first_sample_ids: dict[str, int] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)  # of the verifier

    def add(self, sample: Sample, verdict: Verdict | None) -> None:
        """Count one more sample; ``verdict`` is None if the gold answer cannot be read."""
        self.lengths.append(sample.n_tokens or 0)
        self.n_cut_off += sample.is_cut_off is True
        if verdict is None:
            return
        self.n_graded += 1
        self.n_right += is_right(verdict)
        if verdict.failure:
            self.failures[verdict.failure] += 1
        if verdict.reason == "valid":
            path, i = verdict.path, sample.sample_id
            self.path_counts[path] = self.path_counts.get(path, 0) + 1
            self.first_sample_ids[path] = min(self.first_sample_ids.get(path, i), i)


def is_right(verdict: Verdict) -> bool:
    """Return whether the answer is right, regardless of the equations."""
    return verdict.reason not in ("no_answer", "not_verified", "wrong_answer")


def judge_of(problem: Problem, rules: JudgeRules) -> Callable[[str], Verdict | None]:
    """Return the judge of a problem; it returns None where the gold answer cannot be read."""
    if not rules.verifier and gold_answer(problem, rules) is None:
        return lambda text: None
    return make_judge(problem, rules)


def tally_problem(
    problem: Problem, samples_of_runs: Sequence[Sequence[Sample]], rules: JudgeRules
) -> ProblemTally:
    """Return the tally of a problem's samples in a single run, as ``map_problems`` passes them."""
    (samples,) = samples_of_runs
    tally, judge = ProblemTally(), judge_of(problem, rules)
    for sample in samples:
        tally.add(sample, judge(sample.completion))
    return tally


def read_tallies(
    problems: Sequence[Problem], run: Run, rules: JudgeRules
) -> dict[ProblemId, ProblemTally]:
    """Return the tally of each problem, in the order of ``problems``, by reading all of ``run``."""
    if (run.index.file_no == MISSING).all():
        return {problem.problem_id: ProblemTally() for problem in problems}
    tallies = map_problems(tally_problem, problems, [run], rules)
    return {problem.problem_id: tally for problem, tally in zip(problems, tallies, strict=True)}


class RunSummary(NamedTuple):
    """Totals of a whole run.

    ``results`` holds numbers for run.json. ``more_samples`` is a line saying whether more samples
    would bring new paths, "" for a greedy run or if no valid sample was found. ``lengths`` holds
    the tokens of the samples of each problem.
    """

    results: dict[str, Any]
    more_samples: str
    lengths: list[list[int]]


def summarize_run(tallies: Iterable[ProblemTally], greedy: bool) -> RunSummary:
    """Return the summary of a run from the tallies of its problems."""
    tallies = list(tallies)
    lengths = [one.lengths for one in tallies]
    n_samples = sum(map(len, lengths))
    n_graded = sum(one.n_graded for one in tallies)
    results = {
        "n_samples": n_samples,
        "n_tokens": sum(map(sum, lengths)),
        # a run may have no samples at all, and no solution may have an answer
        "share_cut_off": sum(one.n_cut_off for one in tallies) / max(1, n_samples),
        "share_right": sum(one.n_right for one in tallies) / n_graded if n_graded else None,
        "n_not_graded": n_samples - n_graded,  # their problem's gold answer cannot be read
    }
    counts = [sorted(one.path_counts.values()) for one in tallies]
    if greedy or not any(counts):
        return RunSummary(results, "", lengths)
    estimate = expected_new_paths(counts, list(map(len, lengths)), N_MORE)
    more_samples = describe_estimate(estimate, N_MORE)
    return RunSummary(results | {"more_samples": more_samples}, more_samples, lengths)


def sampling_cost(
    summary: RunSummary,
    shape: Shape,
    prompt_lengths: Iterable[int],
    time: Cost,
    run_json: Path,
    n_made_now: int,
) -> Cost:
    """Return FLOPs and tokens of all samples of a run, and the device time of all its sessions.

    ``prompt_lengths`` holds the tokens of each problem's prompt. The current session took ``time``
    and made ``n_made_now`` samples; ``run_json`` records the time of earlier sessions.
    """
    flops, tokens = count_samples(shape, prompt_lengths, summary.lengths)
    if n_before := summary.results["n_samples"] - n_made_now:
        time = add_session(_earlier_time(run_json, n_before), time)
    return replace(time, flops=flops, tokens=tokens)


def _earlier_time(run_json: Path, n_samples: int) -> Cost | None:
    """Return the time of the sessions that made the first ``n_samples``.

    None if it is not known, because a session was killed before it wrote run.json.
    """
    try:
        recorded = read_json_object(run_json)["results"]["n_samples"]
    except (UserError, KeyError, TypeError):
        return None
    cost = read_cost(run_json)
    return cost if cost and recorded == n_samples else None
