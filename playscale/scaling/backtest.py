"""Rolling-origin backtest: fit on the budgets up to one, predict all that lie beyond, and compare.

A candidate is a form and the decades of compute, counted back from the last budget seen, that it is fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.cells import Target
from playscale.scaling.frontier import BROKEN, POWER, SATURATING, Form, Law, fit_law
from playscale.scaling.powerlaw import LEVEL


@dataclass(frozen=True)
class Candidate:
    form: Form
    decades: float = float("inf")

    def name(self, target: str) -> str:
        """For people: a saturating return is bounded."""
        name = "bounded" if self.form is SATURATING and target == "return_mean" else self.form.name
        return name if np.isinf(self.decades) else f"{name}, last {self.decades:g} decades"

    def window(self, flops: np.ndarray) -> np.ndarray:
        """Mask [B] of the budgets it is fitted to; rising flops."""
        return flops >= flops[-1] / 10**self.decades * (1 - 1e-6)


ORIGINS = 24

PLAIN = Candidate(POWER)
CANDIDATES = (PLAIN, Candidate(SATURATING), Candidate(BROKEN), Candidate(POWER, 2.0), Candidate(SATURATING, 2.0))


@dataclass(frozen=True)
class Frontier:
    """The best cell of each budget [B], rising: FLOPs, cost, measurement error of the cost (0 where unknown)."""

    target: Target
    flops: np.ndarray
    cost: np.ndarray
    noise: np.ndarray

    def fit(
        self, candidate: Candidate, rng: np.random.Generator, replicates: int, extra: tuple[float, int] = (0.0, 0)
    ) -> Law:
        """FitError when the window holds fewer budgets than the form takes."""
        use = candidate.window(self.flops)
        return fit_law(candidate.form, self.flops[use], self.cost[use], self.noise[use], rng, replicates, extra)

    def fits(self, candidate: Candidate) -> bool:
        """Whether the window holds enough budgets for the form, with one to spare for the scatter."""
        count = int(candidate.window(self.flops).sum())
        return count >= candidate.form.budgets and count > candidate.form.size

    def upto(self, count: int) -> Frontier:
        return Frontier(self.target, self.flops[:count], self.cost[:count], self.noise[:count])


@dataclass(frozen=True)
class Prediction:
    """One budget predicted from the budgets up to `from_flops`: log error and the 95 % interval around it."""

    candidate: Candidate
    from_flops: float
    flops: float
    error: float
    low: float
    high: float

    @property
    def decades_ahead(self) -> float:
        return float(np.log10(self.flops / self.from_flops))

    @property
    def inside(self) -> bool:
        return self.low <= self.error <= self.high

    @property
    def strain(self) -> float:
        """The error in units of the interval's half on its side."""
        half = self.high if self.error > 0 else -self.low
        return abs(self.error) / max(half, 1e-12)


@dataclass(frozen=True)
class BacktestRow:
    """Predictions of one candidate from one budget, to within half a decade of `decades_ahead`."""

    target: str
    form: str
    from_flops: float
    decades_ahead: float
    median_log_error: float
    coverage: float


def backtest(frontier: Frontier, rng: np.random.Generator, replicates: int = 100) -> list[Prediction]:
    """Predictions of every candidate from every budget that leaves it a degree of freedom, at most ORIGINS of them."""
    predictions: list[Prediction] = []
    last = len(frontier.flops) - 1
    for count in np.unique(np.linspace(min(3, last), last, min(ORIGINS, max(last - 2, 1))).astype(int)).tolist():
        seen = frontier.upto(count)
        for candidate in CANDIDATES:
            if seen.fits(candidate):
                predictions += _predict(frontier, seen, candidate, rng, replicates)
    return predictions


def _predict(
    frontier: Frontier, seen: Frontier, candidate: Candidate, rng: np.random.Generator, replicates: int
) -> list[Prediction]:
    ahead = slice(len(seen.flops), None)
    law = seen.fit(candidate, rng, replicates)
    draws = law.predict(frontier.flops[ahead], rng)
    if draws is None:
        return []
    expected = law.cost(frontier.flops[ahead])
    low, high = np.quantile(draws - expected, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    error = frontier.cost[ahead] - expected
    return [
        Prediction(candidate, float(seen.flops[-1]), float(c), float(e), float(lo), float(hi))
        for c, e, lo, hi in zip(frontier.flops[ahead], error, low, high, strict=True)
    ]


def backtest_rows(target: str, predictions: Sequence[Prediction]) -> list[BacktestRow]:
    groups: dict[tuple[Candidate, float, float], list[Prediction]] = {}
    for p in predictions:
        groups.setdefault((p.candidate, p.from_flops, float(np.ceil(2 * p.decades_ahead - 1e-9) / 2)), []).append(p)
    return [
        BacktestRow(
            target,
            key[0].name(target),
            *key[1:],
            float(np.median([abs(p.error) for p in own])),
            sum(p.inside for p in own) / len(own),
        )
        for key, own in groups.items()
    ]


def scores(predictions: Sequence[Prediction]) -> dict[Candidate, float]:
    """Geometric mean of the log errors (plus 0.001) of each candidate, on the predictions all of them made.

    The geometric mean, since errors grow with distance: a mean would be decided by the earliest budgets alone. A
    candidate that made fewer than half of the power law's predictions has no score.
    """
    made: dict[Candidate, dict[tuple[float, float], float]] = {}
    for p in predictions:
        made.setdefault(p.candidate, {})[p.from_flops, p.flops] = abs(p.error)
    most = max((len(own) for own in made.values()), default=0)
    made = {name: own for name, own in made.items() if 2 * len(own) >= most}
    common = set.intersection(*(set(own) for own in made.values())) if made else set()
    if not common:
        return {}
    return {name: float(np.exp(np.mean([np.log(own[key] + 1e-3) for key in common]))) for name, own in made.items()}
