"""The parametric law over all cells, L(N, D) = E + A / N^alpha + B / D^beta.

Hoffmann et al. (arXiv 2203.15556), approach 3: the Huber loss (delta = 1e-3) of log L, from several starts. A return
is fitted as its inverse: 1/R = 1/R_max + A / N^alpha + B / D^beta. Legend: n cells, R problems, G clusters of cells,
m budgets or places, P = 5 parameters (ln E, ln A, ln alpha, ln B, ln beta), the latter four about the mean of log N and
log D.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from playscale.scaling.bound import UNBOUNDED, Bound, bound
from playscale.scaling.cells import Cells, FitError
from playscale.scaling.frontier import floor_of
from playscale.scaling.levenberg import minimise
from playscale.scaling.powerlaw import LEVEL, central

# A law's cost [R, n] and its derivatives [R, n, P] by its parameters [R, P].
Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

DELTA = 1e-3
SIZE = 5
FEW = 1000
# Grid of either exponent for the starts, and how many of its places are followed to the end.
EXPONENTS, STARTS = np.geomspace(0.05, 3.0, 20), 8
# Relative change of the objective at which a replicate is done: its interval is three orders wider.
REFIT_TOLERANCE = 1e-5
EXPONENT_RANGE = (-7.0, 1.5)
# An exponent of the optimum within this of 0 or of all compute is at the end of what the optimiser may try.
ALL_TO_ONE = 0.01
# A term that changes by less than a hundredth over all cells is a constant, one that falls a million times a step: the
# data do not tell its exponent from one further out.
CONSTANT, STEP = 0.01, float(np.log(1e6))
# E, A and alpha are read off between clusters, where these are sizes: so many degrees of freedom fewer than clusters.
BETWEEN, FEWEST = 3, 2
# Of the clusters' weights: below it nearly all weight is on one or two of them.
LEAST_SHAPE = 0.3


@dataclass(frozen=True, eq=False)
class Parametric:
    """The fitted law and its draws. theta [5]; draws [R, 5]; residuals [n] of the cost.

    sizes, data: least and largest ln N and ln D of the cells, about the centre; largest: FLOPs of the largest budget.
    compute [3]: ln C = k0 + k1 ln N + k2 ln D over the cells (6 N D has k1 = k2 = 1).
    """

    target: str
    theta: np.ndarray
    draws: np.ndarray
    centre: tuple[float, float]
    residuals: np.ndarray
    degrees: int
    compute: tuple[float, float, float]
    sizes: tuple[float, float]
    data: tuple[float, float]
    largest: float

    def cost(self, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return self._cost(self.theta[None], params, samples)[0]

    def costs(self, log_params: np.ndarray, log_samples: np.ndarray) -> np.ndarray:
        """Return the cost [1 + R, m] by the fit and its draws, of natural logarithms [m], [1, m] or [1 + R, m]."""
        every = np.concatenate([self.theta[None], self.draws])
        terms = _terms(every, log_params - self.centre[0], log_samples - self.centre[1])
        return sum_of_terms(terms)[0]

    def _cost(self, theta: np.ndarray, params: np.ndarray, samples: np.ndarray) -> np.ndarray:
        x, y = np.log(np.atleast_1d(params)) - self.centre[0], np.log(np.atleast_1d(samples)) - self.centre[1]
        return curve(theta, x, y)[0]

    def draw(self, params: np.ndarray, samples: np.ndarray, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """Draw [R, m] what would be measured: the law's uncertainty, the cells' residuals, the error `noise`."""
        return self._cost(self.draws, params, samples) + self.error(rng, noise)[:, None]

    def error(self, rng: np.random.Generator, noise: float) -> np.ndarray:
        """Draw [R] the error of a measurement: a cell's residual, or `noise` where that is larger."""
        return measurement_error(self.residuals, self.degrees, len(self.draws), rng, noise)

    def flops(self, params: float, samples: float) -> float:
        return flops_of(self.compute, params, samples)

    def optimum(self, flops: float) -> tuple[float, float] | None:
        """Return (params, samples) of least cost at a budget; None where compute does not grow with both."""
        found = self._optimum(self.theta[None], np.array([flops]))
        if found is None:
            return None
        x, y = (float(v[0, 0]) for v in found)
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(x + self.centre[0])), float(np.exp(y + self.centre[1]))

    def optimum_intervals(self, flops: float) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Return the 95 % intervals of params and samples of least cost at a budget, by the draws; None as above."""
        found = self._optimum(self.draws, np.array([flops]))
        if found is None:
            return None
        with np.errstate(over="ignore", under="ignore"):
            params, samples = (np.exp(central(v[:, 0]) + np.array(c)) for v, c in zip(found, self.centre, strict=True))
        return (float(params[0]), float(params[1])), (float(samples[0]), float(samples[1]))

    def frontier(self, flops: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the least cost of each budget, [m], and its draws [R, m] without the error of a measurement.

        Each draw has its own best size there. None where compute does not grow with both size and data.
        """
        every = np.concatenate([self.theta[None], self.draws])
        found = self._optimum(every, np.atleast_1d(flops))
        if found is None:
            return None
        cost, _ = sum_of_terms(_terms(every, *found))
        return cost[0], cost[1:]

    def draw_frontier(self, flops: np.ndarray, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray | None:
        """Draw [R, m] what would be measured of the best of each budget; None as in `frontier`."""
        found = self.frontier(flops)
        return None if found is None else found[1] + self.error(rng, noise)[:, None]

    def off_size(self, flops: float, factor: float) -> np.ndarray | None:
        """Return what the cost [1 + R] rises by at `factor` times the best size of a budget, by the fit and its draws.

        Each has its own best size, within what `optimum` allows. None as in `frontier`.
        """
        every = np.concatenate([self.theta[None], self.draws])
        found = self._optimum(every, np.array([flops]))
        if found is None:
            return None
        x, y = found
        away = np.log(factor)
        best, _ = sum_of_terms(_terms(every, x, y))
        other, _ = sum_of_terms(_terms(every, x + away, y - away * self.compute[1] / self.compute[2]))
        return np.maximum(other - best, 0.0)[:, 0]

    def _optimum(self, theta: np.ndarray, flops: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return ln N and ln D [R, m] about the centre, where the slopes of the two terms balance.

        Neither is below what was trained, nor has it grown by more than compute has since: a draw whose exponent the
        data do not bound would put all compute into one of the two.
        """
        k0, k1, k2 = self.compute
        if not (k1 > 0 and k2 > 0):
            return None
        _, a, log_alpha, b, log_beta = (theta[:, i : i + 1] for i in range(SIZE))
        alpha, beta = np.exp(np.clip(log_alpha, *EXPONENT_RANGE)), np.exp(np.clip(log_beta, *EXPONENT_RANGE))
        # d/dlnN: alpha e^(a - alpha x) = (beta k1 / k2) e^(b - beta y), and y = (ln C - k0 - k1 ln N) / k2
        budget = (np.log(flops) - k0 - k1 * self.centre[0] - k2 * self.centre[1]) / k2
        ratio = k1 / k2
        x = (np.log(alpha) + a - np.log(beta * ratio) - b + beta * budget) / (alpha + beta * ratio)
        more = np.maximum(np.log(flops / self.largest), 0.0)
        least = np.maximum(self.sizes[0], (budget - self.data[1] - more / k2) / ratio)
        most = np.maximum(np.minimum(self.sizes[1] + more / k1, (budget - self.data[0]) / ratio), least)
        x = np.clip(x, least, most)
        return x, budget - ratio * x

    def exponents(self) -> dict[str, Bound]:
        """Return N_opt and D_opt as powers of compute.

        With C ~ N^k1 D^k2, N_opt has the exponent beta / (k2 alpha + k1 beta); Hoffmann et al., equation 4, has
        k1 = k2 = 1. It lies between 0 and 1 / k1, where all compute goes to data or to size. None of them where compute
        does not grow with both.
        """
        _, k1, k2 = self.compute
        if not (k1 > 0 and k2 > 0):
            return {}
        every = np.concatenate([self.theta[None], self.draws])
        alpha, beta = (np.exp(np.clip(every[:, i], *EXPONENT_RANGE)) for i in (2, 4))
        size = beta / (k2 * alpha + k1 * beta)
        spans = {"params": (size, k1), "samples": ((1 - k1 * size) / k2, k2)}
        return {name: bound(v, ALL_TO_ONE / k, (1 - ALL_TO_ONE) / k) for name, (v, k) in spans.items()}

    def parameters(self, offset: float = 0.0, floor: float = -np.inf) -> dict[str, Bound]:
        """Return E (or R_max), A, alpha, B, beta in the target's units.

        offset: that of the returns; floor: the least cost possible, beyond which no R_max lies.
        """
        every = np.concatenate([self.theta[None], self.draws])
        sign = 1.0 if self.target == "dev_loss" else -1.0
        typical = curve(self.theta[None], np.zeros(1), np.zeros(1))[0][0, 0]
        named = {"E" if sign > 0 else "R_max": floor_of(np.maximum(every[:, 0], floor), typical, sign, offset)}
        of_size, of_data = (1, "A", "alpha", self.centre[0], self.sizes), (3, "B", "beta", self.centre[1], self.data)
        for i, name, power_name, centre, (first, last) in (of_size, of_data):
            power = np.exp(np.clip(every[:, i + 1], *EXPONENT_RANGE))
            exponent = bound(power, *_resolved(last - first))
            with np.errstate(over="ignore", under="ignore"):
                coefficient = np.exp(every[:, i] + power * centre)
            known = Bound(float(coefficient[0]), None, None, UNBOUNDED) if exponent.reason else bound(coefficient)
            named |= {name: known, power_name: exponent}
        return named


def _resolved(span: float) -> tuple[float, float]:
    """Return the exponents between which the data tell one from another; span: of the cells' ln N, or ln D."""
    least, most = np.exp(EXPONENT_RANGE)
    return max(1.1 * least, CONSTANT / span), min(most / 1.1, STEP / span)


def curve(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cost [R, n] = ln(e^f + e^(a - alpha x) + e^(b - beta y)) and its derivatives [R, n, 5] by theta [R, 5]."""
    cost, (by_floor, by_size, by_data) = sum_of_terms(_terms(theta, x, y))
    alpha, beta = (np.exp(np.clip(theta[:, i : i + 1], *EXPONENT_RANGE)) for i in (2, 4))
    return cost, np.stack([by_floor, by_size, -by_size * alpha * x, by_data, -by_data * beta * y], axis=2)


def _terms(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the logarithms of the three terms; theta [R, 5], x and y [n] or [R, n]."""
    floor, a, log_alpha, b, log_beta = (theta[:, i : i + 1] for i in range(SIZE))
    alpha, beta = np.exp(np.clip(log_alpha, *EXPONENT_RANGE)), np.exp(np.clip(log_beta, *EXPONENT_RANGE))
    return floor, a - alpha * x, b - beta * y


def sum_of_terms(terms: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the logarithm of the sum of what `terms` are the logarithms of, and each one's share of it."""
    largest = np.maximum(np.maximum(terms[0], terms[1]), terms[2])
    each = [np.exp(term - largest) for term in terms]
    total = each[0] + each[1] + each[2]
    return largest + np.log(total), [one / total for one in each]


def measurement_error(
    residuals: np.ndarray, degrees: int, draws: int, rng: np.random.Generator, noise: float = 0.0
) -> np.ndarray:
    """Draw [draws] a residual of a fit with so many degrees of freedom, or an error `noise` where that is larger."""
    scatter = residuals * np.sqrt(len(residuals) / degrees)
    chi = np.sqrt(degrees / np.maximum(rng.chisquare(degrees, draws), 1e-12))
    error = chi * rng.choice(scatter, draws)
    spread = float(np.sqrt(np.mean(scatter**2)))
    return error + np.sqrt(max(noise**2 - spread**2, 0.0)) * rng.standard_normal(draws)


def fit_parametric(cells: Cells, rng: np.random.Generator, replicates: int) -> Parametric:
    """Huber fit, and draws of it by resampling clusters of cells.

    The errors of one run's checkpoints, and of one size, belong together, so whole clusters (`Cells.cluster`) are
    drawn: a replicate weighs each by a gamma variate of mean 1, which resamples pairs without ever losing a size. With
    many clusters its variance is 1 (the Bayesian bootstrap, Rubin 1981), with few of them (t(d) / z)^2 G / d with
    d = G - 3: with 1, replicates are too close to each other.

    Raises FitError with fewer than 7 cells, 3 sizes or 3 amounts of data: five parameters need them.
    """
    use = np.isfinite(cells.samples)
    log_params, log_samples = np.log(cells.params[use]), np.log(cells.fresh[use])
    cost, n = cells.cost[use], int(use.sum())
    sizes, amounts = len(np.unique(np.round(log_params, 2))), len(np.unique(np.round(log_samples, 2)))
    if n < SIZE + 2 or sizes < 3 or amounts < 3:
        raise FitError(
            f"the law of params and samples needs at least 7 cells, 3 sizes and 3 amounts of data; there are {n},"
            f" {sizes} and {amounts}"
        )
    centre = float(log_params.mean()), float(log_samples.mean())
    x, y = log_params - centre[0], log_samples - centre[1]
    theta = search(x, y, cost)
    fitted = curve(theta[None], x, y)[0][0]
    draws = refit(lambda some: curve(some, x, y), cost, theta, cluster_weights(cells.cluster[use], rng, replicates))
    compute = compute_of(log_params, np.log(cells.samples[use]), np.log(cells.flops[use]))
    in_size, in_data = ((float(v.min()), float(v.max())) for v in (x, y))
    largest = float(cells.flops[use].max())
    return Parametric(cells.target, theta, draws, centre, cost - fitted, n - SIZE, compute, in_size, in_data, largest)


def cluster_weights(cluster: np.ndarray, rng: np.random.Generator, replicates: int) -> np.ndarray:
    """Return the weights [R, n] of cells in each replicate, one a cluster; cluster [n]."""
    _, of = np.unique(cluster, return_inverse=True)
    count = int(of.max()) + 1
    shape = _shape(count)
    return rng.gamma(shape, 1 / shape, (replicates, count))[:, of]


def _shape(count: int) -> float:
    """Return the shape of the weights of `count` clusters: one over their variance, 1 with many."""
    degrees = max(count - BETWEEN, FEWEST)
    top = (1 + LEVEL) / 2
    spread = stats.t.ppf(top, degrees) / stats.norm.ppf(top)
    return float(np.clip(degrees / count / spread**2, LEAST_SHAPE, 1.0))


def flops_of(compute: tuple[float, float, float], params: float, samples: float) -> float:
    return float(np.exp(compute[0] + compute[1] * np.log(params) + compute[2] * np.log(samples)))


def compute_of(log_params: np.ndarray, log_samples: np.ndarray, log_flops: np.ndarray) -> tuple[float, float, float]:
    """Fit ln C = k0 + k1 ln N + k2 ln D by least squares over the cells; 6 N D has k1 = k2 = 1."""
    design = np.stack([np.ones(len(log_params)), log_params, log_samples], axis=1)
    k0, k1, k2 = np.linalg.lstsq(design, log_flops, rcond=None)[0]
    return float(k0), float(k1), float(k2)


def search(x: np.ndarray, y: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the best minimum [5] of all starts; of a long table they use every k-th cell, the best one all."""
    some = slice(None, None, -(-len(cost) // FEW))
    seen = cost[some]
    starts = search_starts(x[some], y[some], seen)
    thetas, values = solve(lambda theta: curve(theta, x[some], y[some]), seen, starts, 200)
    theta = thetas[int(np.argmin(values))]
    return theta if len(cost) <= FEW else solve(lambda theta: curve(theta, x, y), cost, theta[None], 200)[0][0]


def search_starts(x: np.ndarray, y: np.ndarray, cost: np.ndarray, count: int = STARTS) -> np.ndarray:
    """Return the best places [count, 5] of a grid of both exponents, by variable projection (Golub and Pereyra 1973).

    Given the exponents, E, A and B are linear: non-negative least squares of relative errors. Every set of terms that
    may be in it is solved, at all places at once; the best without a negative coefficient is the solution. Czech et al.
    (arXiv 2603.22339) fit the law so; here its places are the starts of the Huber fit.
    """
    level = float(cost.mean())
    inverse = np.exp(level - cost)
    by_size, by_data = (inverse * np.exp(-EXPONENTS[:, None] * v) for v in (x, y))
    k, n = len(EXPONENTS), len(cost)
    grid = np.stack(np.broadcast_arrays(inverse, by_size[:, None], by_data[None]), axis=2).reshape(k * k, 3, n)
    scale = np.linalg.norm(grid, axis=2)
    grid = grid / scale[:, :, None]
    normal, right = grid @ np.swapaxes(grid, 1, 2), grid.sum(axis=2)
    least, found = np.full(len(grid), np.inf), np.zeros((len(grid), 3))
    for some in (list(c) for size in (3, 2, 1) for c in combinations(range(3), size)):
        part = normal[:, some][:, :, some] + 1e-12 * np.eye(len(some))
        solved = np.linalg.solve(part, right[:, some, None])[:, :, 0]
        rss = n - np.sum(solved * right[:, some], axis=1)
        better = (solved >= 0).all(axis=1) & (rss < least)
        least[better], found[better] = rss[better], 0.0
        found[np.ix_(better, some)] = solved[better]
    terms = np.log(np.maximum(found / scale, 1e-8)) + level
    alpha, beta = np.log(np.repeat(EXPONENTS, k)), np.log(np.tile(EXPONENTS, k))
    order = np.argsort(least, kind="stable")[:count]
    return np.stack([terms[:, 0], terms[:, 1], alpha, terms[:, 2], beta], axis=1)[order]


def refit(law: Curve, cost: np.ndarray, theta: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Refit a law with each weight [R, n], from `theta` and, where its floor is far below the data, also from one near.

    The first of the law's parameters is its floor.
    """
    start = np.tile(theta, (len(weight), 1))
    first, value = solve(law, cost, start, 40, REFIT_TOLERANCE, weight)
    half = float(cost.min()) + np.log(0.5)
    if theta[0] > half + np.log(0.1):
        return first
    start[:, 0] = half
    second, other = solve(law, cost, start, 40, REFIT_TOLERANCE, weight)
    return np.where((other < value)[:, None], second, first)


def solve(
    law: Curve, cost: np.ndarray, start: np.ndarray, iterations: int, tolerance: float = 1e-7,
    weight: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Minimise the Huber loss of a law of the cost [n] from each start [R, P]; return the minima and their losses."""

    def residuals(theta: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted, jacobian = law(theta)
        if weight is None:
            return fitted - cost, jacobian
        return (fitted - cost) * weight[rows], jacobian * weight[rows][:, :, None]

    return minimise(residuals, start, delta=DELTA, iterations=iterations, tolerance=tolerance)
