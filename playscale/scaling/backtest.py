"""Rolling-origin backtest: fit on the budgets up to one, predict all that lie beyond, and compare.

A candidate is a form, the decades of compute, counted back from the last budget seen, that it is fitted to, and what
stands for the best of a budget there. All forecast the same: the best measured cell of each later budget.
Legend: B budgets, R draws; an origin is the number of budgets seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from playscale.scaling.cells import FitError, Target
from playscale.scaling.frontier import BROKEN, POWER, SATURATING, Form, FrontierLaw, fit_laws, limited
from playscale.scaling.isoflop import Profile, bounds
from playscale.scaling.powerlaw import LEVEL
from playscale.scaling.two_step import LossSteps, TwoStepLaw

ORIGINS = 24
FIRST = 3
# The others count as bounds only where at least so many budgets have a measured best, over this share of the decades: a
# law fitted to a short stretch alone extrapolates worse than the bounds' error does.
FEWEST_VALUES, SPANNED = 4, 0.5
# Range of ln L below which the dev losses of budgets are one.
SAME_LOSS = 1e-4

Source = Literal["best cells", "bounds", "no bounds", "vertices", "lower envelope", "through dev loss"]
THROUGH_LOSS: Source = "through dev loss"


@dataclass(frozen=True)
class CandidateLaw:
    """A form, a window and the frontier that it is fitted to.

    source: "best cells": the best cell of each budget, a bound where it is no measurement of the best (isoflop.bounds)
    and no later budget has one: there nothing else shows how far off it is; "bounds": every such cell is a bound; "no
    bounds": none is; "vertices": the parabolas' minima, shifted by the median distance of the best cells from them;
    "lower envelope": the best cell of any budget up to each; "through dev loss": a return by way of the loss, the form
    being one of 1/L, fitted to the best cells (`playscale.scaling.two_step`).
    """

    form: Form
    decades: float = float("inf")
    source: Source = "best cells"

    def name(self, target: str) -> str:
        """Name the candidate for people: a saturating return is bounded."""
        name = "bounded" if self.form is SATURATING and target == "return_mean" else self.form.name
        name = name if np.isinf(self.decades) else f"{name}, last {self.decades:g} decades"
        return name if self.source == "best cells" else f"{name}, {self.source}"

    def window(self, flops: np.ndarray) -> np.ndarray:
        """Return the mask [B] of the budgets that it is fitted to; flops rise."""
        return flops >= flops[-1] / 10**self.decades * (1 - 1e-6)

    @property
    def straight(self) -> bool:
        return self.form is POWER and self.source != THROUGH_LOSS

    @property
    def broken(self) -> bool:
        return self.form is BROKEN


PLAIN = CandidateLaw(POWER)
LEVELLING = CandidateLaw(SATURATING)
BREAKING = CandidateLaw(BROKEN)
CANDIDATES = (PLAIN, LEVELLING, BREAKING, CandidateLaw(POWER, 2.0), CandidateLaw(SATURATING, 2.0))
TWO_STEPS = (CandidateLaw(POWER, source=THROUGH_LOSS), CandidateLaw(SATURATING, source=THROUGH_LOSS))
OTHER_SOURCES: tuple[Source, ...] = ("bounds", "no bounds", "vertices", "lower envelope")


def candidates(frontier: Frontier, limits: Sequence[tuple[str, float]] = ()) -> tuple[CandidateLaw, ...]:
    """Return CANDIDATES, one for each frontier other than the best cells' and for each known limit of a return.

    With a dev loss also those that go by way of it.

    limits: (name, the largest return).
    """
    whole = frontier.values("best cells")
    others = [source for source in OTHER_SOURCES if not frontier.values(source).same(whole)]
    return (
        *CANDIDATES,
        *(CandidateLaw(SATURATING, source=source) for source in others),
        *(CandidateLaw(limited(f"bounded by {name}", -float(np.log(value)))) for name, value in limits),
        *(TWO_STEPS if frontier.loss is not None else ()),
    )


@dataclass(frozen=True, eq=False)
class Values:
    """The frontier that a law is fitted to, by budget [B]: cost, whether there is one, whether it is a bound."""

    cost: np.ndarray
    seen: np.ndarray
    bound: np.ndarray

    def same(self, other: Values) -> bool:
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in ("cost", "seen", "bound"))


@dataclass(frozen=True)
class Frontier:
    """The best cell of each budget [B], rising: FLOPs, cost, measurement error of the cost (0 where unknown).

    profiles: the budgets' profiles, for bounds and vertices; without them every best cell is a measurement.
    loss: of returns, the dev loss at the same budgets; without it no law goes by way of the loss.
    """

    target: Target
    flops: np.ndarray
    cost: np.ndarray
    noise: np.ndarray
    profiles: tuple[Profile, ...] = ()
    loss: LossSteps | None = None

    @cached_property
    def bounds(self) -> np.ndarray:
        """Return the mask [B] of the best cells that are bounds; none where too few, or too close, are not."""
        none = np.zeros(len(self.flops), dtype=bool)
        mask, log_flops = bounds(self.profiles) if self.profiles else none, np.log(self.flops)
        left = log_flops[~mask]
        return mask if len(left) >= FEWEST_VALUES and np.ptp(left) >= SPANNED * np.ptp(log_flops) else none

    @cached_property
    def bound(self) -> np.ndarray:
        """Return the mask [B] of the bounds that no measured best cell follows."""
        return np.cumprod(self.bounds[::-1])[::-1].astype(bool)

    def values(self, source: Source) -> Values:
        """Return what a law of this source is fitted to."""
        every, none = np.ones(len(self.flops), dtype=bool), np.zeros(len(self.flops), dtype=bool)
        if source in {"best cells", "bounds"}:
            return Values(self.cost, every, self.bound if source == "best cells" else self.bounds)
        if source == "lower envelope":
            return Values(np.minimum.accumulate(self.cost), every, none)
        if source == "vertices" and self.profiles:
            at = np.array([np.nan if p.vertex_cost is None else p.vertex_cost for p in self.profiles])
            seen = np.isfinite(at)
            if seen.sum() >= FEWEST_VALUES:
                return Values(np.where(seen, at + np.median((self.cost - at)[seen]), self.cost), seen, none)
        return Values(self.cost, every, none)

    def upto(self, count: int) -> Frontier:
        return Frontier(
            self.target, self.flops[:count], self.cost[:count], self.noise[:count], self.profiles[:count], self.loss
        )

    def variable(self, candidate: CandidateLaw) -> np.ndarray:
        """Return what the candidate's form is a function of [B]: FLOPs, or 1/L of the measured dev loss."""
        if candidate.source != THROUGH_LOSS:
            return self.flops
        assert self.loss is not None
        return np.exp(-self.loss.cost[: len(self.flops)])

    def law(self, candidate: CandidateLaw, fitted: FrontierLaw, count: int) -> FrontierLaw | TwoStepLaw:
        """Return the law along compute of a form fitted to the first `count` budgets."""
        if candidate.source != THROUGH_LOSS:
            return fitted
        assert self.loss is not None
        return TwoStepLaw(self.loss.laws[count], fitted, float(self.flops[0]), float(self.flops[count - 1]))

    def fit(
        self, candidate: CandidateLaw, rng: np.random.Generator, replicates: int, extra: tuple[float, int] = (0.0, 0)
    ) -> FrontierLaw | TwoStepLaw:
        """Fit a candidate to its window. Raises FitError when the window holds fewer budgets than the form takes."""
        own, use = self.values(candidate.source), candidate.window(self.flops)
        count = int((use & own.seen & ~own.bound).sum())
        if count < candidate.form.budgets:
            form = candidate.form
            raise FitError(f"the {form.name} law needs at least {form.budgets} budgets; there are {count}")
        fitted = fit_laws(
            candidate.form, self.variable(candidate)[use], own.cost[use], self.noise[use], own.seen[use][None], rng,
            replicates, extra, own.bound[use][None],
        )[0]  # fmt: skip
        return self.law(candidate, fitted, len(self.flops))

    def fits(self, candidate: CandidateLaw) -> bool:
        """Tell whether the window holds enough budgets for the form, with one to spare for the scatter.

        Nor is there a law through a dev loss that is the same at all of them.
        """
        own = self.values(candidate.source)
        valued = candidate.window(self.flops) & own.seen & ~own.bound
        count, apart = int(valued.sum()), np.ptp(np.log(self.variable(candidate)))
        return count >= candidate.form.budgets and count > candidate.form.size and bool(apart > SAME_LOSS)


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
    laws: dict[int, FrontierLaw | TwoStepLaw]
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

        Over the predictions that all of them made, from origins of at least `first`, of budgets before `upto` with a
        measured best.

        The geometric mean, since errors grow with distance: a mean would be decided by the earliest budgets alone. A
        candidate that made fewer than half of the most predictions has no score.
        """
        measured = self._measured(upto)
        errors = {c: np.abs(self.rolling[c].error[first:upto, :upto][:, measured]) for c in among}
        made = {c: np.isfinite(e) for c, e in errors.items()}
        most = max((int(m.sum()) for m in made.values()), default=0)
        kept = [c for c in among if most and 2 * made[c].sum() >= most]
        common = np.all([made[c] for c in kept], axis=0) if kept else np.zeros(0, dtype=bool)
        if not common.any():
            return {}
        return {c: float(np.exp(np.mean(np.log(errors[c][common] + 1e-3)))) for c in kept}

    def _measured(self, upto: int) -> np.ndarray:
        """Return the mask [upto] of the first budgets with a measured best."""
        return ~self.frontier.upto(upto).bounds

    def ratio(self, one: CandidateLaw, other: CandidateLaw, upto: int) -> tuple[float, int]:
        """Return the ratio of the two candidates' geometric mean errors, and the number of predictions it is over.

        Over the predictions that both made and that differ: where two laws are the same law, they say nothing about
        which is better. Budgets before `upto` whose best cell is a measurement; 1 where there is no such prediction.
        """
        measured = self._measured(upto)
        a, b = (self.rolling[c].error[:upto, :upto][:, measured] for c in (one, other))
        apart = np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) > 1e-6)
        if not apart.any():
            return 1.0, 0
        gaps = np.log(np.abs(a[apart]) + 1e-3) - np.log(np.abs(b[apart]) + 1e-3)
        return float(np.exp(np.mean(gaps))), int(apart.sum())

    def shared(self, upto: int, among: Sequence[CandidateLaw], first: int) -> int:
        """Count the predictions of budgets before `upto`, from origins of at least `first`, that all of them made."""
        measured = self._measured(upto)
        made = [np.isfinite(self.rolling[c].error[first:upto, :upto][:, measured]) for c in among]
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
    cost = np.tile(frontier.cost, (len(fitting), 1))
    seen, bound = np.zeros((2, len(fitting), whole), dtype=bool)
    for row, origin in enumerate(fitting):
        own = frontier.upto(origin).values(candidate.source)
        cost[row, :origin], bound[row, :origin] = own.cost, own.bound
        seen[row, :origin] = own.seen & candidate.window(flops[:origin])
    fitted = fit_laws(
        candidate.form, frontier.variable(candidate), cost, frontier.noise, seen, rng, replicates, bound=bound
    )
    laws = {origin: frontier.law(candidate, law, origin) for origin, law in zip(fitting, fitted, strict=True)}
    ahead = {
        origin: draws
        for origin, law in laws.items()
        if origin < whole and (draws := law.predict(flops[origin:], rng)) is not None
    }
    return Rolling(frontier, candidate, laws, ahead)


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
