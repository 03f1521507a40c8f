"""Compute estimates that carry their uncertainty as draws.

Each estimate holds ``N_DRAWS`` values that it might have had with other test problems and training
seeds. A difference, mean, or slope of estimates is computed draw by draw, which gives its interval.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from screl.scoring.statistics import Floats

N_DRAWS = 2000
DRAW_SEED = 20231009


class Estimate(NamedTuple):
    """A number and its draws: an accuracy in percent, a difference in points, paths per problem."""

    value: float
    draws: Floats  # (N_DRAWS,)

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95% of the draws."""
        return percentile_interval(self.draws)

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, -self.draws)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.draws - other.draws)


class Points(NamedTuple):
    """Estimates at several x, in ascending order of x."""

    x: list[float]
    y: list[Estimate]


def percentile_interval(draws: Floats) -> tuple[float, float]:
    """Return the middle 95% of ``draws``; NaN if they contain NaN."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def exact_estimate(value: float) -> Estimate:
    """Return a published number of unknown uncertainty: every draw is the value itself."""
    return Estimate(value, np.full(N_DRAWS, value))


def published_estimate(percent: float, n_problems: int, name: str) -> Estimate:
    """Return an accuracy with binomial draws, for when only its value is known.

    ``name`` seeds the draws, so estimates with different names are independent. Differences are
    more certain than this because test problems are shared, and less certain because of the unknown
    spread of training seeds.
    """
    random = np.random.default_rng([DRAW_SEED, *name.encode()])
    if percent in (0, 100):
        return Estimate(percent, _jeffreys_draws(percent / 100, n_problems, random))
    drawn = random.binomial(n_problems, percent / 100, N_DRAWS)
    return Estimate(percent, 100 * drawn / n_problems)


def _jeffreys_draws(share: float, n_problems: int, random: np.random.Generator) -> Floats:
    """Draw an accuracy in percent from Jeffreys' posterior, for when all or no problems are solved.

    Resampling problems would repeat the same score; Brown, Cai and DasGupta (2001) recommend this
    posterior. For 0 of 500 it spans 0 to 0.5%.
    """
    drawn = random.beta(n_problems * share + 0.5, n_problems * (1 - share) + 0.5, N_DRAWS)
    return 100 * drawn


class Resampler:
    """Turns scores into estimates by resampling problems and adding noise between training seeds.

    All estimates share the resampled problems, so their differences are paired. Two or three seeds
    are too few to estimate their spread, so it is pooled over ``groups``, each of which holds the
    scores (seeds, problems) of one recipe. The variance of a seed's accuracy p is modeled as
    ``seed_noise * p (1 - p)``, which vanishes at 0 and 1 and also covers recipes with a single
    seed. Pass ``seed_noise`` if it is known from elsewhere.
    """

    def __init__(
        self, n_problems: int, groups: Iterable[Floats], seed_noise: float | None = None
    ) -> None:
        random = np.random.default_rng(DRAW_SEED)
        drawn = random.integers(n_problems, size=(N_DRAWS, n_problems))
        self._weights = np.stack([np.bincount(row, minlength=n_problems) for row in drawn])
        self.seed_noise = pooled_seed_noise(groups) if seed_noise is None else seed_noise

    def accuracy(self, scores: Floats, name: str) -> Estimate:
        """Return the accuracy in percent of ``scores``, (seeds, problems), from 0 to 1.

        ``name`` seeds the noise between seeds, so different names have independent noise.
        """
        random = np.random.default_rng([DRAW_SEED, *name.encode()])
        mean, drawn = self.mean(scores.mean(axis=0))
        if mean in (0, 1):
            return Estimate(100 * mean, _jeffreys_draws(mean, scores.shape[1], random))
        noise = np.sqrt(self.seed_noise * mean * (1 - mean) / len(scores))
        drawn = drawn + noise * random.standard_normal(N_DRAWS)
        return Estimate(100 * mean, 100 * np.clip(drawn, 0, 1))

    def mean(self, per_problem: Floats) -> Estimate:
        """Return the mean of one number per problem, without noise between seeds."""
        drawn = self._weights @ per_problem / len(per_problem)
        return Estimate(float(per_problem.mean()), drawn)


def pooled_seed_noise(groups: Iterable[Floats]) -> float:
    """Return the variance between seeds over p (1 - p), pooled over groups of at least two seeds.

    The means of seeds also differ by chance on single problems with single seeds. Resampling the
    problems already covers that, so it is subtracted, as in a two-way analysis of variance. Returns
    0 if no group has two seeds.
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


def mean_estimate(estimates: Iterable[Estimate]) -> Estimate | None:
    """Return the mean of ``estimates``; None if there are none."""
    all_estimates = list(estimates)
    if not all_estimates:
        return None
    draws = np.mean([estimate.draws for estimate in all_estimates], axis=0)
    return Estimate(float(np.mean([estimate.value for estimate in all_estimates])), draws)


def slope_per_doubling(points: Points) -> Estimate:
    """Return the slope of the least-squares line over log2 x, fitted to every draw."""
    weights = _slope_weights(np.log2(points.x))
    values = np.array([estimate.value for estimate in points.y])
    draws = np.stack([estimate.draws for estimate in points.y])
    return Estimate(float(weights @ values), weights @ draws)


def slope_over(x: Sequence[float], y: Sequence[Estimate]) -> Estimate | None:
    """Return the slope of the least-squares line through y over x; None for fewer than 3 points.

    Its draws follow Student's t. Their standard error comes from the scatter of the points around
    the line or, if that is larger, from the draws of y, because a few points may lie on a line by
    chance.
    """
    from scipy import stats

    if len(x) < 3:
        return None
    line = stats.linregress(x, [estimate.value for estimate in y])
    weights = _slope_weights(np.array(x))
    error_of_draws = float((weights @ np.stack([estimate.draws for estimate in y])).std())
    quantiles = stats.t.ppf((np.arange(N_DRAWS) + 0.5) / N_DRAWS, len(x) - 2)
    return Estimate(float(line.slope), line.slope + max(line.stderr, error_of_draws) * quantiles)


def sign_hangs_on_one_point(x: Sequence[float], y: Sequence[Estimate]) -> bool:
    """Return whether leaving out a single point changes the sign of the slope of y over x."""
    values = np.array([estimate.value for estimate in y])
    signs = {np.sign(np.polyfit(x, values, 1)[0])}
    for i in range(len(x)):
        slope = np.polyfit(np.delete(x, i), np.delete(values, i), 1)[0]
        signs.add(np.sign(slope))
    return len(signs) > 1


def _slope_weights(x: Floats) -> Floats:
    """Return the weight of each y in the slope of the least-squares line over x."""
    return np.asarray((x - x.mean()) / ((x - x.mean()) ** 2).sum())
