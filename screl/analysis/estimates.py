"""Estimates that know how else they could have come out: with other problems, with other seeds.

Each carries ``N_DRAWS`` draws of itself. What is computed from estimates (a difference, a slope) is
computed from every draw alike, which gives its interval.

Differences, means and slopes of a study's estimates, with their draws.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from screl.scoring.statistics import Floats

N_DRAWS = 2000
UNIT_SEED = 20231009


class Estimate(NamedTuple):
    """Accuracy in percent, a difference in points, or paths a problem."""

    value: float
    draws: Floats  # (N_DRAWS,)

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the draws."""
        return interval(self.draws)

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, -self.draws)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.draws - other.draws)


def interval(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of ``draws``; NaNs where they have any."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def exactly(value: float) -> Estimate:
    """A published number whose uncertainty is not known: every draw is the value."""
    return Estimate(value, np.full(N_DRAWS, value))


def published_estimate(percent: float, n_problems: int, name: str) -> Estimate:
    """An accuracy of which only the value is known: binomial draws, independent of all others.

    ``name`` sets them apart. That models share their problems would make differences surer; that
    each is of one seed, whose spread nobody knows, less sure.
    """
    random = np.random.default_rng([UNIT_SEED, *name.encode()])
    if percent in (0, 100):
        return Estimate(percent, _at_the_edge(percent / 100, n_problems, random))
    drawn = random.binomial(n_problems, percent / 100, N_DRAWS)
    return Estimate(percent, 100 * drawn / n_problems)


def _at_the_edge(share: float, n_problems: int, random: np.random.Generator) -> Floats:
    """Draws in percent of an accuracy of which 0 or all of ``n_problems`` were seen.

    Drawing problems again would always give the same. These are of Jeffreys' posterior, as Brown,
    Cai and DasGupta (2001) advise: of 0 in 500, 0 to 0.5 %.
    """
    drawn = random.beta(n_problems * share + 0.5, n_problems * (1 - share) + 0.5, N_DRAWS)
    return 100 * drawn


class Resampler:
    """Makes estimates of scores: problems drawn with replacement, the same for all estimates, and
    noise as large as training seeds make it.

    Two or three seeds do not tell their spread. It is pooled instead over ``groups``, each the
    scores (seeds, problems) of one recipe: the variance of a seed's accuracy p is taken as
    ``seed_noise * p (1 - p)``, which makes it vanish at 0 and 1 as it must. One seed can then be
    judged as well. ``seed_noise`` may be given, where it is known from elsewhere.
    """

    def __init__(
        self, n_problems: int, groups: Iterable[Floats], seed_noise: float | None = None
    ) -> None:
        random = np.random.default_rng(UNIT_SEED)
        drawn = random.integers(n_problems, size=(N_DRAWS, n_problems))
        self._weights = np.stack([np.bincount(row, minlength=n_problems) for row in drawn])
        self.seed_noise = pooled_seed_noise(groups) if seed_noise is None else seed_noise

    def accuracy(self, scores: Floats, name: str) -> Estimate:
        """The accuracy in percent of ``scores``, (seeds, problems), from 0 to 1.

        ``name`` sets its noise of seeds apart from that of all others.
        """
        random = np.random.default_rng([UNIT_SEED, *name.encode()])
        mean, drawn = self.mean(scores.mean(axis=0))
        if mean in (0, 1):
            return Estimate(100 * mean, _at_the_edge(mean, scores.shape[1], random))
        noise = np.sqrt(self.seed_noise * mean * (1 - mean) / len(scores))
        drawn = drawn + noise * random.standard_normal(N_DRAWS)
        return Estimate(100 * mean, 100 * np.clip(drawn, 0, 1))

    def mean(self, by_problem: Floats) -> Estimate:
        """The mean of one number a problem, without noise of seeds."""
        drawn = self._weights @ by_problem / len(by_problem)
        return Estimate(float(by_problem.mean()), drawn)


def pooled_seed_noise(groups: Iterable[Floats]) -> float:
    """Variance between seeds over p (1 - p), of all groups of two seeds or more; 0 without any.

    Means of seeds differ also by what chance does to single problems in single seeds. Draws of
    problems have that already, so it is taken off, as in an analysis of variance of two ways.
    """
    squares = variance = 0.0
    for scores in groups:
        n_problems = scores.shape[1]
        means, mean = scores.mean(axis=1), scores.mean()
        chance = scores - means[:, None] - scores.mean(axis=0) + mean
        squares += float(((means - mean) ** 2).sum())
        squares -= float((chance**2).sum()) / (n_problems * (n_problems - 1))
        variance += (len(means) - 1) * float(mean * (1 - mean))
    return max(0.0, squares / variance) if variance else 0.0
