"""Check that alarms go on for a broken run and stay off in a healthy one."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from screl.samples.store import Sample
from screl.sampling.checks import GROUP_SIZE, Health, Share, run_alarms


def health_of(finish_reason: str, has_answer: bool, n_problems: int, n_samples: int = 1) -> Health:
    health = Health()
    add(health, finish_reason, has_answer, range(n_problems), n_samples)
    return health


def add(
    health: Health, finish_reason: str, has_answer: bool, problems: Sequence[int], n_samples: int
) -> None:
    for problem in problems:
        for sample_id in range(n_samples):
            health.add(Sample(problem, sample_id, "text", 5, finish_reason), has_answer)


def lines_of(health: Health) -> list[str]:
    return list(run_alarms(health).values())


def simulate(likeliest: Sequence[float], n_samples: int, are_copied: bool = False) -> Health:
    """Return the health of one problem per probability of its likeliest text; the others are
    all different."""
    random, health = np.random.default_rng(len(likeliest)), Health(expects_variety=True)
    for problem, p in enumerate(likeliest):
        texts = np.where(random.random(n_samples) < p, 0, np.arange(1, n_samples + 1))
        for i in random.permutation(n_samples).tolist():
            text = str(texts[0 if are_copied else i])
            health.add(Sample(problem, i, text, 5, "stop"), has_answer=True)
    return health


@pytest.mark.parametrize("n_samples", [8, 100])
def test_copied_seeds_raise_an_alarm(n_samples: int) -> None:
    (line,) = lines_of(simulate([0.3] * 40, n_samples, are_copied=True))
    n_groups = 40 * (n_samples // GROUP_SIZE)
    assert line.startswith(
        f"{n_groups} of {n_groups} groups of 8 samples (40 problems) hold the same text 8 times: "
        "either random seeds are reused"
    )


@pytest.mark.parametrize("n_samples", [8, 100])
def test_independent_samples_raise_none(n_samples: int) -> None:
    """Not even a model that writes one text of a typical problem nine times in ten."""
    assert lines_of(simulate([0.88] * 200, n_samples)) == []
    assert lines_of(simulate([1.0] * 80 + [0.5] * 120, n_samples)) == []


def test_few_problems_and_few_samples_raise_no_alarm_about_identical_texts() -> None:
    assert lines_of(simulate([1.0] * 19, 100)) == []
    assert lines_of(simulate([1.0] * 200, 7)) == []
    assert len(lines_of(simulate([1.0] * 20, 8))) == 1


def test_a_greedy_or_cold_run_may_repeat_itself() -> None:
    assert lines_of(health_of("stop", True, 100, n_samples=16)) == []


@given(st.permutations(range(16)))
def test_groups_do_not_depend_on_the_order_of_arrival(order: list[int]) -> None:
    """Short texts arrive first; the first eight to arrive may be alike by chance."""
    health = Health(expects_variety=True)
    for i in order:
        health.add(Sample("a", i, "same" if i < 8 else str(i), 5, "stop"), has_answer=True)
    assert (health.identical.n, health.identical.n_found) == (2, 1)
    assert not health._open_groups  # nothing is kept of complete groups


def test_the_lower_limit_is_clopper_and_pearsons_of_as_many_problems() -> None:
    share = Share()
    for problem in range(40):
        for j in range(10):
            share.add(problem, j < 5 and problem < 12)
    exact = stats.binomtest(6, 40).proportion_ci(0.998, method="exact")
    assert (share.n_found, share.n) == (60, 400)
    assert share.lower_limit() == pytest.approx(exact.low)
    assert Share().lower_limit() == 0.0


def test_a_healthy_run_and_an_empty_one_raise_no_alarm() -> None:
    assert lines_of(Health()) == []
    assert lines_of(health_of("stop", True, 500)) == []


def test_two_problems_cut_off_raise_no_alarm_however_many_samples_and_five_do() -> None:
    assert lines_of(health_of("length", False, 2, n_samples=100)) == []
    (line,) = lines_of(health_of("length", False, 5, n_samples=2))
    assert line.startswith("100.0% of 10 samples (5 problems) are cut off by --max_new_tokens: ")
    (line,) = lines_of(health_of("length", False, 100))
    assert "end-of-sequence token" in line  # so many are hardly a matter of length


@pytest.mark.parametrize(
    ("n_cut_off", "n_problems", "is_alarm"), [(4, 10, False), (100, 1000, False), (100, 500, True)]
)
def test_a_tenth_may_be_cut_off(n_cut_off: int, n_problems: int, is_alarm: bool) -> None:
    health = health_of("length", False, n_cut_off)
    add(health, "stop", True, range(n_cut_off, n_problems), 1)
    assert lines_of(health) == is_alarm * [
        "20.0% of 500 samples (500 problems) are cut off by --max_new_tokens: "
        "raise --max_new_tokens"
    ]


@pytest.mark.parametrize(("n_unanswered", "is_alarm"), [(100, False), (200, True)])
def test_a_fifth_may_have_no_answer(n_unanswered: int, is_alarm: bool) -> None:
    health = health_of("stop", False, n_unanswered)
    add(health, "stop", True, range(n_unanswered, 500), 1)
    lines = lines_of(health)
    assert len(lines) == is_alarm
    for line in lines:
        assert line.startswith("40.0% of 500 samples (500 problems) end without a readable '####")


def test_samples_cut_off_are_not_also_unanswered() -> None:
    health = health_of("length", False, 90)
    add(health, "stop", True, range(90, 100), 1)
    assert len(lines_of(health)) == 1
    assert health.unanswered.n == 10


def test_where_no_answers_are_expected_only_their_lack_is_no_alarm() -> None:
    health = Health(expects_answers=False)
    add(health, "stop", False, range(500), 1)
    assert lines_of(health) == []
    add(health, "length", False, range(500), 1)
    (line,) = lines_of(health)
    assert "cut off" in line
