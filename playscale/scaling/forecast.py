"""Forecasts with 95 % prediction intervals, and held-out points beside theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from playscale.scaling.bound import TOO_FAR, with_ends
from playscale.scaling.cells import MOST_PASSES, SAME_SIZE, SIGN, Cells, Reason, Target, cost_of, value_of
from playscale.scaling.choice import Choice
from playscale.scaling.exponents import Exponent, used_laws
from playscale.scaling.isoflop import Profile
from playscale.scaling.numbers import count
from playscale.scaling.optimum import OptimumLaw
from playscale.scaling.parametric import Parametric
from playscale.scaling.powerlaw import ENDS
from playscale.scaling.surface import WHOLE, Surface

CURVE_POINTS = 60

Span = tuple[float, float]
Interval = tuple[float, float | None, float | None, str | None]  # value, low, high, reason


@dataclass(frozen=True)
class Forecast:
    """A forecast of `target` with its 95 % prediction interval, None without one.

    reason: why an end is None though there is an interval: it is more than a factor 1,000 from the forecast.
    params_note: that the size recommended lies outside those trained, so that nothing like it was measured.
    params, samples: recommended for the budget, or as given (`at` "cell"); None where no law recommends them.
    params_low, ..., samples_high: 95 % intervals of what is recommended (Forecaster.recommended_intervals); None where
    the size and the data are given.
    law: its name; quantiles: of the predictive distribution at `playscale.scaling.powerlaw.LEVELS`, rising, none of
    them more than a factor 1,000 from the forecast; () without one.
    """

    target: Target
    flops: float
    params: float | None
    samples: float | None
    value: float
    low: float | None
    high: float | None
    reason: str | None = None
    params_note: str | None = None
    params_low: float | None = None
    params_high: float | None = None
    samples_low: float | None = None
    samples_high: float | None = None
    law: str = ""
    at: Literal["budget", "cell"] = "budget"
    quantiles: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class HeldOut:
    """A measurement that no law is fitted to, beside its forecast. inside is None without a forecast or an interval.

    forecast: the whole of it; measured_se: standard error, None where unknown; repeats: how many points it is the mean
    of.
    """

    target: Target
    flops: float
    params: float
    samples: float | None
    measured: float
    value: float
    low: float | None
    high: float | None
    reason: str | None = None
    forecast: Forecast | None = field(default=None, repr=False)
    measured_se: float | None = None
    repeats: int = 1

    @property
    def inside(self) -> bool | None:
        if not np.isfinite(self.value) or (self.low is None and self.high is None):
            return None
        above = self.low is None or self.low <= self.measured
        return above and (self.high is None or self.measured <= self.high)


@dataclass(frozen=True, eq=False)
class Forecaster:
    """The laws that forecast one target: along the frontier, of size and data, and of (N, D) where there is one.

    plain: the power law through the best cells of all budgets, for comparison; sizes: the smallest and largest trained;
    offset: that of the returns.
    """

    choice: Choice
    params: Exponent | None
    samples: Exponent | None
    surface: Surface | None
    noise: float
    plain: Exponent | None = None
    sizes: tuple[float, float] = (0.0, float("inf"))
    offset: float = 0.0

    @property
    def target(self) -> Target:
        return self.choice.target

    def at_flops(self, flops: Sequence[float], rng: np.random.Generator, noise: float | None = None) -> list[Forecast]:
        """Forecast the best of each budget, with the size and the data recommended for it.

        Args:
            flops: budgets, in training FLOPs.
            rng: of the draws that the intervals are made of.
            noise: measurement error of the cost (a logarithm); by default that of a typical best cell.
        """
        at = np.asarray(flops, dtype=float)
        if len(at) == 0:
            return []
        cost, quantiles = self.choice.distribution(at, rng, noise)
        of = [None] * len(at) if quantiles is None else list(quantiles.T)
        return [self._at_budget(c, cost[i], of[i]) for i, c in enumerate(at.tolist())]

    def _at_budget(self, flops: float, cost: float, quantiles: np.ndarray | None) -> Forecast:
        params, samples = self.recommended(flops)
        return Forecast(
            self.target, flops, params, samples, *self._interval(cost, quantiles, self.choice.floor),
            self.note(params), *self.recommended_intervals(flops), self.choice.name, "budget",
            self._quantiles(cost, quantiles),
        )  # fmt: skip

    def at_cell(
        self, params: float, samples: float, rng: np.random.Generator, noise: float | None = None
    ) -> Forecast | None:
        """Forecast a given size and amount of data; None where no law of (N, D) could be fitted."""
        if self.surface is None:
            return None
        cost, of = self.surface.distribution(params, samples, rng, self.noise if noise is None else noise)
        floor = self.choice.floor
        cost, of = max(cost, floor), None if of is None else np.maximum(of, floor)
        return Forecast(
            self.target, self.surface.flops(params, samples), params, samples, *self._interval(cost, of, floor),
            law=self.surface.chosen, at="cell", quantiles=self._quantiles(cost, of),
        )  # fmt: skip

    def curve(self, first: float, last: float, rng: np.random.Generator) -> list[Forecast]:
        return self.at_flops(np.geomspace(first, last, CURVE_POINTS).tolist(), rng)

    def _interval(self, cost: float, quantiles: np.ndarray | None, floor: float = -np.inf) -> Interval:
        """Return the forecast of a cost and its interval, which holds it, from the quantiles [LEVELS] of the cost."""
        value = self.value(cost)
        if quantiles is None:
            return value, None, None, None
        low, high = quantiles[list(ENDS)]
        ends = sorted((max(min(low, cost), floor), max(high, cost)), reverse=SIGN[self.target] < 0)
        near = [self.value(end) if abs(end - cost) < TOO_FAR else None for end in ends]
        return (value, *with_ends(value, *near)[1:])

    def _quantiles(self, cost: float, quantiles: np.ndarray | None) -> tuple[float, ...]:
        if quantiles is None:
            return ()
        near = np.clip(quantiles, cost - TOO_FAR, cost + TOO_FAR)
        return tuple(sorted(value_of(self.target, near, self.offset).tolist()))

    def value(self, cost: float) -> float:
        """Return the dev loss or return of a cost."""
        return float(value_of(self.target, cost, self.offset))

    def cost(self, value: float) -> float:
        """Return the cost of a dev loss or return; inf where a return is not above the offset."""
        return cost_of(self.target, value, self.offset)

    def recommended(self, flops: float) -> tuple[float | None, float | None]:
        """Return the size and the data recommended for a budget."""
        if isinstance(self.choice.law, OptimumLaw):
            params, samples = self.choice.law.best(flops)
            return float(params[0]), float(samples[0])
        return self._recommended(self.params, flops), self._recommended(self.samples, flops)

    def recommended_intervals(self, flops: float) -> tuple[float | None, float | None, float | None, float | None]:
        """Return the ends of the 95 % intervals of size and of data at a budget: low, high, low, high.

        Each holds the power law's interval and that of the law of size and data: vertices of parabolas are biased where
        profiles are not symmetric. None where no law recommends them, a power law has 2 points alone, or an end is no
        number that a float holds.
        """
        chosen = self.choice.law.law if isinstance(self.choice.law, OptimumLaw) else None
        law = chosen or (self.surface.laws.get(WHOLE) if self.surface else None)
        found = law.optimum_intervals(flops) if isinstance(law, Parametric) else None
        size, data = found or (None, None)
        if chosen is None:
            size, data = _both(self.params, size, flops), _both(self.samples, data, flops)
        return *_ends(size), *_ends(data)

    def note(self, params: float | None) -> str | None:
        """Say so where a size recommended lies outside those trained; None where it does not."""
        first, last = self.sizes
        if params is None or first / SAME_SIZE <= params <= last * SAME_SIZE:
            return None
        return f"not measured: sizes from {count(first)} to {count(last)} were trained"

    @staticmethod
    def _recommended(exponent: Exponent | None, flops: float) -> float | None:
        return None if exponent is None else exponent.law.at(flops)


def _both(line: Exponent | None, other: Span | None, flops: float) -> Span | None:
    """Return the interval of a power law at a budget, so wide that it holds the other one; None without a line's."""
    own = None if line is None else line.law.interval_at(flops)
    return own if own is None or other is None else (min(own[0], other[0]), max(own[1], other[1]))


def _ends(span: Span | None) -> tuple[float | None, float | None]:
    return span if span and 0 < span[0] <= span[1] < np.inf else (None, None)


def make_forecaster(
    choice: Choice, exponents: list[Exponent], surface: Surface | None, cells: Cells, profiles: Sequence[Profile]
) -> Forecaster:
    """Put the laws together.

    No isoFLOP table, profiles most of which curve the wrong way, and sizes that are all equally good recommend none.
    """
    used = used_laws(exponents, cells.target, len(cells.budgets))
    if (
        not cells.isoflop
        or cells.flat
        or 2 * sum(profile.excluded is Reason.WRONG_CURVATURE for profile in profiles) > len(profiles)
    ):
        used = {}
    plain = next((row for row in exponents if row.quantity == cells.target and row.at == "argmin"), None)
    noise = float(np.median(cells.noise()))
    sizes = float(cells.params.min()), float(cells.params.max())
    return Forecaster(choice, used.get("params"), used.get("samples"), surface, noise, plain, sizes, cells.offset)


def compare_held_out(
    cells: Cells, forecaster: Forecaster, rng: np.random.Generator
) -> tuple[list[HeldOut], list[HeldOut]]:
    """Put each held-out budget's best cell beside the frontier's forecast, every held-out cell beside its (N, D)'s."""
    noise = cells.noise()
    best, every = [], []
    for index, flops in enumerate(cells.budgets):
        rows = np.flatnonzero(cells.budget == index)
        top = rows[np.argmin(cells.cost[rows])]
        error = max(forecaster.noise, float(noise[top]))
        along = forecaster.at_flops([float(flops)], rng, error)[0]
        of_rows = {int(row): _of_cell(cells, int(row), forecaster, rng, float(noise[row])) for row in rows}
        every += [_beside(cells, row, forecast) for row, forecast in of_rows.items() if forecast is not None]
        # A run of a table without isoFLOP budgets is not meant to be the best of its budget.
        own = of_rows[int(top)] if isinstance(forecaster.choice.law, OptimumLaw) else None
        best.append(_beside(cells, int(top), own or along))
    return best, every


def _of_cell(cells: Cells, row: int, forecaster: Forecaster, rng: np.random.Generator, noise: float) -> Forecast | None:
    """Forecast a cell's own size and data; None without data, or without a law of them."""
    if forecaster.surface is None or not np.isfinite(cells.samples[row]):
        return None
    if forecaster.surface.counted and cells.epochs[row] > MOST_PASSES:  # it overfits, for which the law has no term
        return None
    samples = float(forecaster.surface.samples(cells)[row])
    forecast = forecaster.at_cell(float(cells.params[row]), samples, rng, max(forecaster.noise, noise))
    return None if forecast is None else replace(forecast, flops=float(cells.budgets[cells.budget[row]]))


def _beside(cells: Cells, row: int, forecast: Forecast) -> HeldOut:
    samples = float(cells.samples[row]) if np.isfinite(cells.samples[row]) else None
    measured, error = float(cells.value(cells.cost[row])), float(cells.error[row])
    return HeldOut(
        cells.target, forecast.flops, float(cells.params[row]), samples, measured,
        forecast.value, forecast.low, forecast.high, forecast.reason, forecast,
        error * (measured - cells.offset) if np.isfinite(error) else None, int(cells.repeats[row]),
    )  # fmt: skip
