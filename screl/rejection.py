"""Rejection sampling: of a problem's samples keep one right, valid completion per equation path.

arXiv 2308.01825, Section 3.3 and Algorithm 1 of Appendix A.3. Everything here is about one problem;
what is known of it can be continued with more samples.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from screl.answers import Fidelity, extract_answer, is_correct
from screl.completions import Completion
from screl.equations import check_equation, find_equations, path_of
from screl.problems import Problem, ProblemId
from screl.process_checks import ProcessCheck, failed_checks
from screl.selection import (
    Candidate,
    Keep,
    select_as_published,
    select_at_random,
    select_farthest,
)

# Why a sample is rejected, in the order in which it is looked at; what passes is valid.
Reason = Literal[
    "no_answer", "wrong_answer", "unparsed_equation", "false_equation", "process_check", "valid"
]
# What becomes of a valid one.
Fate = Reason | Literal["solution_path", "repeated_path", "not_drawn", "kept"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How samples are judged and chosen among."""

    fidelity: Fidelity
    process_checks: tuple[ProcessCheck, ...] = ()
    keep: Keep = "distinct"
    seed: int = 0  # of random_rows and random_tokens


class Verdict(NamedTuple):
    """On one text. ``path`` is its equation path if it is valid, else empty."""

    reason: Reason
    path: str = ""
    failed_checks: Sequence[ProcessCheck] = ()


NO_ANSWER, WRONG_ANSWER = Verdict("no_answer"), Verdict("wrong_answer")


@dataclass(slots=True)
class ProblemState:
    """What is known of one problem after some of its samples; enough to go on with more of them.

    ``counts[source]``: how many samples of a run there were ("sampled"), ended for each reason,
    failed each process check, were cut off; and sums of lengths, with how many samples know theirs
    in tokens. ``first_seen[path][source]``: the sample_id with which a run first had this path.
    ``kept``: in the order of output.
    """

    counts: list[Counter[str]]
    first_seen: dict[str, dict[int, int]] = field(default_factory=dict)
    kept: list[Candidate] = field(default_factory=list)


def new_state(n_runs: int) -> ProblemState:
    """That of a problem of which no sample was seen."""
    return ProblemState([Counter() for _ in range(n_runs)])


def filter_problem(
    problem: Problem,
    completions: Sequence[Sequence[Completion]],
    rules: Rules,
    known: Mapping[ProblemId, ProblemState] | None = None,
) -> ProblemState:
    """The state of ``problem`` after its ``completions`` of every run, on top of what is known.

    paper: completions count in the order of runs and samples, and the solution's own path may be
    sampled again, as published. strict: their order does not matter, and the solution's path counts
    as known: a sample that repeats it is not kept.
    """
    state = (known or {}).get(problem.problem_id) or new_state(len(completions))
    judge = make_judge(problem, rules)
    candidates: list[Candidate] = []
    for source, of_run in enumerate(completions):
        verdicts = [judge(completion.text) for completion in of_run]
        state.counts[source].update(count(of_run, verdicts))
        for completion, verdict in zip(of_run, verdicts, strict=True):
            if verdict.reason == "valid":
                sample_id, text, n_tokens, _ = completion
                candidates.append(Candidate(verdict.path, text, source, sample_id, n_tokens))
                first = state.first_seen.setdefault(verdict.path, {})
                first[source] = min(first.get(source, sample_id), sample_id)
    state.kept = select(candidates, problem, rules, state.kept)
    return state


def select(
    candidates: Sequence[Candidate], problem: Problem, rules: Rules, kept: Sequence[Candidate]
) -> list[Candidate]:
    """Those of ``candidates`` to be kept, if ``kept`` are kept already."""
    if rules.keep == "all":
        return [*kept, *candidates]
    if rules.fidelity == "paper":
        chosen = select_as_published(candidates, kept)
    else:
        chosen = select_farthest(candidates, problem.solution, kept)
    if rules.keep == "distinct":
        return chosen
    return select_at_random(candidates, chosen, rules.keep, f"{rules.seed} {problem.problem_id}")


def count(completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> Counter[str]:
    """The counts of ProblemState for some samples of one run."""
    counts = Counter[str](verdict.reason for verdict in verdicts)
    counts.update(check for verdict in verdicts for check in verdict.failed_checks)
    counts["sampled"] = len(completions)
    counts["characters"] = sum([len(completion.text) for completion in completions])
    n_tokens = [
        completion.n_tokens for completion in completions if completion.n_tokens is not None
    ]
    counts["tokens_known"], counts["tokens"] = len(n_tokens), sum(n_tokens)
    counts["cut_off"] = sum(completion.is_cut_off is True for completion in completions)
    return counts


def make_judge(problem: Problem, rules: Rules) -> Callable[[str], Verdict]:
    """A function that judges a text, and remembers: at low temperatures many texts are the same.

    The solution must have an answer (see gold_answers).
    """
    gold = extract_answer(problem.solution, rules.fidelity)
    assert gold is not None
    of_texts: dict[str, Verdict] = {}
    of_equations: dict[tuple[str, ...], Verdict] = {}

    def judge(text: str) -> Verdict:
        verdict = of_texts.get(text)
        if verdict is None:
            verdict = of_texts[text] = judge_text(text)
        return verdict

    def judge_text(text: str) -> Verdict:
        answer = extract_answer(text, rules.fidelity)
        if not is_correct(answer, gold):
            return NO_ANSWER if answer is None else WRONG_ANSWER
        equations = tuple(find_equations(text))
        verdict = of_equations.get(equations)
        if verdict is None:
            verdict = of_equations[equations] = judge_equations(equations, rules.fidelity)
        if verdict.reason == "valid" and rules.process_checks:
            failed = failed_checks(text, problem.question, rules.process_checks)
            return Verdict("process_check", failed_checks=failed) if failed else verdict
        return verdict

    return judge


def judge_equations(equations: Sequence[str], fidelity: Fidelity) -> Verdict:
    """The verdict on a completion whose answer is right, by its equations."""
    statuses = {check_equation(equation, fidelity) for equation in equations}
    if "unparsed" in statuses:
        return Verdict("unparsed_equation")
    if "false" in statuses:
        return Verdict("false_equation")
    return Verdict("valid", path_of(equations, fidelity))


def fates(
    problem: Problem, completions: Sequence[Sequence[Completion]], rules: Rules
) -> list[list[Fate]]:
    """What becomes of every completion of every run: filter_problem again, for people to see."""
    judge = make_judge(problem, rules)
    kept = filter_problem(problem, completions, rules).kept
    places = {(candidate.source, candidate.sample_id) for candidate in kept}
    paths = {candidate.path for candidate in kept}

    def fate(source: int, completion: Completion) -> Fate:
        verdict = judge(completion.text)
        if verdict.reason != "valid":
            return verdict.reason
        if (source, completion.sample_id) in places:
            return "kept"
        if rules.keep != "distinct":  # a control draws among the valid ones
            return "not_drawn"
        return "repeated_path" if verdict.path in paths else "solution_path"

    return [[fate(source, c) for c in of_run] for source, of_run in enumerate(completions)]
