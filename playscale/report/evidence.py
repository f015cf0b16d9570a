"""One view of a fit and its points, from which the figures and tables are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from playscale.config import PLAYING_METHODS
from playscale.points import Point, Reference
from playscale.report.seeds import MeanPoint, average
from playscale.report.text import printable, short_name
from playscale.scaling import numbers
from playscale.scaling.budgets import find_budgets
from playscale.scaling.cells import Reason, count_sizes
from playscale.scaling.methods import UNNAMED, by_method, unused
from playscale.scaling.numbers import counted

RETURN_OF_LOSS = "return_mean of dev_loss"
TARGETS = ("dev_loss", "return_mean")
NAMES = {
    "dev_loss": "dev loss",
    "return_mean": "return",
    "params": "parameters",
    "samples": "samples",
    "flops": "compute",
}
BUDGET, STEPS = "compute budget", "step of compute"
MOST = 5000  # points that a page shows
LARGEST_POWER = 700.0  # natural logarithm of what a float holds
SAME_EXPONENT = 1e-4  # of one law, read from the fit and off its curve
SAME_BUDGET = 1.05  # checkpoints are taken within a batch of their budget; budgets are at least a tenth apart


@dataclass(frozen=True)
class Evidence:
    """A fit, as fit.json has it, and the points that a page shows of it."""

    fit: Mapping[str, Any]
    points: Sequence[Point]
    references: Sequence[Reference] = ()
    measured_points: int | None = None  # how many there are where only some are shown
    repeats: Sequence[Point] = ()  # the runs of several seeds whose means are among the points

    @classmethod
    def of(cls, fit: Mapping[str, Any], points: Sequence[Point], references: Sequence[Reference] = ()) -> Evidence:
        """Choose the points that a page can show: of more than MOST the best of each budget and every k-th.

        Those of other settings than the study's recipe are in a section of their own.

        Seeds of one cell are one point, their mean; the single runs are in `repeats`.
        Their names are made short and printable.
        """
        points = [_named(point) for point in points if not point.varied]
        if len(points) <= MOST:
            shown, repeats = average(points, fit)
            return cls(fit, shown, references, repeats=repeats)
        kept = {id(point) for target in TARGETS for point in _best_of_budgets(points, target)}
        kept |= {id(point) for point in points[:: -(-len(points) // MOST)]}
        return cls(fit, [point for point in points if id(point) in kept], references, len(points))

    @cached_property
    def runs(self) -> list[Point]:
        """Return the points of single runs, no means of seeds."""
        return [point for point in self.points if not isinstance(point, MeanPoint)] + list(self.repeats)

    @property
    def played(self) -> bool:
        """Tell whether all agents learned by playing."""
        return bool(self.points) and all(point.method in PLAYING_METHODS for point in self.points)

    @property
    def anonymous(self) -> bool:
        """Tell whether the table names no game and no method: its losses need not be of actions."""
        return not any(point.game or point.method for point in self.points)

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the targets that the methods have."""
        return ("return_mean",) if self.played else TARGETS

    @property
    def noun(self) -> str:
        """Return the word for what the agents learned from."""
        return "interactions" if self.played else "samples"

    @cached_property
    def budgets(self) -> list[float]:
        """Return the compute budgets, small to large, found as the fit finds them: held-out runs apart."""
        fitted, held_out = self._budgets(held_out=False), self._budgets(held_out=True)
        spread = max((self.fit.get("budgets") or {}).get("spread") or 1.0, SAME_BUDGET)
        return sorted([*fitted, *(b for b in held_out if all(max(b / c, c / b) > spread for c in fitted))])

    def _budgets(self, held_out: bool) -> list[float]:
        runs = [run for run in self.runs if run.held_out == held_out]
        column = (self.fit.get("budgets") or {}).get("column")
        return [float(flops) for flops in find_budgets(runs, column).flops] if runs else []

    @property
    def separate(self) -> bool:
        """Tell whether the fit found separate budgets, not steps through a continuum."""
        return not str((self.fit.get("budgets") or {}).get("source")).startswith("steps")

    @cached_property
    def held_out_budgets(self) -> list[float]:
        """Return the budgets of which every point is held out."""
        kept = {self.budget_index(point.flops) for point in self.points if not point.held_out}
        return [budget for i, budget in enumerate(self.budgets) if i not in kept]

    @cached_property
    def subtitle(self) -> str:
        """Return what was measured, in one line."""
        games = sum(point.episodes or 0 for point in self.points)
        points = self.measured_points or len(self.runs)
        fitted = [run for run in self.runs if not run.held_out]
        methods, seeds = ({getattr(point, name) for point in self.runs} for name in ("method", "seed"))
        counts = [
            (points, points if self.measured_points else len(fitted), "point"),
            (_sizes(self.runs), _sizes(fitted), "model size"),
            (len(self.budgets), len(self.budgets) - len(self.held_out_budgets), BUDGET if self.separate else STEPS),
        ]
        more = ((len(methods), "method"), (len(seeds), "seed"))
        counts += [(number, number, noun) for number, noun in more if number > 1]
        parts = [counted(number, noun) + (f" ({own:,} fitted)" if own < number else "") for number, own, noun in counts]
        if self.budgets:
            parts.append(f"{numbers.budget(self.budgets[0])} to {numbers.budget(self.budgets[-1])} FLOPs")
        if self.measured_points and points > len(self.points):
            parts.append(f"{len(self.points):,} of the points are shown, the best of each budget among them")
        elif games:
            parts.append(f"{games:,} games played")
        return " · ".join(parts)

    def same_budget(self, flops: float, budget: float) -> bool:
        return self.budget_index(flops) == self.budget_index(budget)

    def budget_index(self, flops: float) -> int:
        """Return the index of the nearest of `budgets`."""
        return min(range(len(self.budgets)), key=lambda i: abs(math.log(self.budgets[i] / flops)))

    def budget_of(self, point: Point) -> float:
        """Return the budget that a point is of; a run may stop a little before or past it."""
        return self.budgets[self.budget_index(point.flops)]

    def rows(self, key: str, **wanted: str) -> list[Mapping[str, Any]]:
        """Return the rows of a list in the fit with the wanted values; [] where the fit has none."""
        found: list[Mapping[str, Any]] = self.fit.get(key) or []
        return [row for row in found if all(row.get(name) == value for name, value in wanted.items())]

    @cached_property
    def _forecast_budgets(self) -> set[float] | None:
        """Return the budgets that a forecast was made for; None in a fit that does not say."""
        if "optima" not in self.fit:
            return None
        return {row["flops"] for row in self.rows("optima") if numbers.known(row.get("flops"))}

    def forecasts(self, target: str) -> list[Mapping[str, Any]]:
        """Return the forecasts for budgets, at the recommended params and samples; small budgets first."""
        budgets = self._forecast_budgets
        rows = [row for row in self.rows("forecasts", target=target) if numbers.positive(row.get("flops"))]
        return sorted((row for row in rows if budgets is None or row["flops"] in budgets), key=lambda row: row["flops"])

    def given_cells(self, target: str) -> list[Mapping[str, Any]]:
        """Return the forecasts for given params and samples."""
        budgets = self.forecasts(target)
        return [
            r for r in self.rows("forecasts", target=target) if numbers.positive(r.get("flops")) and r not in budgets
        ]

    def reason_excluded(self, point: Point, target: str) -> str | None:
        """Return why the fits of `target` left this point out; None if they did not.

        A row without params is about a whole profile. Of the seeds of a cell some may have diverged.
        """
        if point.diverged:
            return f"{Reason.DIVERGED}: {point.diverged}"
        for row in self.rows("excluded"):
            if (
                row.get("target") in (None, target)
                and row.get("reason") != Reason.DIVERGED
                and (row.get("value") is None or row["value"] == getattr(point, target))
                and row.get("flops")
                and self.same_budget(row["flops"], point.flops)
                and _close(row.get("params"), point.params)
            ):
                return str(row.get("reason") or "no reason given")
        return None

    def measured(self, target: str, *, held_out: bool | None = None) -> list[tuple[Point, float]]:
        """Return the points of which `target` was measured, with its value; without what the axis cannot show.

        Nor those that diverged: their losses lie far above all others. The table of points has them.
        """
        points = [point for point in self.points if held_out in (None, point.held_out) and not point.diverged]
        found = [(point, getattr(point, target)) for point in points]
        shown = numbers.known if self.linear(target) else numbers.positive
        return [(point, value) for point, value in found if shown(value)]

    @cached_property
    def loss_digits(self) -> int:
        """Return the digits by which the dev losses differ."""
        return numbers.digits_among([value for _, value in self.measured("dev_loss")])

    def linear(self, target: str) -> bool:
        """Tell whether values are shown on a linear axis: returns that are counted from an offset may be negative."""
        return target == "return_mean" and offset_of(self.fit, target) != 0

    def not_positive(self, target: str) -> list[Point]:
        """Return the points of which `target` was measured as 0 or less, which a logarithmic axis cannot show."""
        values = [(point, getattr(point, target)) for point in self.points if not self.linear(target)]
        return [point for point, value in values if numbers.known(value) and value <= 0]

    def best(self, target: str, *, held_out: bool) -> list[tuple[Point, float]]:
        """Return the best point at each budget, small budgets first, without excluded points."""
        best: dict[int, tuple[Point, float]] = {}
        for point, value in self.measured(target, held_out=held_out):
            if self.reason_excluded(point, target) is None:
                i = self.budget_index(point.flops)
                if i not in best or better(target, value, best[i][1]):
                    best[i] = (point, value)
        return [best[i] for i in sorted(best)]

    def flat(self, target: str, flops: float) -> bool:
        """Tell whether the points of a budget are several of the same `target`, so that none of them is the best."""
        i = self.budget_index(flops)
        values = [value for point, value in self.measured(target) if self.budget_index(point.flops) == i]
        return len(values) > 1 and math.isclose(min(values), max(values), abs_tol=1e-12)

    def power_law(self, target: str, quantity: str) -> Mapping[str, Any] | None:
        """Return the law of `quantity` that the fit uses, so that a line goes through the sizes it recommends."""
        laws = self.rows("power_laws", target=target, quantity=quantity)
        return next((law for law in laws if law.get("used") and numbers.known(law.get("exponent"))), None)

    def recommends(self, target: str, quantity: str) -> Mapping[str, Any] | None:
        """Return the law of what is recommended: a power law, with the interval of its exponent where one is known.

        It is read off the curve of forecasts, so that the sentence, the table and the line are of one law.
        """
        rows = (self.fit.get("curves") or {}).get(target) or []
        placed = [row for row in rows if all(numbers.positive(row.get(name)) for name in ("flops", quantity))]
        if len(placed) < 2:
            return self.power_law(target, quantity) if not rows else None
        (x, y), (x_end, y_end) = ((math.log(row["flops"]), math.log(row[quantity])) for row in (placed[0], placed[-1]))
        exponent = (y_end - y) / (x_end - x)
        named = [self.power_law(target, quantity), *self.rows("optimal_exponents", target=target, quantity=quantity)]
        same = [one for one in named if one and abs((one.get("exponent") or math.inf) - exponent) < SAME_EXPONENT]
        span = same[0] if same else {}
        coefficient = math.exp(y - exponent * x)
        return {"exponent": exponent, "coefficient": coefficient, "low": span.get("low"), "high": span.get("high")}

    def last_fitted_budget(self) -> float | None:
        """Return the largest budget that was fitted: that of the fit, or of the points where it does not say."""
        fitted = [law.get("to_flops") for law in (self.fit.get("laws") or {}).values()]
        return max(
            [flops for flops in fitted if numbers.positive(flops)] or self._budgets(held_out=False), default=None
        )


def evidences_of(
    fit: Mapping[str, Any], points: Sequence[Point], references: Sequence[Reference] = ()
) -> dict[str, Evidence]:
    """Return the evidence of each method, by a short name of its own; of a fit of one method that of all points."""
    if "methods" not in fit:
        return {short_name(points[0].method) if points else "": Evidence.of(fit, points, references)}
    found: dict[str, Evidence] = {}
    for method, own in by_method(points).items():
        name = unused(short_name(method) or UNNAMED, found)
        found[name] = Evidence.of(fit["methods"].get(method, {}), own, references)
    return found


def _named(point: Point) -> Point:
    """Return a point whose names can be shown anywhere."""
    method, size, run = short_name(point.method), short_name(point.size), printable(point.run)
    same = (method, size, run) == (point.method, point.size, point.run)
    return point if same else replace(point, method=method, size=size, run=run)


def _best_of_budgets(points: Sequence[Point], target: str) -> list[Point]:
    """Return the best point of each budget, fitted and held out."""
    best: dict[tuple[bool, float], Point] = {}
    budget = 0.0
    for point in sorted(points, key=lambda point: point.flops):
        budget = point.flops if point.flops > budget * SAME_BUDGET else budget
        value, known = getattr(point, target), best.get((point.held_out, budget))
        if value is not None and (known is None or better(target, value, getattr(known, target))):
            best[point.held_out, budget] = point
    return list(best.values())


def _sizes(points: Sequence[Point]) -> int:
    return count_sizes(np.array([point.params for point in points], dtype=float)) if points else 0


def error_of(point: Point, target: str) -> float | None:
    """Return the standard error of a point's `target`."""
    return point.dev_loss_se if target == "dev_loss" else point.return_se


def law_at(law: Mapping[str, Any], x: float, offset: float = 0.0) -> float | None:
    """Return the value of a power law at x, from an offset where it is of returns; None where it has none."""
    if not numbers.positive(law.get("coefficient")) or not numbers.known(law.get("exponent")):
        return None
    power = math.log(law["coefficient"]) + law["exponent"] * math.log(x)
    return offset + math.exp(power) if power < LARGEST_POWER else None


def offset_of(fit: Mapping[str, Any], target: str) -> float:
    """Return what the fit took from each value before its logarithm: 0 but for returns that may be negative."""
    return float(((fit.get("laws") or {}).get(target) or {}).get("offset") or 0.0)


def better(target: str, value: float, than: float) -> bool:
    """Compare two values: a loss is better when lower, a return when higher."""
    return value < than if target == "dev_loss" else value > than


def _close(value: float | None, other: float) -> bool:
    """Compare two budgets or sizes, up to the few per cent by which runs of one budget differ."""
    return value is not None and abs(value / other - 1) < SAME_BUDGET - 1


def describe(point: Point, reason: str | None = None, digits: int = 3) -> str:
    """Describe a point, for its tooltip; digits: of a dev loss, at least."""
    parts = [
        f"{point.size + ': ' if point.size else ''}{numbers.count(point.params)} parameters",
        f"{numbers.budget(point.flops)} FLOPs",
        f"{numbers.count(point.samples)} {'interactions' if point.method in PLAYING_METHODS else 'samples'}",
        *(
            []
            if point.method in PLAYING_METHODS
            else [f"dev loss {numbers.with_error(point.dev_loss, point.dev_loss_se, digits)}"]
        ),
        f"return {numbers.with_error(point.return_mean, point.return_se)}"
        + (f" over {point.episodes} games" if point.episodes else ""),
    ]
    if isinstance(point, MeanPoint):
        returns = ", ".join(numbers.number(value) for value in point.returns)
        parts.append(f"mean of {len(point.returns)} seeds, with returns {returns}")
    if point.held_out:
        parts.append("held out")
    if reason:
        parts.append(f"left out: {reason}")
    return "\n".join(parts)


def off_axis_tip(point: Point, reason: str | None) -> str:
    """Describe in a line one of several returns of 0 or less that share a mark at the edge of a figure."""
    what = f"{numbers.count(point.params)} parameters, {numbers.budget(point.flops)} FLOPs"
    value = numbers.with_error(point.return_mean, point.return_se)
    use = "held out" if point.held_out else f"left out: {reason}" if reason else "counts in the mean of its cell"
    return f"{what}: return {value}, {use}"
