"""Alarms that go on for a broken run and stay off in a healthy one, known or simulated."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from screl.samples.store import Sample
from screl.sampling.checks import (
    ODDS_RATIOS,
    TOLERANCE,
    Health,
    InOrder,
    Repeats,
    Share,
    run_alarms,
)


def lines_of(health: Health) -> list[str]:
    return list(run_alarms(health).values())


def repeats_of(drawn: Sequence[int], shares: Sequence[float]) -> Repeats:
    """Of one problem, whose completion i has the probability ``shares[i]``."""
    repeats = Repeats()
    for completion in drawn:
        repeats.add("p", completion, math.log(shares[completion]))
    return repeats


def every_draw(shares: Sequence[float], n: int) -> Iterator[tuple[float, Repeats]]:
    for drawn in product(range(len(shares)), repeat=n):
        yield math.prod(shares[i] for i in drawn), repeats_of(drawn, shares)


def completions(random: np.random.Generator, sureness: float) -> np.ndarray:
    """The probabilities of 500 completions of a problem; a large ``sureness`` is an easy one."""
    weights = np.arange(1, 501) ** (-sureness * random.uniform(0.5, 2.5))
    return weights / weights.sum()


def simulate(n_problems: int, n_samples: int, how: str, sureness: Sequence[float]) -> Health:
    """Samples "honest", "pairs" (each seed used for two samples) or "copies" (one for all)."""
    random = np.random.default_rng([n_problems, n_samples, len(how)])
    health = Health()
    for problem in range(n_problems):
        shares = completions(random, sureness[problem % len(sureness)])
        n_copies = {"honest": 1, "pairs": 2, "copies": n_samples}[how]
        drawn = np.repeat(random.choice(500, n_samples // n_copies, p=shares), n_copies)
        for completion in random.permutation(drawn).tolist():
            health.repeats.add(problem, completion, math.log(shares[completion]))
    return health


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


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.9, 0.1), (1.0,)])
def test_expected_repeats_are_exact_if_every_draw_is_enumerated(shares: tuple[float, ...]) -> None:
    """And, the other way to say it, pairs are equal as often as a sample is likely on average."""
    n = 4
    mean_repeats = mean_expected = 0.0
    for chance, repeats in every_draw(shares, n):
        mean_repeats += chance * repeats.n_repeats
        mean_expected += chance * repeats.n_expected
    assert mean_repeats == pytest.approx(mean_expected)
    assert mean_repeats == pytest.approx(n - sum(1 - (1 - p) ** n for p in shares))


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.05,) * 20])
def test_the_likelihood_ratio_has_mean_1_at_most_and_without_tolerance_exactly_1(
    shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def means() -> np.ndarray:
        return sum(chance * np.exp(r.log_ratios) for chance, r in every_draw(shares, 3))

    tolerant = means()
    monkeypatch.setattr("screl.sampling.checks.TOLERANCE", 1.0)
    assert means() == pytest.approx(np.ones(len(ODDS_RATIOS)))
    assert (tolerant < 1).all()


def test_worked_by_hand() -> None:
    """Chances of a repeat 0, 0.5, 0.5, 0.75; the second and the last sample are one."""
    repeats = repeats_of([0, 0, 1, 0], (0.5, 0.25, 0.25))
    assert (repeats.n_samples, repeats.n_repeats) == (4, 2)
    assert repeats.n_expected == pytest.approx(1.75)
    expected = [
        odds**2 / math.prod(1 + TOLERANCE * chance * (odds - 1) for chance in (0.5, 0.5, 0.75))
        for odds in ODDS_RATIOS
    ]
    assert np.exp(repeats.log_ratios) == pytest.approx(expected)


def test_no_chance_is_above_1_whatever_rounding_and_tolerance_make_of_it() -> None:
    repeats = Repeats()
    for completion, share in (("a", 0.95), ("a", 0.95), ("b", 0.5), ("a", 0.95)):
        repeats.add("p", completion, math.log(share))
    assert repeats.n_expected == pytest.approx(0.95 + 0.95 + 1)
    # repeats with a chance of 1 say nothing; "b" does, for the seeds
    assert np.exp(repeats.log_ratios) == pytest.approx([1 / odds for odds in ODDS_RATIOS])


@pytest.mark.parametrize(("total", "is_explained"), [(2999.0, True), (3001.0, False)])
def test_the_mean_of_the_ratios_may_reach_1000(total: float, is_explained: bool) -> None:
    parts = [total * share for share in (0.1, 0.7, 0.2)]
    assert Repeats(log_ratios=[math.log(part) for part in parts]).are_explained() == is_explained


def test_problems_do_not_repeat_each_other() -> None:
    repeats = Repeats()
    for problem in range(50):
        repeats.add(problem, "same", -30.0)
    assert (repeats.n_repeats, repeats.n_expected) == (0, 0.0)
    assert repeats.are_explained()


def test_one_repeat_of_an_unlikely_completion_may_be_chance_and_two_are_not() -> None:
    repeats = Repeats()
    for text in ("a", "b", "a"):
        repeats.add(0, text, -50.0)
    assert repeats.are_explained()
    repeats.add(0, "b", -50.0)
    assert not repeats.are_explained()
    assert repeats.n_expected < 1e-20


@pytest.mark.parametrize("n_problems", [1, 2])
def test_all_copies_of_a_problem_or_two(n_problems: int) -> None:
    health = Health()
    for problem in range(n_problems):
        for _ in range(8):
            health.repeats.add(problem, (5, 6, 7), math.log(0.01))
    (line,) = lines_of(health)
    n = 8 * n_problems
    assert line.startswith(
        f"{7 * n_problems} of {n} samples repeat an earlier one of their problem"
    )
    assert f"explain {0.07 * n_problems:.1f}: random seeds are used twice; give every" in line


@pytest.mark.parametrize("log_probability", [0.0, -0.02, -1000.0])
def test_a_model_that_is_sure_may_repeat_itself(log_probability: float) -> None:
    """Near temperature 0. A completion of probability 0 is only there once."""
    health = Health()
    for problem in range(32):
        for _ in range(100 if log_probability > -1 else 1):
            health.repeats.add(problem, "sure", log_probability)
    assert lines_of(health) == []


@pytest.mark.parametrize("n_samples", [8, 16, 100])
@pytest.mark.parametrize("sureness", [(1.0,), (0.5, 1.0, 3.0, 20.0), (5.0,), (100.0,)])
def test_honest_samples(n_samples: int, sureness: tuple[float, ...]) -> None:
    assert lines_of(simulate(32, n_samples, "honest", sureness)) == []


@pytest.mark.parametrize(
    ("n_problems", "n_samples", "how"),
    [(32, 8, "pairs"), (8, 32, "pairs"), (32, 100, "pairs"), (32, 8, "copies"), (8, 8, "copies")],
)
def test_reused_seeds(n_problems: int, n_samples: int, how: str) -> None:
    (line,) = lines_of(simulate(n_problems, n_samples, how, (0.5, 1.0, 3.0)))
    assert "random seeds" in line


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 2**32 - 1))
def test_counts_agree_with_a_plain_count(drawn: list[int], seed: int) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.ones(6)).clip(1e-9)
    repeats = repeats_of(drawn, shares.tolist())
    assert repeats.n_repeats == len(drawn) - len(set(drawn))
    expected = sum(
        min(1.0, sum(shares[completion] for completion in set(drawn[:j])))
        for j in range(len(drawn))
    )
    assert repeats.n_expected == pytest.approx(expected)


@pytest.mark.parametrize("value", [math.nan, 0.5, math.inf])
def test_what_is_no_log_probability(value: float) -> None:
    with pytest.raises(ValueError, match="is not the logarithm of a probability"):
        Repeats().add(0, "text", value)


def test_the_lower_limit_is_clopper_and_pearsons_of_as_many_problems() -> None:
    share = Share()
    for problem in range(40):
        for j in range(10):
            share.add(problem, j < 5 and problem < 12)
    exact = stats.binomtest(6, 40).proportion_ci(0.998, method="exact")
    assert (share.n_found, share.n_samples) == (60, 400)
    assert share.lower_limit() == pytest.approx(exact.low)
    assert Share().lower_limit() == 0.0


def test_nothing_sampled_and_all_well() -> None:
    assert lines_of(Health()) == []
    assert lines_of(health_of("stop", True, 500)) == []


def test_one_problem_cut_off_is_no_alarm_however_many_samples_and_five_are() -> None:
    assert lines_of(health_of("length", False, 1, n_samples=100)) == []
    assert lines_of(health_of("length", False, 2, n_samples=100)) == []
    (line,) = lines_of(health_of("length", False, 5, n_samples=2))
    assert line.startswith("100.0% of 10 samples (5 problems) are cut off by --max_new_tokens: ")


@pytest.mark.parametrize(("n_cut_off", "is_alarm"), [(1, False), (4, False), (100, True)])
def test_a_few_of_ten_cut_off_are_no_alarm_and_a_fifth_of_many_is(
    n_cut_off: int, is_alarm: bool
) -> None:
    health = health_of("length", False, n_cut_off)
    n_problems = 500 if is_alarm else 10
    add(health, "stop", True, range(n_cut_off, n_problems), 1)
    lines = lines_of(health)
    assert bool(lines) == is_alarm
    for line in lines:
        assert line == (
            "20.0% of 500 samples (500 problems) are cut off by --max_new_tokens: "
            "raise --max_new_tokens"
        )


def test_a_tenth_cut_off_is_as_it_may_be() -> None:
    health = health_of("length", False, 100)
    add(health, "stop", True, range(100, 1000), 1)
    assert lines_of(health) == []


def test_nearly_all_cut_off_is_not_a_matter_of_length() -> None:
    (line,) = lines_of(health_of("length", False, 100))
    assert "end-of-sequence token" in line
    assert "raise" not in line


def test_no_answers_of_a_base_model() -> None:
    (line,) = lines_of(health_of("stop", False, 20, n_samples=4))
    assert line.startswith(
        "100.0% of 80 samples (20 problems) end without a readable '#### answer'"
    )
    assert "base model" in line
    assert "\n" not in line


@pytest.mark.parametrize(("n_unanswered", "is_alarm"), [(20, False), (100, False), (200, True)])
def test_a_fifth_without_an_answer_may_be(n_unanswered: int, is_alarm: bool) -> None:
    health = health_of("stop", False, n_unanswered)
    add(health, "stop", True, range(n_unanswered, 500), 1)
    assert bool(lines_of(health)) == is_alarm


def test_what_is_cut_off_is_not_also_unanswered() -> None:
    health = health_of("length", False, 90)
    add(health, "stop", True, range(90, 100), 1)
    assert len(lines_of(health)) == 1
    assert health.unanswered.n_samples == 10


def test_all_at_once() -> None:
    health = simulate(32, 8, "copies", (1.0,))
    add(health, "length", False, range(50), 1)
    add(health, "stop", False, range(50, 100), 1)
    assert ["repeat" in line for line in lines_of(health)] == [True, False, False]


@given(st.permutations(range(12)))
def test_watches_are_put_in_order(order: list[int]) -> None:
    """By sample_id, as they are expected, in whatever order and company they come."""
    in_order = InOrder()
    in_order.expect("a", range(20, 26))
    in_order.expect("b", range(3))
    in_order.expect("a", range(30, 33))
    keys = [("a", i) for i in (*range(20, 26), *range(30, 33))] + [("b", i) for i in range(3)]
    given_back = [key for i in order for key in in_order.add(*keys[i], keys[i])]
    for name in ("a", "b"):
        assert [key for key in given_back if key[0] == name] == [k for k in keys if k[0] == name]


def test_what_comes_too_early_is_held_back() -> None:
    in_order = InOrder()
    in_order.expect("a", range(2))
    assert list(in_order.add("a", 1, "second")) == []
    assert list(in_order.add("a", 0, "first")) == ["first", "second"]
