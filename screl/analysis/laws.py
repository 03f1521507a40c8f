"""Fit scaling laws to a few points, with intervals for coefficients and predictions.

The paper draws its lines without equations or intervals (section 7). Here every coefficient has two
95% intervals. The interval over *problems* is for other test problems (and training seeds, if there
are several) with the same models. The interval over *points* is for other models or data amounts,
by Student's t and the scatter of the points. (Bootstrapping the points is no alternative: with 4
points it covers the truth 70 times in 100.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from screl.scoring.statistics import Floats

N_FITTED_DRAWS = 500  # for an interval over problems


class Law(NamedTuple):
    """A curve with parameters that are fitted by least squares."""

    text: str
    parameter_names: tuple[str, ...]
    curve: Callable[..., Floats]  # takes x and the parameters
    start: Callable[[Floats, Floats], Floats]  # takes x and y; returns parameters to start from
    start_is_best: bool = True  # no search is needed


def _line(x: Floats, a: float, b: float) -> Floats:
    return a + b * x


def _per_doubling(x: Floats, a: float, b: float) -> Floats:
    return a + b * np.log2(x)


def _segments(x: Floats, a: float, b: float, c: float, log2_x0: float) -> Floats:
    return a + b * np.log2(x) + c * np.maximum(0, np.log2(x) - log2_x0)


def _power(x: Floats, c: float, beta: float) -> Floats:
    return c * np.asarray(x, dtype=float) ** beta


def _saturation(x: Floats, limit: float, half: float) -> Floats:
    return limit * x / (half + x)


def _start_segments(x: Floats, y: Floats) -> Floats:
    """Return the best bend on a grid, with at least two x on either side to give each a slope."""
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
    "a + b·log2 x, slope b + c beyond x0", ("a", "b", "c", "log2 x0"), _segments, _start_segments
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
    """A law fitted to the points ``(x, y)``."""

    law: Law
    x: Floats
    y: Floats
    parameters: Floats  # in the order of law.parameter_names
    covariance: Floats  # of the parameters, from the residuals
    r_squared: float
    leave_one_out_error: float  # root mean square error at each point, fitting to all others

    def __call__(self, x: Floats | float) -> Floats:
        """Return the values of the curve."""
        return self.law.curve(np.asarray(x, dtype=float), *self.parameters)

    @property
    def degrees_of_freedom(self) -> int:
        """The number of points minus the number of parameters."""
        return len(self.x) - len(self.parameters)

    def intervals(self) -> list[tuple[float, float]]:
        """Return the 95% interval over points of each parameter, by Student's t.

        Intervals are infinite if points do not outnumber parameters or do not identify a parameter.
        """
        from scipy import stats

        if self.degrees_of_freedom == 0:
            return [(-np.inf, np.inf)] * len(self.parameters)
        reach = stats.t.ppf(0.975, self.degrees_of_freedom) * np.sqrt(np.diag(self.covariance))
        return list(zip(self.parameters - reach, self.parameters + reach, strict=True))

    def predict(self, x: float) -> tuple[float, float, float]:
        """Return the value and the 95% interval (value, low, high) for one more point at ``x``.

        The interval covers the uncertainty of the curve and the scatter around it, by Student's t;
        for straight lines it is the textbook prediction interval.
        """
        from scipy import optimize, stats

        def value(parameters: Floats) -> float:
            return float(self.law.curve(np.asarray([x]), *parameters)[0])

        middle, degrees = value(self.parameters), self.degrees_of_freedom
        if degrees == 0 or not np.isfinite(self.covariance).all():
            return middle, -np.inf, np.inf
        slope = optimize.approx_fprime(self.parameters, value)
        scatter = float(((self(self.x) - self.y) ** 2).sum() / degrees)
        error = np.sqrt(slope @ self.covariance @ slope + scatter)
        half = float(stats.t.ppf(0.975, degrees) * error)
        return middle, middle - half, middle + half


def fit_law(law: Law, x: Floats, y: Floats) -> Fit:
    """Fit ``law`` by least squares; raise ValueError for fewer points than parameters."""
    parameters, slopes = _least_squares(law, x, y)
    residual = ((law.curve(x, *parameters) - y) ** 2).sum()
    spread = ((y - y.mean()) ** 2).sum()
    covariance = _covariance(slopes, float(residual))
    r_squared = float(1 - residual / spread) if spread else np.nan
    return Fit(law, x, y, parameters, covariance, r_squared, _leave_one_out_error(law, x, y))


def _least_squares(law: Law, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the parameters, and the Jacobian of the curve in them, (points, parameters).

    An endless search, such as for the limit of points that bend upward, is cut short.
    """
    from scipy import optimize  # takes 0.2 s to import

    def residuals(values: Floats) -> Floats:
        return law.curve(x, *values) - y

    found = optimize.least_squares(residuals, law.start(x, y), method="lm", max_nfev=1000)
    return found.x, found.jac


def _covariance(slopes: Floats, residual: float) -> Floats:
    """Return the parameters' covariance; infinite if the points do not identify them."""
    n_points, n_parameters = slopes.shape
    scale = np.linalg.norm(slopes, axis=0)  # a parameter may be a million times another
    if n_points == n_parameters or not scale.all():
        return np.full((n_parameters, n_parameters), np.inf)
    _, singular, right = np.linalg.svd(slopes / scale, full_matrices=False)
    if singular[-1] < 1e-6 * singular[0]:  # slopes are accurate to about 8 digits
        return np.full((n_parameters, n_parameters), np.inf)
    root = right.T / singular / scale[:, None]
    return root @ root.T * residual / (n_points - n_parameters)


def _leave_one_out_error(law: Law, x: Floats, y: Floats) -> float:
    """Return the error; NaN if the other points would be fewer than the parameters."""
    if len(x) <= len(law.parameter_names):
        return np.nan
    errors = []
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        values, _ = _least_squares(law, x[others], y[others])
        errors.append(law.curve(x[i : i + 1], *values)[0] - y[i])
    return float(np.sqrt(np.mean(np.square(errors))))


def fit_law_to_draws(law: Law, x: Floats, y_draws: Floats) -> Floats:
    """Return parameters, (draws, parameters), fitted to the first draws of y, (draws, points)."""
    different, which = np.unique(y_draws[:N_FITTED_DRAWS], axis=0, return_inverse=True)
    fitted = [
        law.start(x, y) if law.start_is_best else _least_squares(law, x, y)[0] for y in different
    ]
    return np.array(fitted)[which]
