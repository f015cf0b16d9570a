"""Rolling-origin backtest: fit on the budgets up to one, predict all that lie beyond, and compare.

A candidate is a form and the decades of compute, counted back from the last budget seen, that it is fitted to.
Legend: B budgets, R draws; an origin is the number of budgets seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from playscale.scaling.cells import Target
from playscale.scaling.frontier import BROKEN, POWER, SATURATING, Form, FrontierLaw, fit_law, fit_laws, limited
from playscale.scaling.powerlaw import LEVEL

ORIGINS = 24
FIRST = 3


@dataclass(frozen=True)
class CandidateLaw:
    form: Form
    decades: float = float("inf")

    def name(self, target: str) -> str:
        """Name the candidate for people: a saturating return is bounded."""
        name = "bounded" if self.form is SATURATING and target == "return_mean" else self.form.name
        return name if np.isinf(self.decades) else f"{name}, last {self.decades:g} decades"

    def window(self, flops: np.ndarray) -> np.ndarray:
        """Return the mask [B] of the budgets that it is fitted to; flops rise."""
        return flops >= flops[-1] / 10**self.decades * (1 - 1e-6)

    @property
    def straight(self) -> bool:
        return self.form is POWER

    @property
    def broken(self) -> bool:
        return self.form is BROKEN


PLAIN = CandidateLaw(POWER)
LEVELLING = CandidateLaw(SATURATING)
BREAKING = CandidateLaw(BROKEN)
CANDIDATES = (PLAIN, LEVELLING, BREAKING, CandidateLaw(POWER, 2.0), CandidateLaw(SATURATING, 2.0))


def candidates(target: Target, limits: Sequence[tuple[str, float]] = ()) -> tuple[CandidateLaw, ...]:
    """Return CANDIDATES, and for returns one more for each known limit (its name, the return)."""
    known = limits if target == "return_mean" else ()
    return CANDIDATES + tuple(
        CandidateLaw(limited(f"bounded by {name}", -float(np.log(value)))) for name, value in known
    )


@dataclass(frozen=True)
class Frontier:
    """The best cell of each budget [B], rising: FLOPs, cost, measurement error of the cost (0 where unknown)."""

    target: Target
    flops: np.ndarray
    cost: np.ndarray
    noise: np.ndarray

    def fit(
        self, candidate: CandidateLaw, rng: np.random.Generator, replicates: int, extra: tuple[float, int] = (0.0, 0)
    ) -> FrontierLaw:
        """Fit a candidate to its window. Raises FitError when the window holds fewer budgets than the form takes."""
        use = candidate.window(self.flops)
        return fit_law(candidate.form, self.flops[use], self.cost[use], self.noise[use], rng, replicates, extra)

    def fits(self, candidate: CandidateLaw) -> bool:
        """Tell whether the window holds enough budgets for the form, with one to spare for the scatter."""
        count = int(candidate.window(self.flops).sum())
        return count >= candidate.form.budgets and count > candidate.form.size

    def upto(self, count: int) -> Frontier:
        return Frontier(self.target, self.flops[:count], self.cost[:count], self.noise[:count])


@dataclass(frozen=True)
class Prediction:
    """One budget predicted from the budgets up to `from_flops`: log error and the 95 % interval around it."""

    name: str
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
        """Return the error in units of the interval's half on its side."""
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


@dataclass(frozen=True, eq=False)
class Rolling:
    """One candidate fitted at every origin that leaves it a degree of freedom.

    laws: by origin, the last of them of all budgets; ahead: draws [R, B - origin] of what would be measured beyond.
    """

    frontier: Frontier
    candidate: CandidateLaw
    laws: dict[int, FrontierLaw]
    ahead: dict[int, np.ndarray]

    @cached_property
    def error(self) -> np.ndarray:
        """Return the log error [origin, budget], NaN where nothing was predicted."""
        flops, cost = self.frontier.flops, self.frontier.cost
        table = np.full((len(flops) + 1, len(flops)), np.nan)
        for origin in self.ahead:
            table[origin, origin:] = cost[origin:] - self.laws[origin].cost(flops[origin:])
        return table

    def predictions(self, upto: int) -> list[Prediction]:
        """Return the predictions of the budgets before `upto`, from origins before it."""
        return [p for origin in self.ahead for p in predictions(self, [], origin, upto)]


def predictions(
    rolling: Rolling, sharing: Sequence[Rolling], origin: int, upto: int, widening: float = 1.0
) -> list[Prediction]:
    """Predict the budgets before `upto` from an origin; the draws of `sharing` candidates enter the intervals."""
    own = rolling.ahead.get(origin)
    if own is None or origin >= upto:
        return []
    flops, target = rolling.frontier.flops, rolling.frontier.target
    expected = rolling.laws[origin].cost(flops[origin:upto])
    pool = [one.ahead[origin] for one in sharing if origin in one.ahead]
    low, high = np.quantile(np.concatenate([own, *pool]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    low, high = (np.minimum(low[: upto - origin] - expected, 0), np.maximum(high[: upto - origin] - expected, 0))
    name = rolling.candidate.name(target)
    return [
        Prediction(name, float(flops[origin - 1]), float(flops[origin + i]), float(e), *map(float, ends))
        for i, (e, *ends) in enumerate(
            zip(rolling.error[origin, origin:upto], widening * low, widening * high, strict=True)
        )
    ]


@dataclass(frozen=True, eq=False)
class Backtest:
    """Every candidate at every origin, at most ORIGINS of them, evenly spread."""

    frontier: Frontier
    rolling: dict[CandidateLaw, Rolling]
    origins: tuple[int, ...]

    def scores(self, upto: int, among: Sequence[CandidateLaw], first: int = 0) -> dict[CandidateLaw, float]:
        """Return the geometric mean of the log errors (plus 0.001) of each candidate.

        Over the predictions that all of them made, from origins of at least `first`, of budgets before `upto`.

        The geometric mean, since errors grow with distance: a mean would be decided by the earliest budgets alone. A
        candidate that made fewer than half of the most predictions has no score.
        """
        errors = {c: np.abs(self.rolling[c].error[first:upto, :upto]) for c in among}
        made = {c: np.isfinite(e) for c, e in errors.items()}
        most = max((int(m.sum()) for m in made.values()), default=0)
        kept = [c for c in among if most and 2 * made[c].sum() >= most]
        common = np.all([made[c] for c in kept], axis=0) if kept else np.zeros(0, dtype=bool)
        if not common.any():
            return {}
        return {c: float(np.exp(np.mean(np.log(errors[c][common] + 1e-3)))) for c in kept}

    def shared(self, upto: int, among: Sequence[CandidateLaw], first: int) -> int:
        """Count the predictions of budgets before `upto`, from origins of at least `first`, that all of them made."""
        made = [np.isfinite(self.rolling[c].error[first:upto, :upto]) for c in among]
        return int(np.sum(np.all(made, axis=0)))

    def predictions(self) -> list[Prediction]:
        whole = len(self.frontier.flops)
        return [p for rolling in self.rolling.values() for p in rolling.predictions(whole)]


def backtest(frontier: Frontier, among: Sequence[CandidateLaw], rng: np.random.Generator, replicates: int) -> Backtest:
    """Fit every candidate at every origin."""
    whole = len(frontier.flops)
    first = min(FIRST, whole)
    spread = np.linspace(first, whole - 1, min(ORIGINS, max(whole - first, 1)))
    origins = tuple(np.unique(spread.astype(int)).tolist())
    rolling = {c: _roll(frontier, c, sorted({*origins, whole}), rng, replicates) for c in among}
    return Backtest(frontier, rolling, origins)


def _roll(
    frontier: Frontier, candidate: CandidateLaw, origins: Sequence[int], rng: np.random.Generator, replicates: int
) -> Rolling:
    fitting = [origin for origin in origins if frontier.upto(origin).fits(candidate)]
    flops, whole = frontier.flops, len(frontier.flops)
    if not fitting:
        return Rolling(frontier, candidate, {}, {})
    seen = np.zeros((len(fitting), whole), dtype=bool)
    for row, origin in zip(seen, fitting, strict=True):
        row[:origin] = candidate.window(flops[:origin])
    laws = fit_laws(candidate.form, flops, frontier.cost, frontier.noise, seen, rng, replicates)
    ahead = {
        origin: draws
        for origin, law in zip(fitting, laws, strict=True)
        if origin < whole and (draws := law.predict(flops[origin:], rng)) is not None
    }
    return Rolling(frontier, candidate, dict(zip(fitting, laws, strict=True)), ahead)


def backtest_rows(target: str, made: Sequence[Prediction]) -> list[BacktestRow]:
    groups: dict[tuple[str, float, float], list[Prediction]] = {}
    for p in made:
        groups.setdefault((p.name, p.from_flops, float(np.ceil(2 * p.decades_ahead - 1e-9) / 2)), []).append(p)
    return [
        BacktestRow(
            target, *key, float(np.median([abs(p.error) for p in own])), sum(p.inside for p in own) / len(own)
        )
        for key, own in groups.items()
    ]  # fmt: skip
