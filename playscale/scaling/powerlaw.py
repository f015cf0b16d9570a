"""Power laws y = k x^e as least-squares lines through logarithms, with t-based 95 % intervals of the exponent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from playscale.scaling.cells import FitError

LEVEL = 0.95
LEVELS = (0.005, 0.025, *(round(0.05 * i, 2) for i in range(1, 20)), 0.975, 0.995)
"""Levels of the quantiles that describe a predictive distribution; the interval of LEVEL is among them."""
ENDS = (LEVELS.index(round((1 - LEVEL) / 2, 3)), LEVELS.index(round((1 + LEVEL) / 2, 3)))


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * x^exponent. low, high: 95 % interval of the exponent, None with 2 points.

    boot_low, boot_high: 95 % bootstrap interval over cells and repeats, None where too few replicates had a law.
    log_coefficient: natural logarithm. r2 is None when y is constant. residuals: log y minus the law, per point.
    centre: mean of log x, where the line is known best.
    """

    exponent: float
    log_coefficient: float
    low: float | None
    high: float | None
    r2: float | None
    n: int
    residuals: tuple[float, ...] = ()
    boot_low: float | None = None
    boot_high: float | None = None
    centre: float = 0.0

    @property
    def coefficient(self) -> float | None:
        """Return exp(log_coefficient); None when it does not fit a float."""
        with np.errstate(over="ignore"):
            value = float(np.exp(self.log_coefficient))
        return value if np.isfinite(value) else None

    def at(self, x: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_coefficient + self.exponent * np.log(x)))

    def quantiles_at(self, x: float) -> np.ndarray | None:
        """Return the quantiles at LEVELS of log y measured at x, by the t distribution; None with 2 points."""
        if self.low is None or self.high is None:
            return None
        t, rss = stats.t(self.n - 2), float(np.sum(np.square(self.residuals)))
        slope = (self.high - self.low) / 2 / t.ppf((1 + LEVEL) / 2)
        sd = float(np.hypot(np.sqrt(rss / (self.n - 2) * (1 + 1 / self.n)), slope * (np.log(x) - self.centre)))
        return self.log_coefficient + self.exponent * np.log(x) + sd * np.asarray(t.ppf(LEVELS))

    def interval_at(self, x: float) -> tuple[float, float] | None:
        """Return the 95 % interval of the law's value at x (of the line, not of a measurement); None with 2 points.

        log y +- sqrt((t s)^2 / n + (h (log x - mean log x))^2), h being the half width of the exponent's interval.
        """
        if self.low is None or self.high is None:
            return None
        half, rss = (self.high - self.low) / 2, float(np.sum(np.square(self.residuals)))
        level = stats.t.ppf((1 + LEVEL) / 2, self.n - 2) * np.sqrt(rss / (self.n - 2) / self.n)
        off = float(np.hypot(level, half * (np.log(x) - self.centre)))
        with np.errstate(over="ignore", under="ignore"):
            return float(self.at(x) * np.exp(-off)), float(self.at(x) * np.exp(off))


def fit_power_law(log_x: np.ndarray, log_y: np.ndarray) -> PowerLaw:
    """Fit log_y on log_x (natural logarithms) by ordinary least squares; pairs that are not finite are left out.

    Exponent interval: e +- t(0.975, n - 2) sqrt(RSS / (n - 2) / Sxx). Raises FitError with fewer than 2 distinct x.
    """
    keep = np.isfinite(log_x) & np.isfinite(log_y)
    log_x, log_y = log_x[keep], log_y[keep]
    n = len(log_x)
    sxx = float(np.sum((log_x - log_x.mean()) ** 2)) if n else 0.0
    if n < 2 or sxx <= 1e-12:
        raise FitError(f"a power law needs at least 2 points with different x; there are {n}")
    exponent = float(np.sum((log_x - log_x.mean()) * (log_y - log_y.mean())) / sxx)
    log_coefficient = float(log_y.mean() - exponent * log_x.mean())
    residuals = log_y - log_coefficient - exponent * log_x
    rss, total = float(np.sum(residuals**2)), float(np.sum((log_y - log_y.mean()) ** 2))
    half = None
    if n > 2:
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 2) * np.sqrt(rss / (n - 2) / sxx))
    return PowerLaw(
        exponent, log_coefficient,
        None if half is None else exponent - half, None if half is None else exponent + half,
        None if total <= 1e-24 else 1 - rss / total, n, tuple(float(r) for r in residuals),
        centre=float(log_x.mean()),
    )  # fmt: skip


def slopes(log_x: np.ndarray, log_y: np.ndarray) -> np.ndarray:
    """Return least-squares slopes [R] of log_y on log_x, both [R, B]; without pairs of NaN; NaN if under 2 remain."""
    keep = np.isfinite(log_x) & np.isfinite(log_y)
    count = np.maximum(keep.sum(axis=1), 1)
    dx = np.where(keep, log_x - (np.where(keep, log_x, 0).sum(axis=1) / count)[:, None], 0)
    dy = np.where(keep, log_y - (np.where(keep, log_y, 0).sum(axis=1) / count)[:, None], 0)
    sxx = np.sum(dx * dx, axis=1)
    return np.where(sxx > 1e-12, np.sum(dx * dy, axis=1) / np.where(sxx > 1e-12, sxx, 1), np.nan)


def central(draws: np.ndarray) -> tuple[float, float]:
    """Return the central 95 % of draws [R]."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval(draws: np.ndarray) -> tuple[float | None, float | None]:
    """Return the central 95 % of the finite draws; (None, None) when fewer than half of them are finite."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < max(20, len(draws) // 2):
        return None, None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
