"""Sample until enough: the same samples whichever worker is faster, and no block too many."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.problems import Problem
from screl.grading.answers import extract_answer
from screl.grading.verdict import JudgeRules
from screl.rejection.filter import FilterRules, filter_problem
from screl.samples.store import Sample
from screl.sampling.adaptive import Budget, WantedSamples
from screl.sampling.tally import ProblemTally, judge_of, tally_problem

RULES = JudgeRules()
PROBLEMS = [
    Problem(i, f"What is {i}+1?", f"<<{i}+1={i + 1}>>\n#### {i + 1}", i + 1) for i in range(3)
]


def completion(problem: Problem, path: int | None) -> str:
    """Return a text with a right path per number; -1: the solution's own; None: wrong."""
    gold = extract_answer(problem.solution, "strict")
    if path is None:
        return "#### 77"
    return problem.solution if path == -1 else f"<<{gold}+{path}-{path}={gold}>>\n#### {gold}"


def run_budget(
    problems: list[Problem], texts: dict[int | str, list[str]], until: int, most: int, seed: int
) -> dict[int | str, list[int]]:
    """Return what is sampled when samples come back in any order, in parts."""
    rng = random.Random(seed)
    of_id = {problem.problem_id: problem for problem in problems}
    tallies = {problem_id: ProblemTally() for problem_id in of_id}
    missing = [WantedSamples(problem, range(most)) for problem in problems]
    budget = Budget(missing, tallies, until, most, RULES)
    pending: list[tuple[int | str, int]] = []
    sampled: dict[int | str, list[int]] = {problem_id: [] for problem_id in of_id}

    def add(wanted: list[WantedSamples]) -> None:
        pending.extend((one.problem.problem_id, i) for one in wanted for i in one.sample_ids)

    add(budget.first_blocks())
    while pending:
        rng.shuffle(pending)
        n = rng.randint(1, len(pending))
        now, pending[:] = pending[:n], pending[n:]
        samples = [Sample(p, i, texts[p][i], 1, "stop") for p, i in now]
        for one in samples:
            sampled[one.problem_id].append(one.sample_id)
            tallies[one.problem_id].add(one, judge_of(of_id[one.problem_id], RULES)(one.completion))
        add(budget.next_blocks(samples))
    return {problem_id: sorted(ids) for problem_id, ids in sampled.items()}


def n_kept(problem: Problem, texts: list[str]) -> int:
    """Return how many samples the filter itself keeps."""
    completions = [Sample(problem.problem_id, i, text) for i, text in enumerate(texts)]
    return len(filter_problem(problem, [completions], FilterRules("strict")).kept)


PATHS = st.lists(st.sampled_from([None, None, -1, 1, 2, 3, 4, 5]), min_size=24, max_size=24)


@given(st.tuples(PATHS, PATHS, PATHS), st.integers(1, 4), st.integers(4, 24), st.integers())
@settings(max_examples=100, deadline=None)
def test_each_problem_gets_blocks_until_the_filter_keeps_enough(
    paths: tuple[list[int | None], ...], until: int, most: int, seed: int
) -> None:
    texts = {p.problem_id: [completion(p, path) for path in of_problem]
             for p, of_problem in zip(PROBLEMS, paths, strict=True)}  # fmt: skip
    sampled = run_budget(PROBLEMS, texts, until, most, seed)
    assert sampled == run_budget(PROBLEMS, texts, until, most, seed + 1)
    for problem in PROBLEMS:
        ids, of_problem = sampled[problem.problem_id], texts[problem.problem_id]
        assert ids == list(range(len(ids)))
        before = last_block_begins(len(ids), until, most)
        assert n_kept(problem, of_problem[:before]) < until
        assert n_kept(problem, of_problem[: len(ids)]) >= until or len(ids) == most


def last_block_begins(n_sampled: int, until: int, most: int) -> int:
    """Return where the last block begins: each adds half as many, but at least ``until``."""
    n = before = 0
    while n < n_sampled:
        before, n = n, min(n + max(until, n // 2), most)
    assert n == n_sampled
    return before


@pytest.mark.parametrize("n_stored", [0, 1, 3, 4, 5, 9, 24])
def test_a_resumed_run_asks_for_what_is_missing(n_stored: int) -> None:
    problem = PROBLEMS[1]
    texts = [completion(problem, i if i % 4 == 3 else None) for i in range(24)]
    samples = [Sample(1, i, text, 1, "stop") for i, text in enumerate(texts)]
    tally, judge = (
        tally_problem(problem, [samples[:n_stored]], RULES),
        judge_of(problem, RULES),
    )
    missing = [WantedSamples(problem, range(n_stored, 24))][: n_stored < 24]
    budget = Budget(missing, {1: tally}, 3, 24, RULES)
    wanted = budget.first_blocks()
    sampled = set(range(n_stored))
    while wanted:
        ((_, ids),) = wanted
        assert sampled.isdisjoint(ids)
        sampled |= set(ids)
        for i in ids:
            tally.add(samples[i], judge(texts[i]))
        wanted = budget.next_blocks(samples[i] for i in ids)
    assert sampled == set(range(max(n_stored, 13)))  # blocks end at 3, 6, 9, 13; paths at 3, 7, 11


def test_the_solutions_own_path_and_repeated_paths_do_not_count() -> None:
    problem = PROBLEMS[0]
    texts = [completion(problem, path) for path in (-1, -1, 1, 1, 1, 1)]
    assert len(run_budget([problem], {0: texts}, 1, 6, 0)[0]) == 3
