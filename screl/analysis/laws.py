"""Laws of scaling fitted to a few points, and how sure they are.

The paper draws its lines without an equation or an interval (section 7); here every coefficient has
two 95 % intervals, which answer different questions: over *problems*, what other test problems (and
training seeds, where there are several) would have given for these models; over *points*, what
other models or data amounts would have given, by Student's t and the points' scatter. (Points drawn
with replacement would not do: of 4 points around a line they hold the truth 70 times in 100.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from screl.scoring.statistics import Floats

N_DRAWS = 500  # of an interval


class Law(NamedTuple):
    """A curve and its parameters."""

    text: str
    parameters: tuple[str, ...]
    curve: Callable[..., Floats]  # of x and the parameters
    start: Callable[[Floats, Floats], Floats]  # of x and y: where the search begins
    start_is_best: bool = True  # so that nothing needs to be searched


def _line(x: Floats, a: float, b: float) -> Floats:
    return a + b * x


def _per_doubling(x: Floats, a: float, b: float) -> Floats:
    return a + b * np.log2(x)


def _segments(x: Floats, a: float, b: float, c: float, log2_x0: float) -> Floats:
    return a + b * np.log2(x) + c * np.maximum(0, np.log2(x) - log2_x0)


def _power(x: Floats, c: float, beta: float) -> Floats:
    return c * np.asarray(x, dtype=float) ** beta


def _saturation(x: Floats, limit: float, half: float) -> Floats:
    """Half of the ``limit`` at x = half."""
    return limit * x / (half + x)


def _start_segments(x: Floats, y: Floats) -> Floats:
    """The best of all bends by least squares, two x or more on either side: one has no slope."""
    log2 = np.log2(x)
    inner = np.unique(log2)[1:-1]
    best, best_error = np.zeros(4), np.inf
    for bend in np.linspace(inner[0], inner[-1], 41):
        columns = np.stack([np.ones_like(log2), log2, np.maximum(0, log2 - bend)], axis=1)
        values = np.linalg.lstsq(columns, y, rcond=None)[0]
        error = float(((columns @ values - y) ** 2).sum())
        if error < best_error:
            best, best_error = np.array([*values, bend]), error
    return best


LINE = Law("a + b·x", ("a", "b"), _line, lambda x, y: np.polyfit(x, y, 1)[::-1])
PER_DOUBLING = Law(
    "a + b·log2 x", ("a", "b"), _per_doubling, lambda x, y: np.polyfit(np.log2(x), y, 1)[::-1],
)  # fmt: skip
SEGMENTS = Law(
    "a + b·log2 x, c steeper from x0 on", ("a", "b", "c", "log2 x0"), _segments, _start_segments
)
POWER = Law(
    "c·x^β", ("c", "β"), _power, lambda x, y: np.array([y.max() / x.max(), 1.0]),
    start_is_best=False,
)  # fmt: skip
SATURATION = Law(
    "L·x / (h + x)", ("L", "h"), _saturation, lambda x, y: np.array([2 * y.max(), x.max()]),
    start_is_best=False,
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """A law fitted by least squares to the points ``(x, y)``."""

    law: Law
    x: Floats
    y: Floats
    values: Floats  # of the law's parameters
    covariance: Floats  # of them, from the residuals
    r_squared: float
    left_out_error: float  # root mean square error at each point by the fit to all others

    def __call__(self, x: Floats | float) -> Floats:
        """The curve's values."""
        return self.law.curve(np.asarray(x, dtype=float), *self.values)

    @property
    def degrees_of_freedom(self) -> int:
        """Of the points' scatter."""
        return len(self.x) - len(self.values)

    def intervals(self) -> list[tuple[float, float]]:
        """The 95 % interval over points of every parameter, by Student's t; infinite where there
        are no more points than parameters, and where the points do not tell a parameter."""
        from scipy import stats

        if self.degrees_of_freedom == 0:
            return [(-np.inf, np.inf)] * len(self.values)
        reach = stats.t.ppf(0.975, self.degrees_of_freedom) * np.sqrt(np.diag(self.covariance))
        return list(zip(self.values - reach, self.values + reach, strict=True))

    def predict(self, x: float) -> tuple[float, float, float]:
        """Value and 95 % interval of one more point at ``x``: the curve's own uncertainty and the
        scatter of points around it, with Student's t (for straight lines the textbook's interval).
        """
        from scipy import optimize, stats

        def value(parameters: Floats) -> float:
            return float(self.law.curve(np.asarray([x]), *parameters)[0])

        middle, degrees = value(self.values), self.degrees_of_freedom
        if degrees == 0 or not np.isfinite(self.covariance).all():
            return middle, -np.inf, np.inf
        slope = optimize.approx_fprime(self.values, value)
        scatter = float(((self(self.x) - self.y) ** 2).sum() / degrees)
        error = np.sqrt(slope @ self.covariance @ slope + scatter)
        half = float(stats.t.ppf(0.975, degrees) * error)
        return middle, middle - half, middle + half


def fit(law: Law, x: Floats, y: Floats) -> Fit:
    """Fit ``law`` by least squares. ValueError if there are fewer points than parameters."""
    values, slopes = _least_squares(law, x, y)
    residual, spread = ((law.curve(x, *values) - y) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    covariance = _covariance(slopes, float(residual))
    r_squared = float(1 - residual / spread) if spread else np.nan
    return Fit(law, x, y, values, covariance, r_squared, _left_out_error(law, x, y))


def _least_squares(law: Law, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Parameters, and the curve's slopes in them, (points, parameters).

    A search that has no end, such as for the limit of points that bend upwards, is broken off.
    """
    from scipy import optimize  # takes a fifth of a second

    def residuals(values: Floats) -> Floats:
        return law.curve(x, *values) - y

    found = optimize.least_squares(residuals, law.start(x, y), method="lm", max_nfev=1000)
    return found.x, found.jac


def _covariance(slopes: Floats, residual: float) -> Floats:
    """Of the parameters, from the sum of squares that is left; infinite where the points do not
    tell them apart."""
    n_points, n_parameters = slopes.shape
    scale = np.linalg.norm(slopes, axis=0)  # a parameter may be a million times another
    if n_points == n_parameters or not scale.all():
        return np.full((n_parameters, n_parameters), np.inf)
    _, singular, right = np.linalg.svd(slopes / scale, full_matrices=False)
    if singular[-1] < 1e-6 * singular[0]:  # slopes are known to some 8 digits
        return np.full((n_parameters, n_parameters), np.inf)
    root = right.T / singular / scale[:, None]
    return root @ root.T * residual / (n_points - n_parameters)


def _left_out_error(law: Law, x: Floats, y: Floats) -> float:
    """NaN where the others would be fewer than the parameters."""
    if len(x) <= len(law.parameters):
        return np.nan
    errors = []
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        values, _ = _least_squares(law, x[others], y[others])
        errors.append(law.curve(x[i : i + 1], *values)[0] - y[i])
    return float(np.sqrt(np.mean(np.square(errors))))


def over_problems(law: Law, x: Floats, y_draws: Floats) -> Floats:
    """Parameters, (draws, parameters), of the fits to the first draws of y, (draws, points)."""
    different, which = np.unique(y_draws[:N_DRAWS], axis=0, return_inverse=True)
    return np.array([_estimate(law, x, y) for y in different])[which]


def _estimate(law: Law, x: Floats, y: Floats) -> Floats:
    return law.start(x, y) if law.start_is_best else _least_squares(law, x, y)[0]
