"""Exponents of several tables (games, cores) pooled: each is shrunk towards the others, their scales never are.

The exponent of table i is measured as e_i with standard error s_i, and is itself drawn from the tables' distribution:
e_i ~ N(theta_i, s_i^2), theta_i ~ N(mu, tau^2). Given tau, theta_i is normal about B mu + (1 - B) e_i with
B = s_i^2 / (s_i^2 + tau^2). A handful of tables says little about tau, so all of it is averaged over the restricted
likelihood of tau under a uniform prior (Gelman et al., Bayesian Data Analysis, section 5.4; Gelman 2006, doi
10.1214/06-BA117A): the fewer the tables, the wider the intervals and the less is shrunk.
Legend: K tables, T values of tau.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from playscale.scaling.cells import TARGETS, FitError, Target
from playscale.scaling.document import finite
from playscale.scaling.exponents import SPLIT, At, Exponent, best, used_laws
from playscale.scaling.fit import Fit
from playscale.scaling.isoflop import Profile
from playscale.scaling.powerlaw import LEVEL, PowerLaw, fit_power_law
from playscale.shown import Shown

FEWEST_TABLES = 3
# Values of tau, from zero to this many times the scatter and the errors of the exponents: beyond it a uniform prior
# has next to nothing.
TAUS, LARGEST_TAU = 400, 10.0
# An error of an exponent that is smaller is none: the best cells lie on a line of the grid of sizes.
LEAST_ERROR = 1e-6
Z = float(stats.norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class Mixture:
    """A number known as normal given tau: weights [T], means [T] and standard deviations [T]."""

    weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.weights @ self.means)

    @property
    def sd(self) -> float:
        return float(np.sqrt(self.weights @ (self.sds**2 + (self.means - self.mean) ** 2)))

    def quantile(self, level: float) -> float:
        """Return the number below which a share `level` lies."""
        far = 40 * float(self.sds.max() + np.ptp(self.means)) + 1e-9

        def above(x: float) -> float:
            return float(self.weights @ special.ndtr((x - self.means) / self.sds)) - level

        return float(optimize.brentq(above, self.mean - far, self.mean + far))

    @property
    def interval(self) -> tuple[float, float]:
        return self.quantile((1 - LEVEL) / 2), self.quantile((1 + LEVEL) / 2)


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """Several measured exponents: what each one is, their mean, that of a table not seen, their scatter tau.

    shrunk [K]: by how much each is moved to the mean, from 0 to 1; weights [T]: of taus [T].
    """

    own: tuple[Mixture, ...]
    shrunk: np.ndarray
    mean: Mixture
    new: Mixture
    taus: np.ndarray
    weights: np.ndarray

    @property
    def tau(self) -> float:
        """Return the median of tau."""
        return self.tau_quantile(0.5)

    def tau_quantile(self, level: float) -> float:
        return float(np.interp(level, np.cumsum(self.weights), self.taus))


def random_effects(values: np.ndarray, errors: np.ndarray) -> RandomEffects:
    """Shrink measured numbers [K] with standard errors [K] towards each other, K of at least 3."""
    errors = np.maximum(errors, LEAST_ERROR)
    scale = float(np.std(values, ddof=1) + np.median(errors))
    tau = np.linspace(0.0, LARGEST_TAU * scale, TAUS)[:, None]
    precision = 1 / (errors**2 + tau**2)
    total = precision.sum(axis=1)
    mu = (precision @ values) / total
    misfit = np.sum(precision * (values - mu[:, None]) ** 2, axis=1)
    log_likelihood = (np.log(precision).sum(axis=1) - np.log(total) - misfit) / 2
    weights = special.softmax(log_likelihood)
    share = errors**2 * precision  # B
    means = share * mu[:, None] + (1 - share) * values
    sds = np.sqrt((1 - share) * errors**2 + share**2 / total[:, None])
    own = tuple(Mixture(weights, m, s) for m, s in zip(means.T, sds.T, strict=True))
    mean = Mixture(weights, mu, np.sqrt(1 / total))
    new = Mixture(weights, mu, np.sqrt(1 / total + tau[:, 0] ** 2))
    return RandomEffects(own, weights @ share, mean, new, tau[:, 0], weights)


@dataclass(frozen=True, eq=False)
class Line:
    """The power law of one quantity in one table: the best of each budget [B] in logarithms, flops rising."""

    name: str
    at: At
    log_flops: np.ndarray
    log_value: np.ndarray
    law: PowerLaw

    @property
    def error(self) -> float:
        """Return the standard error of the exponent, as wide for a normal as its t interval is."""
        return _error(self.law)

    def upto(self, count: int) -> PowerLaw:
        return fit_power_law(self.log_flops[:count], self.log_value[:count])


def _error(law: PowerLaw) -> float:
    assert law.low is not None
    assert law.high is not None
    return (law.high - law.low) / 2 / Z


@dataclass(frozen=True)
class PooledTable:
    """One exponent of a table: fitted to it alone, and pooled. shrunk: from 0 (its own) to 1 (the others' mean)."""

    table: str
    at: At
    exponent: float
    low: float
    high: float
    pooled: float
    pooled_low: float
    pooled_high: float
    shrunk: float


@dataclass(frozen=True)
class PoolScore:
    """Forecasts of a table's later budgets from its earlier ones, by its own exponent and by one shrunk to the others.

    error, pooled_error: medians of |ln(measured / forecast)|; coverage and interval score (Gneiting and Raftery 2007)
    of the 95 % intervals; ratio: of the geometric means of the errors, below 1 where pooling forecast better.
    """

    table: str
    forecasts: int
    error: float
    pooled_error: float
    coverage: float
    pooled_coverage: float
    score: float
    pooled_score: float
    ratio: float


@dataclass(frozen=True)
class PooledExponent:
    """A quantity's exponents in all tables: mean, scatter between tables, what a further table's would be, the scores.

    kept: leaving one table out, pooling forecast better; ratio: over all tables.
    """

    target: Target
    quantity: str
    tables: tuple[PooledTable, ...]
    mean: float
    low: float
    high: float
    between: float
    between_low: float
    between_high: float
    new_low: float
    new_high: float
    left_out: tuple[PoolScore, ...]
    ratio: float | None
    kept: bool


@dataclass(frozen=True)
class PooledForecast:
    """The forecasts of a table's own law and of the pooled one for a budget, with 95 % prediction intervals."""

    table: str
    target: Target
    quantity: str
    flops: float
    value: float
    low: float
    high: float
    pooled_value: float
    pooled_low: float
    pooled_high: float


@dataclass(frozen=True)
class Pool(Shown):
    """The exponents of several tables, pooled, and what they give for the forecast budgets."""

    tables: tuple[str, ...]
    exponents: tuple[PooledExponent, ...]
    forecasts: tuple[PooledForecast, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return `pool` of fit.json, as docs/scaling.md lists it: plain JSON types."""
        return dict(finite(asdict(self)))


def pool(fits: Mapping[str, Fit], forecast_flops: Sequence[float] = ()) -> Pool:
    """Pool the exponents of several tables: those of the best size and data, of the loss and of the return.

    Each is shrunk towards the others by the variance between tables; the scales (coefficients) stay each table's own.

    Args:
        fits: the fit of each table, by name; at least 3 with budgets of best cells.
        forecast_flops: budgets to forecast for, in training FLOPs.

    Returns:
        Each exponent by its table alone and pooled, the mean and the scatter between tables, whether pooling forecast
        the later budgets of a table that was left out better than its own earlier ones did, and forecasts by both.

    Raises:
        FitError: no quantity has an exponent with an interval in 3 tables.
    """
    found = [(t, q, lines) for t in TARGETS for q in (*SPLIT, t) if len(lines := _lines(fits, t, q)) >= FEWEST_TABLES]
    if not found:
        raise FitError(
            f"exponents are pooled over at least {FEWEST_TABLES} tables with a law of best cells of 3 budgets or more;"
            f" there {'is' if len(fits) == 1 else 'are'} {len(fits)}: {', '.join(fits) or 'none'}"
        )
    exponents, forecasts = [], []
    for target, quantity, lines in found:
        pooled = random_effects(*measured(lines))
        exponents.append(pooled_exponent(target, quantity, lines, pooled))
        for line, own in zip(lines, pooled.own, strict=True):
            forecasts += [_forecast(target, quantity, line, own, flops) for flops in forecast_flops]
    return Pool(tuple(fits), tuple(exponents), tuple(forecasts))


def _lines(fits: Mapping[str, Fit], target: Target, quantity: str) -> list[Line]:
    """Return the law of each table that is used for a quantity, where it has an interval."""
    lines = []
    for name, fit in fits.items():
        result = fit.targets.get(target)
        if result is not None and (quantity == target or result.forecaster.params):
            lines.append(line_of(name, target, quantity, result.profiles, result.exponents))
    return [line for line in lines if line is not None]


def line_of(
    name: str, target: Target, quantity: str, profiles: Sequence[Profile], exponents: Sequence[Exponent]
) -> Line | None:
    """Return the law of a table that is used for a quantity; None where it has none, or no interval."""
    used = used_laws(exponents, target, len(profiles)).get(quantity)
    if used is None or used.law.low is None:
        return None
    found = best(list(profiles), used.at)
    sign = -1.0 if target == "return_mean" else 1.0
    y = np.log(found[quantity]) if quantity in SPLIT else sign * found["cost"]
    known = np.isfinite(y)
    return Line(name, used.at, np.log(found["flops"][known]), y[known], used.law)


def measured(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """Return the exponents [K] and their standard errors [K]."""
    return np.array([line.law.exponent for line in lines]), np.array([line.error for line in lines])


def pooled_exponent(target: Target, quantity: str, lines: Sequence[Line], pooled: RandomEffects) -> PooledExponent:
    """Put a quantity's exponents of all tables side by side, and score both with one table left out."""
    scores = tuple(score for i in range(len(lines)) if (score := left_out(lines, i)) is not None)
    ratio = float(np.exp(np.mean([np.log(score.ratio) for score in scores]))) if scores else None
    tables = tuple(
        PooledTable(
            line.name, line.at, line.law.exponent, float(line.law.low or 0), float(line.law.high or 0), own.mean,
            *own.interval, float(shrunk),
        )
        for line, own, shrunk in zip(lines, pooled.own, pooled.shrunk, strict=True)
    )  # fmt: skip
    (low, high), (new_low, new_high) = pooled.mean.interval, pooled.new.interval
    kept = ratio is not None and len(scores) >= FEWEST_TABLES and ratio < 1
    return PooledExponent(
        target, quantity, tables, pooled.mean.mean, low, high, pooled.tau, pooled.tau_quantile((1 - LEVEL) / 2),
        pooled.tau_quantile((1 + LEVEL) / 2), new_low, new_high, scores, ratio, kept,
    )  # fmt: skip


def left_out(lines: Sequence[Line], index: int) -> PoolScore | None:
    """Score forecasts of a table's later budgets from its first 3 and more, with the others' exponents and without.

    None with 3 budgets, of which none is left to forecast.
    """
    line, (values, errors) = lines[index], measured(lines)
    rows = []
    for count in range(3, len(line.log_flops)):
        law = line.upto(count)
        values[index], errors[index] = law.exponent, _error(law)
        own = random_effects(values, errors).own[index]
        ahead, y = line.log_flops[count:], line.log_value[count:]
        for exponent, error in ((law.exponent, errors[index]), (own.mean, own.sd)):
            value, half = _predict(law, exponent, error, ahead)
            rows.append((np.abs(y - value), half))
    if not rows:
        return None
    (own_error, own_half), (error, half) = (
        tuple(np.concatenate(column) for column in zip(*rows[i::2], strict=True)) for i in (0, 1)
    )
    return PoolScore(
        line.name, len(error), float(np.median(own_error)), float(np.median(error)),
        float(np.mean(own_error <= own_half)), float(np.mean(error <= half)), _interval_score(own_error, own_half),
        _interval_score(error, half), float(np.exp(np.mean(np.log(error + 1e-3) - np.log(own_error + 1e-3)))),
    )  # fmt: skip


def _interval_score(error: np.ndarray, half: np.ndarray) -> float:
    return float(np.mean(2 * half + 2 / (1 - LEVEL) * np.maximum(error - half, 0)))


def _predict(law: PowerLaw, exponent: float, error: float, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ln y [m] of a line through the mean of the points, and half the width of its 95 % prediction interval.

    error: the exponent's standard error. A line fitted to few points is uncertain in its level and scatter as Student's
    t says, which the interval of the exponent has by its width.
    """
    off = log_x - law.centre
    sd = np.sqrt(np.sum(np.square(law.residuals)) / (law.n - 2)) * stats.t.ppf((1 + LEVEL) / 2, law.n - 2) / Z
    level = law.log_coefficient + law.exponent * law.centre
    return level + exponent * off, Z * np.hypot(sd * np.sqrt(1 + 1 / law.n), error * off)


def _forecast(target: Target, quantity: str, line: Line, own: Mixture, flops: float) -> PooledForecast:
    ends: list[float] = []
    for exponent, error in ((line.law.exponent, line.error), (own.mean, own.sd)):
        value, half = _predict(line.law, exponent, error, np.log([flops]))
        ends += np.exp([value[0], value[0] - half[0], value[0] + half[0]]).tolist()
    return PooledForecast(line.name, target, quantity, float(flops), *ends)
