"""The parametric law over all cells, L(N, D) = E + A / N^alpha + B / D^beta.

Hoffmann et al. (arXiv 2203.15556), approach 3: the Huber loss (delta = 1e-3) of log L, from many starts. A return is
fitted as its inverse: 1/R = 1/R_max + A / N^alpha + B / D^beta. Legend: n cells, R problems, P = 5 parameters
(ln E, ln A, ln alpha, ln B, ln beta), the latter four about the mean of log N and log D.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from playscale.scaling.bound import UNBOUNDED, Bound, bound
from playscale.scaling.cells import Cells, FitError
from playscale.scaling.frontier import floor_of
from playscale.scaling.levenberg import minimise

DELTA = 1e-3
SIZE = 5
FEW = 1000
# Starts of the search, and how many of them are followed to the end after 15 iterations.
STARTS, FINALISTS = 54, 8
# Relative change of the objective at which a replicate is done: its interval is three orders wider.
REFIT_TOLERANCE = 1e-5
EXPONENT_RANGE = (-7.0, 1.5)
# An exponent of the optimum within this of 0 or of all compute is at the end of what the optimiser may try.
ALL_TO_ONE = 0.01
# Of the smoothed bootstrap, times n^-0.2 times the residuals' spread (Silverman 1986): with so small a delta the fit
# goes through some cells exactly, and resampling their zero residuals as they are makes intervals too narrow.
BANDWIDTH = 0.9


@dataclass(frozen=True, eq=False)
class Parametric:
    """The fitted law and its draws. theta [5]; draws [R, 5]; residuals [n] of the cost; sd: their robust scatter.

    compute [3]: ln C = k0 + k1 ln N + k2 ln D over the cells (6 N D has k1 = k2 = 1).
    """

    target: str
    theta: np.ndarray
    draws: np.ndarray
    centre: tuple[float, float]
    residuals: np.ndarray
    degrees: int
    compute: tuple[float, float, float]

    def cost(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return self._cost(self.theta[None], params, samples)[0]

    def _cost(self, theta: np.ndarray, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        x, y = np.log(np.atleast_1d(params)) - self.centre[0], np.log(np.atleast_1d(samples)) - self.centre[1]
        return curve(theta, x, y)[0]

    def draw(self, params: np.ndarray, samples: np.ndarray, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """Draw [R, m] what would be measured: the law's uncertainty, the cells' residuals, the error `noise`."""
        mean = self._cost(self.draws, params, samples)
        scatter = self.residuals * np.sqrt(len(self.residuals) / self.degrees)
        chi = np.sqrt(self.degrees / np.maximum(rng.chisquare(self.degrees, len(self.draws)), 1e-12))
        error = chi * rng.choice(scatter, len(self.draws))
        spread = float(np.sqrt(np.mean(scatter**2)))
        extra = np.sqrt(max(noise**2 - spread**2, 0.0)) * rng.standard_normal(len(self.draws))
        return mean + (error + extra)[:, None]

    def flops(self, params: float, samples: float) -> float:
        return flops_of(self.compute, params, samples)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Return (params, samples) of least cost on ln C = k0 + k1 ln N + k2 ln D, where the two slopes balance."""
        k0, k1, k2 = self.compute
        _, a, log_alpha, b, log_beta = self.theta
        alpha, beta = np.exp(np.clip((log_alpha, log_beta), *EXPONENT_RANGE))
        # d/dlnN: alpha e^(a - alpha x) = (beta k1 / k2) e^(b - beta y), and y = (ln C - k0 - k1 ln N) / k2
        budget = (np.log(flops) - k0 - k1 * self.centre[0] - k2 * self.centre[1]) / k2
        ratio = k1 / k2
        x = (np.log(alpha) + a - np.log(beta * ratio) - b + beta * budget) / (alpha + beta * ratio)
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(x + self.centre[0])), float(np.exp(budget - ratio * x + self.centre[1]))

    def exponents(self) -> dict[str, Bound]:
        """Return N_opt and D_opt as powers of compute.

        With C ~ N^k1 D^k2, N_opt has the exponent beta / (k2 alpha + k1 beta); Hoffmann et al., equation 4, has
        k1 = k2 = 1. It lies between 0 and 1 / k1, where all compute goes to data or to size.
        """
        _, k1, k2 = self.compute
        every = np.concatenate([self.theta[None], self.draws])
        alpha, beta = (np.exp(np.clip(every[:, i], *EXPONENT_RANGE)) for i in (2, 4))
        size = beta / (k2 * alpha + k1 * beta)
        spans = {"params": (size, k1), "samples": ((1 - k1 * size) / k2, k2)}
        return {name: bound(v, ALL_TO_ONE / k, (1 - ALL_TO_ONE) / k) for name, (v, k) in spans.items()}

    def parameters(self, offset: float = 0.0) -> dict[str, Bound]:
        """Return E (or R_max), A, alpha, B, beta in the target's units; offset: that of the returns."""
        every = np.concatenate([self.theta[None], self.draws])
        sign = 1.0 if self.target == "dev_loss" else -1.0
        typical = curve(self.theta[None], np.zeros(1), np.zeros(1))[0][0, 0]
        named = {"E" if sign > 0 else "R_max": floor_of(every[:, 0], typical, sign, offset)}
        least, most = np.exp(EXPONENT_RANGE)
        for i, centre, names in ((1, self.centre[0], ("A", "alpha")), (3, self.centre[1], ("B", "beta"))):
            power = np.exp(np.clip(every[:, i + 1], *EXPONENT_RANGE))
            exponent = bound(power, 1.1 * least, most / 1.1)
            coefficient = np.exp(every[:, i] + power * centre)
            known = Bound(float(coefficient[0]), None, None, UNBOUNDED) if exponent.reason else bound(coefficient)
            named |= dict(zip(names, (known, exponent), strict=True))
        return named


def curve(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cost [R, n] = ln(e^f + e^(a - alpha x) + e^(b - beta y)) and its derivatives [R, n, 5] by theta [R, 5]."""
    floor, a, log_alpha, b, log_beta = (theta[:, i : i + 1] for i in range(SIZE))
    alpha, beta = np.exp(np.clip(log_alpha, *EXPONENT_RANGE)), np.exp(np.clip(log_beta, *EXPONENT_RANGE))
    in_size, in_data = a - alpha * x, b - beta * y
    largest = np.maximum(np.maximum(floor, in_size), in_data)
    by_floor, by_size, by_data = (np.exp(term - largest) for term in (floor, in_size, in_data))
    total = by_floor + by_size + by_data
    jacobian = np.empty((*total.shape, SIZE))
    jacobian[:, :, 0], jacobian[:, :, 1], jacobian[:, :, 3] = by_floor / total, by_size / total, by_data / total
    jacobian[:, :, 2], jacobian[:, :, 4] = -jacobian[:, :, 1] * alpha * x, -jacobian[:, :, 3] * beta * y
    return largest + np.log(total), jacobian


def fit_parametric(cells: Cells, rng: np.random.Generator, replicates: int) -> Parametric:
    """Huber fit from a grid of starts; draws by refitting to the fitted costs plus smoothed resampled residuals.

    Raises FitError with fewer than 7 cells, 3 sizes or 3 amounts of data: five parameters need them.
    """
    use = np.isfinite(cells.samples)
    log_params, log_samples = np.log(cells.params[use]), np.log(cells.samples[use])
    cost, n = cells.cost[use], int(use.sum())
    sizes, amounts = len(np.unique(np.round(log_params, 2))), len(np.unique(np.round(log_samples, 2)))
    if n < SIZE + 2 or sizes < 3 or amounts < 3:
        raise FitError(
            f"the law of params and samples needs at least 7 cells, 3 sizes and 3 amounts of data; there are {n},"
            f" {sizes} and {amounts}"
        )
    centre = float(log_params.mean()), float(log_samples.mean())
    x, y = log_params - centre[0], log_samples - centre[1]
    theta = _search(x, y, cost)
    fitted = curve(theta[None], x, y)[0][0]
    residuals, degrees = cost - fitted, n - SIZE
    scatter = residuals * np.sqrt(n / degrees)
    chi = np.sqrt(degrees / np.maximum(rng.chisquare(degrees, replicates), 1e-12))
    smooth = BANDWIDTH * n**-0.2 * float(np.std(scatter)) * rng.standard_normal((replicates, n))
    noise = chi[:, None] * (rng.choice(scatter, (replicates, n)) + smooth)
    draws = _refit(x, y, fitted + noise, theta)
    compute = compute_of(log_params, log_samples, np.log(cells.flops[use]))
    return Parametric(cells.target, theta, draws, centre, residuals, degrees, compute)


def flops_of(compute: tuple[float, float, float], params: float, samples: float) -> float:
    return float(np.exp(compute[0] + compute[1] * np.log(params) + compute[2] * np.log(samples)))


def compute_of(log_params: np.ndarray, log_samples: np.ndarray, log_flops: np.ndarray) -> tuple[float, float, float]:
    """Fit ln C = k0 + k1 ln N + k2 ln D by least squares over the cells; 6 N D has k1 = k2 = 1."""
    design = np.stack([np.ones(len(log_params)), log_params, log_samples], axis=1)
    k0, k1, k2 = np.linalg.lstsq(design, log_flops, rcond=None)[0]
    return float(k0), float(k1), float(k2)


def _search(x: np.ndarray, y: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the best minimum [5] of all starts; of a long table they use every k-th cell, the best one all."""
    some = slice(None, None, -(-len(cost) // FEW))
    seen = cost[some]
    starts, values = _solve(x[some], y[some], np.tile(seen, (STARTS, 1)), search_starts(seen), 15)
    ahead = starts[np.argsort(values, kind="stable")[:FINALISTS]]
    thetas, values = _solve(x[some], y[some], np.tile(seen, (len(ahead), 1)), ahead, 200)
    theta = thetas[int(np.argmin(values))]
    return theta if len(cost) <= FEW else _solve(x, y, cost[None], theta[None], 200)[0][0]


def search_starts(cost: np.ndarray) -> np.ndarray:
    """Return 54 starts: floors, levels of the two terms, and their exponents."""
    grid = product((-3.0, -0.7, -0.1), (-1.0, -3.0), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
    return np.array(
        [[cost.min() + f, cost.mean() + level, np.log(a), cost.mean() + level, np.log(b)] for f, level, a, b in grid]
    )


def _refit(x: np.ndarray, y: np.ndarray, cost: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Refit to each cost [R, n], from `theta` and, where its floor is far below the data, also from one near them."""
    first, value = _solve(x, y, cost, np.tile(theta, (len(cost), 1)), 40, REFIT_TOLERANCE)
    felt, half = theta.copy(), float(cost.mean(axis=0).min()) + np.log(0.5)
    if theta[0] > half + np.log(0.1):
        return first
    felt[0] = half
    second, other = _solve(x, y, cost, np.tile(felt, (len(cost), 1)), 40, REFIT_TOLERANCE)
    return np.where((other < value)[:, None], second, first)


def _solve(
    x: np.ndarray, y: np.ndarray, cost: np.ndarray, start: np.ndarray, iterations: int, tolerance: float = 1e-7
) -> tuple[np.ndarray, np.ndarray]:
    def residuals(theta: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted, jacobian = curve(theta, x, y)
        return fitted - cost[rows], jacobian

    return minimise(residuals, start, delta=DELTA, iterations=iterations, tolerance=tolerance)
