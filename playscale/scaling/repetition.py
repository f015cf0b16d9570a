"""The law of repeated data, L(N, U, e) = E + A / N'^alpha + B / D'^beta: e passes over U unique samples.

Muennighoff et al. 2023 (arXiv 2305.16264), equations 5 and 6: D' = U + U R_D (1 - exp(-(e - 1) / R_D)), and N' is the
same of the size U_N that is best for U samples seen once, exceeded N / U_N - 1 times. All seven parameters are fitted
at once, as those of the law of params and samples (`playscale.scaling.parametric`), whose Huber loss and resampling of
clusters it has. Legend: n cells, R problems, m places, P = 7 parameters (ln E, ln A, ln alpha, ln B, ln beta, ln R_D,
ln R_N), A and B about the mean of log N and log U.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from playscale.scaling.bound import UNBOUNDED, Bound, bound
from playscale.scaling.cells import REUSE, SAME_COMPUTE, Cells, FitError, count_sizes
from playscale.scaling.numbers import counted
from playscale.scaling.parametric import (
    EXPONENT_RANGE,
    FEW,
    Parametric,
    cluster_weights,
    compute_of,
    measurement_error,
    refit,
    search,
    solve,
    sum_of_terms,
)  # fmt: skip

SIZE = 7
# The constants of Muennighoff et al., of 182 language models; where the fit of R_N starts, and what it is where no cell
# has more parameters than are best for its unique data.
PUBLISHED = {"R_D": REUSE, "R_N": 5.31}
STARTS = tuple((rd, rn) for rd in (3.0, REUSE, 60.0) for rn in (1.5, PUBLISHED["R_N"], 30.0))
# Constants of repetition that the optimiser may try, and those that the data tell from nothing and from all: 1 % of the
# data, or as much more than was tried as changes D' by 1 %.
LEAST, MOST = 1e-2, 1e4
FAR = 50.0
# Below this largest N / U_N - 1 no cell tells R_N.
FEWEST_EXCESS = 0.5
# What the law needs: cells with data seen again, at so many numbers of passes.
FEWEST_AGAIN, FEWEST_PASSES = 8, 3
# A cell is worse than one of no more parameters, unique data and passes by at least so many times the scatter of cells
# about the law: chosen on planted laws (python -m benchmarks.repetition).
OVERFIT = 3.0
LEAST_MARGIN = 0.002
# Fits, each to the cells that had not overfitted by the scatter about the one before.
ROUNDS, ITERATIONS = 4, 100
MAD = 1.4826


@dataclass(frozen=True, eq=False)
class Repetition:
    """The fitted law and its draws. theta [7]; draws [R, 7]; residuals [n] of the cost.

    near: the law of params and samples with the same centre and compute, for what does not depend on repetition.
    cells: those with samples; over: the mask of those that had overfitted, and are not fitted. excess: the largest
    N / U_N - 1 of those fitted.
    """

    near: Parametric
    theta: np.ndarray
    draws: np.ndarray
    residuals: np.ndarray
    cells: Cells
    over: np.ndarray
    excess: float

    @property
    def passes(self) -> float:
        """Return the most passes over the data of any cell fitted."""
        return float(self.cells.epochs[~self.over].max())

    @property
    def again(self) -> int:
        """Return how many cells fitted have seen data again."""
        return int((self.cells.epochs[~self.over] > SAME_COMPUTE).sum())

    @property
    def largest_corpus(self) -> float:
        """Return the most unique samples of a cell that has seen data again."""
        return float((self.cells.samples / self.cells.epochs)[self.cells.epochs > SAME_COMPUTE].max())

    @property
    def every(self) -> np.ndarray:
        """Return the fit and its draws, [1 + R, 7]."""
        return np.concatenate([self.theta[None], self.draws])

    def cost(self, log_params: np.ndarray, log_unique: np.ndarray, passes: np.ndarray) -> np.ndarray:
        """Return the cost [1 + R, m] of the fit and its draws; arguments [m] or [1 + R, m], natural logarithms."""
        x, u = log_params - self.near.centre[0], log_unique - self.near.centre[1]
        return curve(self.every, x, u, passes - 1, self.ratio)[0]

    @property
    def ratio(self) -> float:
        """Return k1 / k2 of C ~ N^k1 D^k2."""
        return _ratio(self.near.compute)

    def error(self, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """Draw [R] the error of a measurement."""
        return measurement_error(self.residuals, len(self.residuals) - SIZE, len(self.draws), rng, noise)

    def worth(self, passes: np.ndarray) -> np.ndarray:
        """Return D' / U [1 + R, m] after so many passes [m], by the fit and its draws."""
        return worth(_constants(self.every)[0], passes)

    def passes_until(self, share: float) -> Bound:
        """Return the passes after which a further one is worth `share` of the first: 1 - R_D ln(share)."""
        again = self.parameters()["R_D"]
        value, low, high = (None if r is None else 1 - float(np.log(share)) * r for r in again[:3])
        return Bound(value, low, high, again.reason if value is None or low is None or high is None else None)

    def parameters(self, offset: float = 0.0, floor: float = -np.inf) -> dict[str, Bound]:
        """Return E (or R_max), A, alpha, B, beta in the target's units, R_D and R_N."""
        named = self.near.parameters(offset, floor)
        rd, rn = _constants(self.every)
        named["R_D"] = bound(rd[:, 0], 2 * LEAST, min(FAR * (self.passes - 1), MOST / 2))
        if self.excess < FEWEST_EXCESS:
            return named | {"R_N": Bound(None, None, None, UNBOUNDED)}
        return named | {"R_N": bound(rn[:, 0], 2 * LEAST, min(FAR * self.excess, MOST / 2))}


def worth(constant: np.ndarray | float, passes: np.ndarray) -> np.ndarray:
    """Return D' / U after so many passes: 1 + R_D (1 - e^(-(e - 1) / R_D))."""
    return 1 - constant * np.expm1(-(passes - 1) / constant)


def fit_repetition(cells: Cells, rng: np.random.Generator, replicates: int) -> Repetition:
    """Fit the law to all cells but those that have overfitted, and draw it by resampling clusters of cells.

    Raises FitError with fewer than 9 cells, 3 sizes, 8 cells with data seen again or 3 numbers of passes.
    """
    cells = cells.where(np.isfinite(cells.samples))
    _check(cells)
    centre = float(np.log(cells.params).mean()), float(np.log(cells.samples / cells.epochs).mean())
    compute = compute_of(np.log(cells.params), np.log(cells.samples), np.log(cells.flops))
    problem = _Problem(cells, centre, _ratio(compute))
    theta = problem.fitted(problem.starts())
    over = np.zeros(len(cells.cost), dtype=bool)
    for _ in range(ROUNDS):
        more = over | _overfitted(cells, problem.residuals(theta))
        if (more == over).all():
            break
        over, fewer = more, cells.where(~more)
        _check(fewer, int(more.sum()))
        problem = _Problem(fewer, centre, _ratio(compute))
        theta = problem.fitted(theta[None])
    weights = cluster_weights(problem.cells.cluster, rng, replicates)
    draws = refit(problem.curve, problem.cells.cost, theta, weights)
    x, u, again = problem.places()
    effective = u + _gain(_constants(theta[None])[0], again)[0][0]
    residuals = problem.residuals(theta)
    near = Parametric(
        cells.target, theta[:5], draws[:, :5], centre, residuals, len(residuals) - SIZE, compute,
        (float(x.min()), float(x.max())), (float(effective.min()), float(effective.max())), float(cells.flops.max()),
    )  # fmt: skip
    excess = float(np.expm1(np.max(x - _best_size(theta[None], u, problem.ratio))))
    return Repetition(near, theta, draws, residuals, cells, over, excess)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The fit of the law to cells [n]; centre: of ln N and ln U; ratio: k1 / k2 of C ~ N^k1 D^k2."""

    cells: Cells
    centre: tuple[float, float]
    ratio: float

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ln N and ln U [n] about the centre, and the passes less one [n]."""
        cells = self.cells
        unique = np.log(cells.samples / cells.epochs)
        return np.log(cells.params) - self.centre[0], unique - self.centre[1], cells.epochs - 1

    def curve(self, theta: np.ndarray, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        x, u, again = (column[rows] for column in self.places())
        return curve(theta, x, u, again, self.ratio)

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        return self.cells.cost - self.curve(theta[None])[0][0]

    def starts(self) -> np.ndarray:
        """Return starts [R, 7]: the law of params and samples with the published value of repeated data, and STARTS."""
        x, _, _ = self.places()
        five = search(x, np.log(self.cells.fresh) - self.centre[1], self.cells.cost)
        return np.array([[*five, np.log(rd), np.log(rn)] for rd, rn in STARTS])

    def fitted(self, starts: np.ndarray) -> np.ndarray:
        """Return the best minimum [7] of all starts; of a long table several use every k-th cell, the best one all."""
        some = slice(None, None, -(-len(self.cells.cost) // FEW) if len(starts) > 1 else 1)
        thetas, values = solve(lambda theta: self.curve(theta, some), self.cells.cost[some], starts, ITERATIONS)
        theta: np.ndarray = thetas[int(np.argmin(values))]
        return theta if some.step == 1 else self.fitted(theta[None])


def _check(cells: Cells, over: int = 0) -> None:
    """Raise FitError where cells are too few; over: how many that had overfitted are not among them."""
    without = f" beside {counted(over, 'cell')} that had overfitted" if over else ""
    again = cells.epochs > SAME_COMPUTE
    many, passes = int(again.sum()), len(np.unique(np.round(np.log(cells.epochs[again]), 2)))
    if many < FEWEST_AGAIN or passes < FEWEST_PASSES:
        raise FitError(
            f"the law of repeated data needs {FEWEST_AGAIN} cells or more whose data were seen again, at"
            f" {FEWEST_PASSES} numbers of passes or more; there are {counted(many, 'cell')} at {passes}{without}"
        )
    sizes = count_sizes(cells.params)
    if len(cells.cost) < SIZE + 2 or sizes < 3:
        raise FitError(
            f"the law of repeated data needs {SIZE + 2} cells and 3 sizes; there are {len(cells.cost)} and {sizes}"
            f"{without}"
        )


def _overfitted(cells: Cells, residuals: np.ndarray) -> np.ndarray:
    """Tell which cells [n] are worse than one of no more parameters, unique data and passes.

    The law falls in all three, so that no constants give it such cells: they have seen their data too often for their
    size.
    """
    margin = max(OVERFIT * MAD * float(np.median(np.abs(residuals))), LEAST_MARGIN)
    columns = [np.log(v) for v in (cells.params, cells.samples / cells.epochs, cells.epochs)]
    same = np.log(SAME_COMPUTE)
    over = np.zeros(len(cells.cost), dtype=bool)
    for i, cost in enumerate(cells.cost):
        below = np.all([column <= column[i] + same for column in columns], axis=0)
        over[i] = cells.cost[below].min() < cost - margin
    return over


def _ratio(compute: tuple[float, float, float]) -> float:
    """Return k1 / k2 of C ~ N^k1 D^k2; 1, as of 6 N D, where compute does not grow with both."""
    _, k1, k2 = compute
    return k1 / k2 if k1 > 0 and k2 > 0 else 1.0


def _constants(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return R_D and R_N, [R, 1] each."""
    rd, rn = (np.exp(np.clip(theta[:, i : i + 1], np.log(LEAST), np.log(MOST))) for i in (5, 6))
    return rd, rn


def _gain(constant: np.ndarray, again: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln(1 + r (1 - e^(-t / r))) and its derivatives by ln r and t; constant r [R, 1], again t [m] or [R, m]."""
    left = np.exp(-again / constant)
    whole = 1 + constant * (1 - left)
    return np.log(whole), (constant * (1 - left) - again * left) / whole, left / whole


def _best_size(theta: np.ndarray, u: np.ndarray, ratio: float) -> np.ndarray:
    """Return ln U_N [R, m]: the size at which a budget that sees exp(u) samples once is spent best."""
    _, a, log_alpha, b, log_beta = (theta[:, i : i + 1] for i in range(5))
    log_alpha, log_beta = np.clip(log_alpha, *EXPONENT_RANGE), np.clip(log_beta, *EXPONENT_RANGE)
    return (log_alpha - log_beta - np.log(ratio) + a - b + np.exp(log_beta) * u) / np.exp(log_alpha)


def curve(
    theta: np.ndarray, x: np.ndarray, u: np.ndarray, again: np.ndarray, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return cost [R, m] and its derivatives [R, m, 7] by theta [R, 7].

    x: ln N, u: ln U, both about the centre, and again: passes less one; each [m] or [R, m].
    ratio: k1 / k2 of C ~ N^k1 D^k2.
    """
    floor, a, log_alpha, b, log_beta = (theta[:, i : i + 1] for i in range(5))
    alpha, beta = np.exp(np.clip(log_alpha, *EXPONENT_RANGE)), np.exp(np.clip(log_beta, *EXPONENT_RANGE))
    rd, rn = _constants(theta)
    best = _best_size(theta, u, ratio)
    with np.errstate(over="ignore"):
        excess = np.minimum(np.expm1(np.maximum(x - best, 0.0)), 1e12)
    more, by_rn, by_excess = _gain(rn, excess)
    seen, by_rd, _ = _gain(rd, again)
    size, data = np.minimum(best, x) + more, u + seen
    moved = np.where(x > best, 1 - (1 + excess) * by_excess, 0.0)  # d size / d best
    cost, (of_floor, of_size, of_data) = sum_of_terms((floor, a - alpha * size, b - beta * data))
    columns = (
        of_floor + np.zeros_like(cost),
        of_size * (1 - moved),
        of_size * (-alpha * size - moved * (1 - alpha * best)),
        of_size * moved + of_data,
        of_size * moved * (1 - beta * u) - of_data * beta * data,
        -of_data * beta * by_rd,
        -of_size * alpha * by_rn,
    )
    return cost, np.stack(np.broadcast_arrays(*columns), axis=2)
