"""Sampling until enough: the same samples whoever is faster, and not one block too many."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.problems import Problem
from screl.grading.answers import extract_answer
from screl.rejection.filter import FilterRules, filter_problem
from screl.samples.store import Sample
from screl.sampling.adaptive import Budget, WantedSamples

PROBLEMS = [
    Problem(i, f"What is {i}+1?", f"<<{i}+1={i + 1}>>\n#### {i + 1}", i + 1) for i in range(3)
]


def completion(problem: Problem, path: int | None) -> str:
    """With a new right path for each number; -1: the solution's own; None: wrong."""
    gold = extract_answer(problem.solution, "strict")
    if path is None:
        return "#### 77"
    return problem.solution if path == -1 else f"<<{gold}+{path}-{path}={gold}>>\n#### {gold}"


def run_budget(
    problems: list[Problem], texts: dict[int | str, list[str]], until: int, most: int, seed: int
) -> dict[int | str, list[int]]:
    """What is sampled when samples come back in any order, in parts."""
    rng, budget = random.Random(seed), Budget(problems, until, most)
    open_wishes: list[tuple[int | str, int]] = []
    there: dict[int | str, list[int]] = {problem.problem_id: [] for problem in problems}

    def add(wishes: list[WantedSamples]) -> None:
        open_wishes.extend((wish.problem.problem_id, i) for wish in wishes for i in wish.sample_ids)

    add(budget.begin([]))
    while open_wishes:
        rng.shuffle(open_wishes)
        n = rng.randint(1, len(open_wishes))
        now, open_wishes[:] = open_wishes[:n], open_wishes[n:]
        for problem_id, i in now:
            there[problem_id].append(i)
        add(budget.add([Sample(p, i, texts[p][i], 1, "stop") for p, i in now]))
    return {problem_id: sorted(ids) for problem_id, ids in there.items()}


def n_kept(problem: Problem, texts: list[str]) -> int:
    """By the filter itself."""
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
    """Blocks: as many as are wanted first, then always half as many more, or as many as wanted."""
    n = before = 0
    while n < n_sampled:
        before, n = n, min(n + max(until, n // 2), most)
    assert n == n_sampled
    return before


@pytest.mark.parametrize("n_there", [0, 1, 3, 4, 5, 9, 24])
def test_going_on_asks_for_what_is_missing(n_there: int) -> None:
    problem = PROBLEMS[1]
    texts = [completion(problem, i if i % 4 == 3 else None) for i in range(24)]
    there = [Sample(1, i, text, 1, "stop") for i, text in enumerate(texts[:n_there])]
    budget = Budget([problem], 3, 24)
    wishes = budget.begin(reversed(there))
    sampled = set(range(n_there))
    while wishes:
        (wish,) = wishes
        assert sampled.isdisjoint(wish.sample_ids)
        sampled |= set(wish.sample_ids)
        wishes = budget.add(Sample(1, i, texts[i], 1, "stop") for i in wish.sample_ids)
    assert sampled == set(range(max(n_there, 13)))  # blocks end at 3, 6, 9, 13; paths at 3, 7, 11


def test_the_solutions_own_path_is_not_counted_twice_or_once() -> None:
    problem = PROBLEMS[0]
    texts = [completion(problem, path) for path in (-1, -1, 1, 1, 1, 1)]
    assert len(run_budget([problem], {0: texts}, 1, 6, 0)[0]) == 3
