"""The interval that a forecast is expected to have after more runs.

The draws of the fitted laws say how uncertain the best cost is at the target, how uncertain it is at other budgets, and
how the two go together. A measurement there narrows the draws by linear Bayes, the Gaussian posterior of their
covariance (Chaloner and Verdinelli 1995, Bayesian experimental design, section 2):

    var(target | measured) = var(target) - c' (S + noise)^-1 c,   c = cov(measured, target), S = cov(measured)

What a budget measures is what the fit will take from it: the cost of its best cell, where the best size has trained
ones on both sides (`isoflop.bounds`). Legend: R draws, I sizes, L levels (budgets at which runs have checkpoints).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtr

from playscale.scaling.cells import Cells
from playscale.scaling.choice import OF_FORM
from playscale.scaling.forecast import Forecast
from playscale.scaling.frontier import FrontierLaw
from playscale.scaling.isoflop import WINDOW, Profile, scatter_of, small_gain
from playscale.scaling.powerlaw import LEVEL, PowerLaw
from playscale.scaling.target_fit import TargetFit, frontier_of

DRAWS = 200
# Of the variance of a checkpoint about the law, what all checkpoints of its run have in common.
OF_RUN = 0.5
# Share of the draws, at either end, that counts as its quantile: the last exponent of some laws is nearly free.
CUT = 0.005
FEWEST_SIZES = 3  # at a budget, for its best cell to be a measurement
# Factor between a size and the best one from which on its checkpoint says nothing of the best.
FAR_SIZE = 4.0
MOST_PLAYED = 0.9  # of the noise of a return, what is at most due to its number of episodes


@dataclass(frozen=True, eq=False)
class Levels:
    """Budgets, and sizes there, as the draws have them.

    sizes [I], flops [L], rising; cost [R, L]: the best cost; best [R, L]: ln of the best size; off [R, I, L]: how much
    worse a size is; useful [I, L]: it is near enough to the best to say something of it. Of the cells that are trained
    already: old_off [R, L]: how much worse the best of them is, low and high [L]: ln of their smallest and largest size
    (inf where there is none), count [L], known [L]: they measure the best of the budget; moments [5, L]: of their
    window's ln size about `centre` [L].
    """

    sizes: np.ndarray
    flops: np.ndarray
    cost: np.ndarray
    best: np.ndarray
    off: np.ndarray
    useful: np.ndarray
    old_off: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    known: np.ndarray
    centre: np.ndarray
    moments: np.ndarray


@dataclass(frozen=True, eq=False)
class Outlook:
    """The forecast of the best of a budget, and what is known of what would narrow it.

    forecast: as it is now; params: the law of the best size, student [R, 2] its draws; curvature [R]: of the profiles;
    far [R]: the best cost at the target; measured [B]: whether the best of each budget is measured; noise: of a best
    cell about the law; scatter: of cells about their parabolas; small: cost that is none (`small_gain`); played: the
    part of the noise's variance that is due to the number of episodes; usual_off: how much worse the nearest size of a
    budget is than the best one, on average.
    """

    forecast: Forecast
    cells: Cells
    laws: tuple[FrontierLaw, ...]
    params: PowerLaw
    student: np.ndarray
    curvature: np.ndarray
    far: np.ndarray
    measured: np.ndarray
    noise: float
    scatter: float
    small: float
    played: float
    usual_off: float

    def levels(self, sizes: np.ndarray, flops: np.ndarray, far: float = FAR_SIZE) -> Levels:
        """Return sizes [I] at budgets [L]; far: factor from the best size from which on one says nothing."""
        best, log_sizes = self._best(flops), np.log(sizes)
        old, count = np.full(best.shape, np.inf), np.zeros(len(flops), dtype=int)
        low, high = np.full(len(flops), np.inf), np.full(len(flops), -np.inf)
        centre, moments = np.median(best, axis=0), np.zeros((5, len(flops)))
        for level, budget in enumerate(flops):
            own = np.log(self.cells.params[self.cells.flops == budget])
            if len(own):
                old[:, level] = self.curvature * np.min((own - best[:, [level]]) ** 2, axis=1)
                low[level], high[level], count[level] = own.min(), own.max(), len(own)
                inside = own[np.abs(own - centre[level]) <= np.log(WINDOW)] - centre[level]
                moments[:, level] = [np.sum(inside**k) for k in range(5)]
        off = self.curvature[:, None, None] * (log_sizes[:, None] - best[:, None]) ** 2
        useful = np.abs(log_sizes[:, None] - centre) <= np.log(far)
        known = np.isin(flops, self.cells.budgets[self.measured])
        cost = _drawn(self.laws, flops)
        return Levels(sizes, flops, cost, best, off, useful, old, low, high, count, known, centre, moments)

    def _best(self, flops: np.ndarray) -> np.ndarray:
        """Draw ln of the best size [R, L]: the line of its law, known best in the middle of the budgets."""
        law, x = self.params, np.log(flops)
        if law.low is None or law.high is None:
            return np.broadcast_to(law.log_coefficient + law.exponent * x, (len(self.far), len(x)))
        level = np.sqrt(np.sum(np.square(law.residuals)) / (law.n - 2) / law.n)
        slope = (law.high - law.low) / 2 / stats.t.ppf((1 + LEVEL) / 2, law.n - 2)
        line = law.log_coefficient + law.exponent * x
        return line + self.student[:, :1] * level + self.student[:, 1:] * slope * (x - law.centre)

    def width(self, levels: Levels, runs: np.ndarray, episodes: float = 1.0) -> float:
        """Return the width that the interval is expected to have, in logarithms, over the one it has.

        Args:
            levels: of the runs.
            runs: [I, L], how many runs of each size end at each level.
            episodes: of each new agent, over those of the agents so far.
        """
        seeds = np.cumsum(runs[:, ::-1], axis=1)[:, ::-1] * levels.useful
        share, off = self._measured(levels, seeds)
        use = share.sum(axis=0) > 0.05
        share, off, new = share[:, use], off[:, use], int(np.sum(use & ~np.isin(levels.flops, self.cells.budgets)))
        # The fit takes one scatter for all budgets, so that more seeds or episodes at some of them lower it a little.
        repeats = np.sum(share / np.maximum(seeds[:, use], 1), axis=0) / share.sum(axis=0)
        before = int(self.measured.sum())
        played = 1 + self.played * (1 / episodes - 1)
        scatter = (before + played * float(repeats.sum())) / (before + len(repeats))
        form = (1 + OF_FORM / (len(self.measured) + new)) / (1 + OF_FORM / len(self.measured))
        left, now = self._left(share, levels.cost[:, use], off), float(np.var(self.far))
        return form * float(np.sqrt(scatter * (left + self.noise**2) / (now + self.noise**2)))

    def _measured(self, levels: Levels, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of draws in which a new size [I, L] gives the best of a level, and the best's excess [R, L].

        The best is measured where there are FEWEST_SIZES, it is not outside their range by more than `small`, and noise
        does not turn their parabola over. Where it was measured before, a new size adds to it only by being nearer.
        """
        there, log_sizes = seeds > 0, np.log(levels.sizes)[:, None]
        off = np.where(there, levels.off, np.inf)
        least = off.min(axis=1)
        low = np.minimum(levels.low, np.where(there, log_sizes, np.inf).min(axis=0))
        high = np.maximum(levels.high, np.where(there, log_sizes, -np.inf).max(axis=0))
        outside = np.maximum(np.maximum(low - levels.best, levels.best - high), 0)
        inside = self.curvature[:, None] * outside**2 <= self.small
        enough = there.any(axis=0) & (levels.count + there.sum(axis=0) >= FEWEST_SIZES)
        counts = inside & enough & (~levels.known | (least <= levels.old_off))
        place = off.argmin(axis=1) * len(levels.flops) + np.arange(len(levels.flops))
        share = np.bincount(place[counts], minlength=seeds.size).reshape(seeds.shape) / len(off)
        return share * self._curves(levels, seeds), np.where(enough, np.minimum(least, levels.old_off), 0)

    def _curves(self, levels: Levels, seeds: np.ndarray) -> np.ndarray:
        """Return the probability [L] that the parabola through the sizes of a level has a minimum.

        Its curvature has the standard error scatter / sqrt(Q), with Q the sum of squares of x^2 about its line in x:
        the ratio of two determinants of moments of x = ln size.
        """
        x = np.log(levels.sizes)[:, None] - levels.centre
        s = levels.moments + np.stack([np.sum(seeds * x**k, axis=0) for k in range(5)])
        three, two = (np.moveaxis(np.array([[s[i + j] for j in range(n)] for i in range(n)]), 2, 0) for n in (3, 2))
        about = np.maximum(np.linalg.det(three), 0) / np.maximum(np.linalg.det(two), 1e-12)
        return ndtr(float(np.median(self.curvature)) * np.sqrt(about) / max(self.scatter, 1e-9))

    def _left(self, share: np.ndarray, cost: np.ndarray, off: np.ndarray) -> float:
        """Return the variance of the best cost at the target that is left; share [I, m], cost and off [R, m].

        A best size that is further from the sizes than usual is an error of its own, of which the fit knows nothing.
        """
        known = share.sum(axis=0)
        alike = share / known
        noise = OF_RUN * alike.T @ alike
        noise[np.diag_indices_from(noise)] = 1  # a run's checkpoints are alike, and each is itself
        bias = np.maximum(off.mean(axis=0) - self.usual_off, 0) / self.noise
        noise += np.diag(1 / known - 1 + bias**2)  # what may turn out to be no measurement counts for less
        found = cost + off
        draws, far = found - found.mean(axis=0), self.far - self.far.mean()
        both, covariance = draws.T @ far / len(far), draws.T @ draws / len(far) + self.noise**2 * noise
        return float(np.var(far) - both @ np.linalg.solve(covariance, both))


def make_outlook(result: TargetFit, forecast: Forecast, rng: np.random.Generator) -> Outlook:
    """Return the outlook of a forecast from the fit of its target, which recommends sizes and has draws."""
    laws = tuple(law for law in result.choice.laws if isinstance(law, FrontierLaw) and law.draws is not None)
    assert laws
    assert result.forecaster.params is not None
    params, profiles = result.forecaster.params.law, result.profiles
    far = _drawn(laws, np.array([forecast.flops]))[:, 0]
    curvatures = np.array([c for p in profiles if (c := p.curvature) is not None])
    noise = max(result.choice.law.sd, result.forecaster.noise)
    return Outlook(
        forecast, result.cells, laws, params, rng.standard_t(max(params.n - 2, 1), (len(far), 2)),
        np.median(rng.choice(curvatures, (len(far), len(curvatures))), axis=1), far,
        ~frontier_of(result.cells, profiles).bounds, noise,
        scatter_of(profiles) or noise, small_gain(profiles), _played(result.cells, profiles, noise),
        float(np.median(curvatures)) * _step(result.cells) ** 2 / 12,
    )  # fmt: skip


def _drawn(laws: Sequence[FrontierLaw], flops: np.ndarray) -> np.ndarray:
    """Return the draws [R, m] of the best cost at budgets, equally many of each law, the outermost ones cut."""
    each = [drawn[: -(-DRAWS // len(laws))] for law in laws if (drawn := law.drawn(flops)) is not None]
    every = np.concatenate(each)
    return np.clip(every, *np.quantile(every, [CUT, 1 - CUT], axis=0))


def _played(cells: Cells, profiles: Sequence[Profile], noise: float) -> float:
    """Return the part of the variance of best returns about their law that more episodes would lower."""
    if cells.target != "return_mean" or noise == 0:
        return 0.0
    rows = [np.argmin(np.abs(cells.cost - p.argmin_cost) + (cells.flops != p.flops)) for p in profiles]
    error = float(np.nanmedian(cells.error[rows])) if np.isfinite(cells.error[rows]).any() else 0.0
    return min(MOST_PLAYED, (error / noise) ** 2)


def _step(cells: Cells) -> float:
    """Return the usual step between the sizes of a budget, a logarithm: a best size lies anywhere between two."""
    steps = [np.diff(np.unique(np.log(cells.params[cells.flops == budget]))) for budget in cells.budgets]
    return float(np.median(np.concatenate(steps)))
