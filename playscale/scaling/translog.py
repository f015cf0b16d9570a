"""The second-order law over all cells: cost quadratic in log N and log D, the translog form of Cobb-Douglas.

cost = b0 + b1 n + b2 d + b3 n^2 + b4 d^2 + b5 n d, with n = ln N and d = ln D about their means (Christensen, Jorgenson
and Lau 1973; the form that Tuyls et al., arXiv 2307.09423, fit to the loss and the return of their agents).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from playscale.scaling.bound import Bound
from playscale.scaling.cells import Cells, FitError
from playscale.scaling.isoflop import weights_of
from playscale.scaling.parametric import compute_of, flops_of
from playscale.scaling.powerlaw import LEVEL

TERMS = ("1", "n", "d", "n^2", "d^2", "n d")


@dataclass(frozen=True, eq=False)
class Translog:
    """beta [6] and its covariance [6, 6]; centre: mean ln N and ln D; sd: residual scatter of the cost.

    compute [3]: ln C = k0 + k1 ln N + k2 ln D over the cells.
    """

    target: str
    beta: np.ndarray
    covariance: np.ndarray
    centre: tuple[float, float]
    sd: float
    degrees: int
    r2: float | None
    n: int
    compute: tuple[float, float, float]
    replicates: int

    def cost(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Return cost [m] at each (N, D)."""
        return self._design(params, samples) @ self.beta

    def draw(self, params: np.ndarray, samples: np.ndarray, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """Draw [R, m] what would be measured: the law's uncertainty, and its scatter or the measurement's."""
        chi = np.sqrt(self.degrees / np.maximum(rng.chisquare(self.degrees, self.replicates), 1e-12))
        spread = rng.multivariate_normal(np.zeros(len(TERMS)), self.covariance, self.replicates, method="eigh")
        mean = self._design(params, samples) @ (self.beta[:, None] + (spread * chi[:, None]).T)
        error = np.maximum(self.sd * chi, noise) * rng.standard_normal(self.replicates)
        return mean.T + error[:, None]

    def flops(self, params: float, samples: float) -> float:
        return flops_of(self.compute, params, samples)

    def _design(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        n, d = np.log(np.atleast_1d(params)) - self.centre[0], np.log(np.atleast_1d(samples)) - self.centre[1]
        return np.stack([np.ones(len(n)), n, d, n * n, d * d, n * d], axis=1)

    @property
    def _t(self) -> float:
        return float(stats.t.ppf((1 + LEVEL) / 2, self.degrees))

    @property
    def _bowl(self) -> float:
        """Return the curvature of the cost along a budget, by ln N; a best size exists only where it is positive."""
        r = self.compute[1] / self.compute[2]
        return float(2 * (self.beta[3] - r * self.beta[5] + r * r * self.beta[4]))

    def optimum(self, flops: float) -> tuple[float, float] | None:
        """Return (params, samples) of least cost at a budget; None where the law has no minimum along it."""
        k0, k1, k2 = self.compute
        if self._bowl <= 0:
            return None
        r, b = k1 / k2, self.beta
        budget = (np.log(flops) - k0 - k1 * self.centre[0]) / k2 - self.centre[1]
        n = -(b[1] - r * b[2] + budget * (b[5] - 2 * r * b[4])) / self._bowl
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(n + self.centre[0])), float(np.exp(budget - r * n + self.centre[1]))

    def exponents(self) -> dict[str, Bound] | None:
        """Return N_opt and D_opt as powers of compute, intervals by the delta method; None without an optimum."""
        _, k1, k2 = self.compute
        if self._bowl <= 0:
            return None
        r, top = k1 / k2, -(self.beta[5] - 2 * k1 / k2 * self.beta[4])
        exponent = top / (self._bowl * k2)
        by_top = np.array([0, 0, 0, 0, 2 * r, -1.0])
        by_bowl = np.array([0, 0, 0, 2.0, 2 * r * r, -2 * r])
        gradient = (by_top - top / self._bowl * by_bowl) / (self._bowl * k2)
        half = self._t * float(np.sqrt(gradient @ self.covariance @ gradient))
        data, other = (1 - k1 * exponent) / k2, abs(k1 / k2) * half
        return {
            "params": Bound(float(exponent), float(exponent - half), float(exponent + half)),
            "samples": Bound(float(data), float(data - other), float(data + other)),
        }


def fit_translog(cells: Cells, replicates: int) -> Translog:
    """Fit by least squares, weighted by standard errors as the profiles are; replicates: draws of a forecast.

    Raises FitError with fewer than 8 cells, or where sizes and amounts of data do not vary apart from each other.
    """
    use = np.isfinite(cells.samples)
    log_params, log_samples, cost = np.log(cells.params[use]), np.log(cells.fresh[use]), cells.cost[use]
    count = len(cost)
    if count <= len(TERMS) + 1:
        raise FitError(f"the translog law needs at least 8 cells; there are {count}")
    centre = float(log_params.mean()), float(log_samples.mean())
    n, d = log_params - centre[0], log_samples - centre[1]
    design = np.stack([np.ones(count), n, d, n * n, d * d, n * d], axis=1)
    root = np.sqrt(weights_of(cells.error[use]))
    weighted = design * root[:, None]
    if np.linalg.matrix_rank(weighted / np.linalg.norm(weighted, axis=0).clip(1e-12), tol=1e-6) < len(TERMS):
        raise FitError("the translog law needs sizes and amounts of data that vary apart from each other")
    beta = np.linalg.lstsq(weighted, cost * root, rcond=None)[0]
    residuals = root * (cost - design @ beta)
    degrees, rss = count - len(TERMS), float(residuals @ residuals)
    total = float(np.sum((root * (cost - np.average(cost, weights=root**2))) ** 2))
    covariance = np.linalg.inv(weighted.T @ weighted) * rss / degrees
    compute = compute_of(log_params, np.log(cells.samples[use]), np.log(cells.flops[use]))
    r2 = None if total <= 1e-24 else 1 - rss / total
    sd = float(np.sqrt(rss / degrees))
    return Translog(cells.target, beta, covariance, centre, sd, degrees, r2, count, compute, replicates)
