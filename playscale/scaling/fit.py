"""The whole analysis of a table of points: profiles, power laws, the law that forecasts, forecasts, held-out scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from playscale.config import PLAYING_METHODS
from playscale.points import Point, PointTable, as_points
from playscale.scaling.allocation import (
    OptimalExponent,
    Optimum,
    bias_warning,
    disagreement,
    optima,
    optimal_exponents,
    vertex_bias,
)  # fmt: skip
from playscale.scaling.backtest import BacktestRow, Frontier, Prediction, backtest_rows
from playscale.scaling.cells import TARGETS, Cells, Excluded, FitError, Reason, Target, find_budgets_of, make_cells
from playscale.scaling.choice import LARGEST_RETURN, Choice, choose
from playscale.scaling.exponents import Exponent, fit_exponents, fit_return_of_loss
from playscale.scaling.forecast import Forecast, Forecaster, HeldOut, compare_held_out, make_forecaster
from playscale.scaling.goal import Goal, reach
from playscale.scaling.gpu import Hardware
from playscale.scaling.isoflop import Profile, excluded_budgets, fit_profiles
from playscale.scaling.optimum import optimum_choice
from playscale.scaling.surface import Surface, fit_surface
from playscale.scaling.verdict import Verdict, judge
from playscale.scaling.warning import (
    Code,
    Warned,
    bend_warning,
    broken_warning,
    cell_warnings,
    diverged_warning,
    expert_warning,
    extrapolation_warning,
    goal_warning,
    grid_warning,
    isoflop_warning,
    profile_warnings,
    return_warning,
    size_warning,
)  # fmt: skip
from playscale.storage.files import write_json

REPLICATES = 1000
# Bootstrap memory: replicates x cells stay below this.
LARGEST = 4e6


@dataclass(frozen=True, eq=False)
class TargetFit:
    """Everything fitted for one target."""

    cells: Cells
    profiles: list[Profile]
    choice: Choice
    surface: Surface | None
    exponents: list[Exponent]
    forecaster: Forecaster


@dataclass(frozen=True, eq=False)
class Fit:
    """The result of `fit`. `to_dict` is fit.json, whose fields docs/scaling.md lists.

    Attributes:
        points: all rows, held-out ones too.
        budgets: how many there are, how far from them runs lie, and what they were found by.
        excluded: what no fit used, and why.
        warnings: what to know before relying on the fit.
        targets: everything fitted for dev_loss and for return_mean.
        power_laws: optimal size, data and value against compute (Hoffmann et al. 2022, arXiv 2203.15556, approach 2).
        backtest: errors of every candidate law, fitted to the smaller budgets, on the larger ones.
        forecasts: at given budgets, then at given (params, samples).
        held_out: the best held-out cell of each budget beside its forecast; held_out_cells: all of them.
        curves: the chosen law over compute, {target: forecasts}.
        optimal_exponents: exponents of the optimal size and data by every law.
        optima: optimal size and data of each forecast budget by every law.
        target_returns: compute at which given returns are reached.
        hardware: GPU that hours and energy are given for.
        verdicts: whether the table can carry a forecast of each target.
    """

    points: tuple[Point, ...]
    budgets: dict[str, Any]
    excluded: tuple[Excluded, ...]
    warnings: tuple[Warned, ...]
    targets: dict[Target, TargetFit]
    power_laws: tuple[Exponent, ...]
    backtest: tuple[BacktestRow, ...]
    forecasts: tuple[Forecast, ...]
    held_out: tuple[HeldOut, ...]
    held_out_cells: tuple[HeldOut, ...]
    curves: dict[Target, list[Forecast]] = field(default_factory=dict)
    optimal_exponents: tuple[OptimalExponent, ...] = ()
    optima: tuple[Optimum, ...] = ()
    target_returns: tuple[Goal, ...] = ()
    hardware: Hardware | None = None
    verdicts: dict[Target, Verdict] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return fit.json: plain JSON types, null for every number that does not exist."""
        from playscale.scaling.document import document

        return document(self)

    def table(self, name: str) -> dict[str, np.ndarray]:
        """Return a list of fit.json as columns {name: array}; a number that does not exist is NaN.

        Args:
            name: power_laws, forecasts, held_out, track_record, profiles, or another list of rows.

        Raises:
            ValueError: fit.json has no such list.
        """
        whole = self.to_dict()
        if not isinstance(whole.get(name), list):
            known = ", ".join(key for key, value in whole.items() if isinstance(value, list))
            raise ValueError(f"{name}: no list of rows of a fit; known: {known}")
        columns = {key: [row.get(key) for row in whole[name]] for key in (whole[name] or [{}])[0]}
        return {key: _array(values) for key, values in columns.items()}


def _array(values: list[Any]) -> np.ndarray:
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    if numbers and not all(value is None or isinstance(value, bool) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.array(values, dtype=object if None in values or not values else None)


def fit(
    points: PointTable,
    forecast_flops: Sequence[float] = (),
    forecast_at: Sequence[tuple[float, float]] = (),
    seed: int = 0,
    *,
    expert_return: float | None = None,
    max_return: float | None = None,
    min_return: float | None = None,
    budget_column: str | None = None,
    target_returns: Sequence[tuple[str, float]] = (),
    hardware: Hardware | None = None,
    replicates: int = REPLICATES,
) -> Fit:
    """Fit all laws to the points with split "fit" and compare the "held-out" ones with their forecast.

    IsoFLOP profiles and the parametric law follow Hoffmann et al. 2022 (arXiv 2203.15556, approaches 2 and 3), the
    translog law and the analysis of returns Tuyls et al. 2023 (arXiv 2307.09423), the broken law Caballero et al. 2022
    (arXiv 2210.14891). docs/scaling.md describes each step.

    Args:
        points: a table of one method: points, rows {column: value}, columns {name: values}, or a DataFrame.
        forecast_flops: budgets to forecast for, in training FLOPs.
        forecast_at: (params, samples) pairs to forecast for.
        seed: of the bootstrap; the same seed gives the same result.
        expert_return: mean return of the expert that the agents imitate: a bound, and a target return.
        max_return: the largest return that the game allows.
        min_return: the smallest, from which returns are counted; by default zero, or fitted where a mean return is
            not above zero.
        budget_column: the column that says to which budget a row belongs; by default `budget` where that column is one
            of budgets, else budgets are found by the gaps between neighbours in compute.
        target_returns: (name, return) pairs whose compute is sought.
        hardware: GPU to give hours and energy for.
        replicates: how many bootstrap replicates the intervals take.

    Returns:
        The laws, forecasts, held-out comparisons and warnings.

    Raises:
        FitError: nothing can be fitted, or an argument is no number that can be; one line says what is missing.
    """
    points = as_points(points)
    limits = {"the expert's return": expert_return, LARGEST_RETURN: max_return}
    known = [(name, value) for name, value in limits.items() if value is not None]
    _check(forecast_flops, forecast_at, [*known, *target_returns], min_return, points)
    if budget_column is not None:
        find_budgets_of(points, budget_column)
    seen = [point for point in points if not point.held_out]
    if len(methods := {point.method for point in points}) > 1:
        raise FitError(f"a law is of one method; this table has {', '.join(sorted(methods))}: fit each apart")
    if not seen:
        raise FitError('no point to fit: every row of the table is "held-out", or there are none')
    targets, excluded, warnings = _fit_targets(
        seen, methods <= PLAYING_METHODS, seed, replicates, known, min_return, budget_column
    )
    power_laws = [row for result in targets.values() for row in result.exponents]
    if len(targets) == len(TARGETS):
        loss, ret = (targets[target] for target in TARGETS)
        rng = np.random.default_rng([seed, 3])
        both = (loss.cells, loss.profiles), (ret.cells, ret.profiles)
        if loss.profiles and ret.profiles:
            power_laws += fit_return_of_loss(*both, rng, _fewer(loss.cells, replicates))
        warnings += return_warning(seen)
    forecasts, more = _forecasts(targets, forecast_flops, forecast_at, seed)
    reached = _goals(targets, target_returns, expert_return, seed)
    held_out, held_out_cells, left_out = _held_out(targets, [p for p in points if p.held_out], seed, budget_column)
    excluded += left_out
    warnings += diverged_warning(points)
    curves = _curves(targets, [*forecast_flops, *(h.flops for h in held_out)], seed)
    last = max(float(result.cells.budgets[-1]) for result in targets.values())
    warnings += [*more, *extrapolation_warning(last, sorted({f.flops for f in forecasts}))]
    warnings += goal_warning(last, [(g.name or f"{g.value:,.6g}", g.flops) for g in reached if g.flops is not None])
    if expert_return is not None and "return_mean" in targets:
        warnings += _expert(targets["return_mean"], curves["return_mean"][-1], expert_return)
    rows = [row for t, result in targets.items() for row in backtest_rows(t, _predictions(result))]
    best = tuple(row for r in targets.values() for row in optima(r.cells, r.exponents, r.surface, forecast_flops))
    warnings += disagreement(best)
    warnings += [w for t, r in targets.items() for w in bias_warning(t, vertex_bias(r.cells, r.surface))]
    return Fit(
        tuple(points), _budgets(seen, budget_column, targets), tuple(excluded), tuple(warnings), targets,
        tuple(power_laws), tuple(rows),
        tuple(forecasts), tuple(held_out), tuple(held_out_cells), curves,
        tuple(row for t, r in targets.items() for row in optimal_exponents(t, r.exponents, r.surface, r.profiles)),
        best, tuple(reached), hardware, {t: judge(result, warnings) for t, result in targets.items()},
    )  # fmt: skip


def write_fit(result: Fit, path: str | Path) -> None:
    """Write fit.json atomically."""
    write_json(Path(path), result.to_dict())


def _budgets(seen: Sequence[Point], column: str | None, targets: dict[Target, TargetFit]) -> dict[str, Any]:
    found = find_budgets_of(seen, column)
    return {
        "count": len(found.flops), "spread": found.spread(seen), "source": found.source, "column": found.column,
        "isoflop": any(result.cells.isoflop for result in targets.values()),
    }  # fmt: skip


def _predictions(result: TargetFit) -> tuple[Prediction, ...]:
    """Return the forecasts of best cells that were compared with them; a table without profiles has none."""
    of_surface = result.surface.predictions if result.surface and result.profiles else ()
    return result.choice.predictions + of_surface


def _check(
    flops: Sequence[float], pairs: Sequence[tuple[float, float]], returns: Sequence[tuple[str, float]],
    min_return: float | None, points: Sequence[Point],
) -> None:  # fmt: skip
    for name, value in [*returns, *([] if min_return is None else [("the smallest return", min_return)])]:
        if not np.isfinite(value):
            raise FitError(f"{name or 'target'}: {value:g} is not a return; give a number")
    for value in [*flops, *(v for pair in pairs for v in pair)]:
        if not (np.isfinite(value) and value > 0):
            raise FitError(f"cannot forecast at {value:g}: budgets, params and samples must be positive numbers")
    measured = [p.return_mean for p in points if p.return_mean is not None and not p.diverged]
    if min_return is not None and min(measured, default=min_return) < min_return:
        raise FitError(
            f"the smallest return of the game is given as {min_return:g}, but the table has one of {min(measured):g};"
            " give the smallest that is possible"
        )


def _fewer(cells: Cells, replicates: int) -> int:
    """Return the replicates of what grows with the number of cells."""
    return int(np.clip(LARGEST / len(cells.cost), min(20, replicates), replicates))


def _fit_targets(
    seen: Sequence[Point], played: bool, seed: int, replicates: int, limits: Sequence[tuple[str, float]],
    min_return: float | None, budget_column: str | None,
) -> tuple[dict[Target, TargetFit], list[Excluded], list[Warned]]:  # fmt: skip
    """Fit each target that can be fitted; also return what was excluded, and warnings.

    played: the points have no dev loss, which is then no reason for a warning.
    """
    excluded: list[Excluded] = []
    warnings: list[Warned] = []
    targets: dict[Target, TargetFit] = {}
    for target in TARGETS:
        try:
            cells, left_out = make_cells(seen, target, min_return=min_return, budget_column=budget_column, screen=True)
            result = _fit_target(cells, np.random.default_rng([seed, len(target)]), replicates, limits)
        except FitError as error:
            if target == "dev_loss" and played:
                continue
            warnings.append(Warned(Code.TARGET_ABSENT, f"{target} is not fitted: {error}"))
            continue
        targets[target] = result
        cells = result.cells
        excluded += [*left_out, *excluded_budgets(result.profiles)]
        warnings += profile_warnings(cells, result.profiles) if cells.isoflop else isoflop_warning(cells)
        warnings += cell_warnings(cells)
        warnings += broken_warning(target, left_out)
        warnings += size_warning(target, result.forecaster.params.law if result.forecaster.params else None)
        at_cells = (row.law for row in result.exponents if (row.quantity, row.at) == ("params", "argmin"))
        warnings += grid_warning(target, cells, next(at_cells, None))
        frontier_cost = np.array([p.argmin_cost for p in result.profiles])
        warnings += bend_warning(target, np.log(cells.budgets), frontier_cost)
    if not targets:
        raise FitError("; ".join(dict.fromkeys(w.text for w in warnings)))
    return targets, excluded, warnings


def _fit_target(
    cells: Cells, rng: np.random.Generator, replicates: int, limits: Sequence[tuple[str, float]]
) -> TargetFit:
    if len(cells.budgets) < 2:
        raise FitError(
            f"all {len(cells.cost)} cells with a {cells.target} are at one budget, {cells.budgets[0]:.3g} FLOPs;"
            " a law needs at least 2 budgets to fit"
        )
    fewer, whole, cells = _fewer(cells, replicates), cells, cells.at_budgets()
    profiles = fit_profiles(cells)
    frontier = Frontier(
        cells.target, cells.budgets, np.array([p.argmin_cost for p in profiles]), np.array([p.noise for p in profiles]),
        tuple(profiles),
    )  # fmt: skip
    about = (sum(p.rss for p in profiles), sum(p.degrees for p in profiles))
    try:
        surface = fit_surface(whole, rng, max(20, fewer))
    except FitError:
        surface = None
    found = None if whole.isoflop else optimum_choice(cells, surface)
    if found is not None:
        choice, profiles, exponents = found, [], []
    else:
        choice = choose(frontier, rng, replicates, about, _limits(cells, limits))
        exponents = fit_exponents(cells, profiles, rng, fewer)
    forecaster = make_forecaster(choice, exponents, surface, cells, profiles)
    return TargetFit(cells, profiles, choice, surface, exponents, forecaster)


def _limits(cells: Cells, limits: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the known largest returns, above the offset. An expert that an agent has passed is no limit."""
    if cells.target != "return_mean":
        return []
    best = float(cells.value(cells.cost).max())
    for name, value in limits:
        if name == LARGEST_RETURN and value < best:
            raise FitError(f"{name} is given as {value:g}, but a mean return of {best:g} was reached; give the game's")
    return [(name, value - cells.offset) for name, value in limits if value > best or name == LARGEST_RETURN]


def _goals(
    targets: dict[Target, TargetFit], goals: Sequence[tuple[str, float]], expert: float | None, seed: int
) -> list[Goal]:
    """Find the compute of each target return, and of the expert's where that is above the offset."""
    if "return_mean" not in targets:
        return []
    forecaster = targets["return_mean"].forecaster
    for name, value in goals:
        if not np.isfinite(forecaster.cost(value)):
            least = f"{forecaster.offset:.4g}, from which returns are counted" if forecaster.offset else "zero"
            raise FitError(f"{name or 'target'}: a return of {value:g} has no logarithm; give one above {least}")
    if expert is not None and np.isfinite(forecaster.cost(expert)):
        goals = [*goals, ("the expert", expert)]
    return [reach(name, value, forecaster, np.random.default_rng([seed, 14])) for name, value in goals]


def _forecasts(
    targets: dict[Target, TargetFit], flops: Sequence[float], pairs: Sequence[tuple[float, float]], seed: int
) -> tuple[list[Forecast], list[Warned]]:
    forecasts: list[Forecast] = []
    warnings: list[Warned] = []
    for target, result in targets.items():
        rng = np.random.default_rng([seed, 11, len(target)])
        forecasts += result.forecaster.at_flops(flops, rng)
        found = [result.forecaster.at_cell(n, d, rng) for n, d in pairs]
        forecasts += [forecast for forecast in found if forecast is not None]
        if pairs and None in found:
            text = (
                f"{target}: no forecast for given params and samples: it takes 7 cells, 3 sizes and 3 amounts of data"
            )
            warnings.append(Warned(Code.TOO_FEW, text))
    return forecasts, warnings


def _held_out(
    targets: dict[Target, TargetFit], points: Sequence[Point], seed: int, budget_column: str | None
) -> tuple[list[HeldOut], list[HeldOut], list[Excluded]]:
    """Compare the held-out points with their forecasts; also return those that are left out."""
    best: list[HeldOut] = []
    every: list[HeldOut] = []
    left_out = [Excluded(t, p.flops, p.params, Reason.DIVERGED) for t in targets for p in points if p.diverged]
    for target, result in targets.items():
        try:
            cells, below = make_cells(points, target, offset=result.cells.offset, budget_column=budget_column)
        except FitError:
            continue
        left_out += [row for row in below if row.reason is Reason.RETURN_NOT_POSITIVE]
        of_budget, of_cell = compare_held_out(cells, result.forecaster, np.random.default_rng([seed, 12, len(target)]))
        best += of_budget
        every += of_cell
    return best, every, left_out


def _curves(targets: dict[Target, TargetFit], ahead: Sequence[float], seed: int) -> dict[Target, list[Forecast]]:
    curves: dict[Target, list[Forecast]] = {}
    for target, result in targets.items():
        first, last = float(result.cells.budgets[0]), float(result.cells.budgets[-1])
        beyond = [c for c in ahead if c > last]
        rng = np.random.default_rng([seed, 13, len(target)])
        curves[target] = result.forecaster.curve(first, max(beyond) if beyond else 10 * last, rng)
    return curves


def _expert(result: TargetFit, end: Forecast, expert: float) -> list[Warned]:
    reached = float(result.cells.value(result.cells.cost).max())
    return expert_warning(reached, end.high, end.flops, expert, result.cells.offset)
