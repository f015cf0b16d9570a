"""The whole analysis of a table of points: profiles, power laws, the law that forecasts, forecasts, held-out scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from playscale.config import PLAYING_METHODS
from playscale.points import Point, PointTable, as_points, distinct
from playscale.scaling.allocation import (
    OptimalExponent,
    Optimum,
    bias_warning,
    disagreement,
    optima,
    optimal_exponents,
    vertex_bias,
)  # fmt: skip
from playscale.scaling.backtest import BacktestRow, Prediction, backtest_rows
from playscale.scaling.cells import TARGETS, Excluded, FitError, Reason, Target, find_budgets_of, make_cells
from playscale.scaling.choice import LARGEST_RETURN
from playscale.scaling.columns import Columns, columns_of
from playscale.scaling.corpus_limit import CorpusPasses, Limited, corpora, no_corpora
from playscale.scaling.exponents import Exponent, fit_return_of_loss
from playscale.scaling.forecast import Forecast, HeldOut, compare_held_out
from playscale.scaling.goal import Goal, reach
from playscale.scaling.gpu import Hardware
from playscale.scaling.inference_cost import WithInference, no_inference, with_inference
from playscale.scaling.off_size import OffSize, off_sizes
from playscale.scaling.sensitivity import Sensitivity, analyse
from playscale.scaling.target_fit import TargetFit, fit_targets, replicates_for
from playscale.scaling.verdict import Verdict, judge
from playscale.scaling.warning import (
    Code,
    Warned,
    diverged_warning,
    expert_warning,
    extrapolation_warning,
    game_warning,
    goal_warning,
    return_warning,
    twice_warnings,
)  # fmt: skip
from playscale.shown import Shown
from playscale.storage.files import write_json

REPLICATES = 1000
SMALLEST_RETURN = "the smallest return"


@dataclass(frozen=True, eq=False)
class Fit(Shown):
    """The result of `fit`. `to_dict` is fit.json, whose fields docs/scaling.md lists.

    Attributes:
        points: all rows, held-out ones too; of rows that are the same in every column one.
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
        off_sizes: what a budget gives at half and at twice its best size.
        inference: the best size of a budget that pays for training and inference.
        corpora: the best size and data of a budget where a corpus is limited.
        corpus_passes: what a size gives after so many passes over a corpus.
        hardware: GPU that hours and energy are given for.
        verdicts: whether the table can carry a forecast of each target.
        sensitivity: what settings do that the table varies; None where it varies none.
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
    off_sizes: tuple[OffSize, ...] = ()
    inference: tuple[WithInference, ...] = ()
    corpora: tuple[Limited, ...] = ()
    corpus_passes: tuple[CorpusPasses, ...] = ()
    hardware: Hardware | None = None
    verdicts: dict[Target, Verdict] = field(default_factory=dict)
    sensitivity: Sensitivity | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return fit.json: plain JSON types, null for every number that does not exist."""
        from playscale.scaling.document import document

        return document(self)

    def table(self, name: str) -> Columns:
        """Return a list of fit.json as columns {name: array}; a number that does not exist is NaN.

        Args:
            name: power_laws, forecasts, held_out, track_record, profiles, or another list of rows.

        Raises:
            ValueError: fit.json has no such list.
        """
        return columns_of(self.to_dict(), name)


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
    corpus_samples: Sequence[float] = (),
    inference_samples: Sequence[float] = (),
    replicates: int = REPLICATES,
    has_returns: bool = True,
) -> Fit:
    """Fit all laws to the points with split "fit" and compare the "held-out" ones with their forecast.

    Points of other settings than the study's recipe (column `varied`) are no part of any law.

    IsoFLOP profiles and the parametric law follow Hoffmann et al. 2022 (arXiv 2203.15556, approaches 2 and 3), the
    translog law and the analysis of returns Tuyls et al. 2023 (arXiv 2307.09423), the broken law Caballero et al. 2022
    (arXiv 2210.14891). docs/scaling.md describes each step.

    Args:
        points: a table of one method in one game: points, rows {column: value}, columns {name: values}, or a DataFrame.
        forecast_flops: budgets to forecast for, in training FLOPs.
        forecast_at: (params, samples) pairs to forecast for; samples that are each seen once.
        seed: of the bootstrap; the same seed gives the same result.
        expert_return: mean return of the expert that the agents imitate: a bound, and a target return.
        max_return: the largest return that the game allows.
        min_return: the smallest, from which returns are counted; by default zero, or fitted where a mean return is
            not above zero.
        budget_column: the column that says to which budget a row belongs; by default `budget` where that column is one
            of budgets, else budgets are found by the gaps between neighbours in compute.
        target_returns: (name, return) pairs whose compute is sought.
        hardware: GPU to give hours and energy for.
        corpus_samples: sizes of corpora, in unique samples, that the data of a budget are limited to; by default the
            largest of a table whose data were seen again.
        inference_samples: numbers of samples of inference that a budget pays for beside training.
        replicates: how many bootstrap replicates the intervals take.
        has_returns: returns are expected; without, that none was measured is no warning.

    Returns:
        The laws, forecasts, held-out comparisons and warnings.

    Raises:
        FitError: nothing can be fitted, or an argument is no number that can be; one line says what is missing.
    """
    table = as_points(points)
    given = [point for point in table if not point.varied]
    points = distinct(given)
    limits = {"the expert's return": expert_return, LARGEST_RETURN: max_return}
    known = [(name, _number(name, value)) for name, value in limits.items() if value is not None]
    min_return = None if min_return is None else _number(SMALLEST_RETURN, min_return)
    forecast_flops = [_positive("forecast_flops", value) for value in _items("forecast_flops", forecast_flops)]
    forecast_at = [_pair(pair) for pair in _items("forecast_at", forecast_at)]
    corpus_samples, inference_samples = (
        [_positive(name, value) for value in _items(name, values)]
        for name, values in (("corpus_samples", corpus_samples), ("inference_samples", inference_samples))
    )
    target_returns = [_named_return(item) for item in _items("target_returns", target_returns)]
    _check_counts(seed, replicates, hardware)
    _check_limits(points, min_return, max_return)
    seen, method = _to_fit(points, budget_column)
    _check_goals(seen, target_returns, min_return, budget_column)
    targets, excluded, warnings = fit_targets(
        seen, _unmeasured(method, has_returns), seed, replicates, known, min_return, budget_column
    )
    power_laws = _power_laws(targets, seed, replicates)
    if len(targets) == len(TARGETS):
        warnings += return_warning(seen)
    forecasts, more = _forecasts(targets, forecast_flops, forecast_at, seed)
    reached = _goals(targets, target_returns, expert_return, seed)
    ahead = forecast_flops or [10 * max(float(result.cells.budgets[-1]) for result in targets.values())]
    limited, passes = corpora(targets, ahead, corpus_samples, seed)
    inference = with_inference(targets, ahead, inference_samples, seed)
    held_out, held_out_cells, left_out = _held_out(targets, [p for p in points if p.held_out], seed, budget_column)
    curves = _curves(targets, [*ahead, *(h.flops for h in held_out)], seed)
    best = tuple(
        row for r in targets.values() for row in optima(r.cells, r.exponents, r.surface, forecast_flops, r.choice.floor)
    )
    warnings += (
        twice_warnings(given, points)
        + game_warning(points)
        + diverged_warning(points)
        + more
        + _far_warnings(targets, forecasts, reached)
        + no_corpora(targets, corpus_samples)
        + no_inference(targets, inference_samples, inference)
    )
    if expert_return is not None and "return_mean" in targets:
        warnings += _expert(targets["return_mean"], curves["return_mean"][-1], expert_return)
    warnings += disagreement(best, {(row.target, row.flops): row.params for row in forecasts})
    warnings += [w for t, r in targets.items() for w in bias_warning(t, vertex_bias(r.cells, r.surface))]
    return Fit(
        points=tuple(points),
        budgets=_budgets(seen, budget_column, targets),
        excluded=(*excluded, *left_out),
        warnings=tuple(warnings),
        targets=targets,
        power_laws=tuple(power_laws),
        backtest=tuple(row for t, r in targets.items() for row in backtest_rows(t, _predictions(r))),
        forecasts=tuple(forecasts),
        held_out=tuple(held_out),
        held_out_cells=tuple(held_out_cells),
        curves=curves,
        optimal_exponents=tuple(
            row for t, r in targets.items() for row in optimal_exponents(t, r.exponents, r.surface, r.profiles)
        ),
        optima=best,
        target_returns=tuple(reached),
        off_sizes=tuple(off_sizes(targets, ahead, seed)),
        inference=tuple(inference),
        corpora=tuple(limited),
        corpus_passes=tuple(passes),
        hardware=hardware,
        verdicts={t: judge(result, warnings, forecast_flops) for t, result in targets.items()},
        sensitivity=analyse(distinct(table)) if len(given) < len(table) else None,
    )


def write_fit(result: Fit, path: str | Path) -> None:
    """Write fit.json atomically."""
    write_json(Path(path), result.to_dict())


def _budgets(seen: Sequence[Point], column: str | None, targets: dict[Target, TargetFit]) -> dict[str, Any]:
    found = find_budgets_of(seen, column)
    return {
        "count": len(found.flops), "spread": found.spread(seen), "source": found.source, "column": found.column,
        "isoflop": any(result.cells.isoflop for result in targets.values()),
    }  # fmt: skip


def _unmeasured(method: str, has_returns: bool) -> frozenset[Target]:
    """Return the targets that are not expected to be measured."""
    absent: dict[Target, bool] = {"dev_loss": method in PLAYING_METHODS, "return_mean": not has_returns}
    return frozenset(target for target, is_absent in absent.items() if is_absent)


def _to_fit(points: Sequence[Point], budget_column: str | None) -> tuple[list[Point], str]:
    """Return the points that are not held out, and their method."""
    if budget_column is not None:
        find_budgets_of(points, budget_column)
    methods = {point.method or "no method" for point in points}
    games = {point.game for point in points if point.game}  # of one game are rows without any, with a warning
    for name, found in (("method", methods), ("game", games)):
        if len(found) > 1:
            raise FitError(f"a law is of one {name}; this table has {', '.join(sorted(found))}: fit each apart")
    seen = [point for point in points if not point.held_out]
    if not seen:
        raise FitError('no point to fit: every row is "held-out" or of varied settings, or there are none')
    return seen, seen[0].method


def _power_laws(targets: dict[Target, TargetFit], seed: int, replicates: int) -> list[Exponent]:
    """Return the laws of every target, and those of the best return against its size, data and loss."""
    rows = [row for result in targets.values() for row in result.exponents]
    if len(targets) < len(TARGETS) or not all(result.profiles for result in targets.values()):
        return rows
    loss, ret = ((targets[target].cells, targets[target].profiles) for target in TARGETS)
    return rows + fit_return_of_loss(loss, ret, np.random.default_rng([seed, 3]), replicates_for(loss[0], replicates))


def _far_warnings(targets: dict[Target, TargetFit], forecasts: list[Forecast], reached: list[Goal]) -> list[Warned]:
    """Return warnings of forecasts and target returns far from the fitted budgets."""
    first = min(float(result.cells.budgets[0]) for result in targets.values())
    last = max(float(result.cells.budgets[-1]) for result in targets.values())
    goals = [(g.name or f"{g.value:,.6g}", g.flops) for g in reached if g.flops is not None]
    return [*extrapolation_warning(first, last, sorted({f.flops for f in forecasts})), *goal_warning(last, goals)]


def _predictions(result: TargetFit) -> tuple[Prediction, ...]:
    """Return the forecasts of best cells that were compared with them; a table without profiles has none."""
    of_surface = result.surface.predictions if result.surface and result.profiles else ()
    return result.choice.predictions + of_surface


def _items(name: str, values: Any) -> list[Any]:
    """Return the items of an argument that is a list."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise FitError(f"{name}: {values!r} is no list; give one, even of a single item")
    return list(values)


def _finite(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        number = float("nan") if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _number(name: str, value: Any) -> float:
    if (number := _finite(value)) is None:
        raise FitError(f"{name}: {value!r} is not a return; give a number")
    return number


def _positive(name: str, value: Any) -> float:
    if (number := _finite(value)) is None or number <= 0:
        raise FitError(f"{name}: cannot forecast at {value!r}: budgets, params and samples must be positive numbers")
    return number


def _pair(pair: Any) -> tuple[float, float]:
    try:
        params, samples = pair
    except (TypeError, ValueError):
        raise FitError(f"forecast_at: {pair!r} is no pair (params, samples)") from None
    return _positive("forecast_at", params), _positive("forecast_at", samples)


def _named_return(item: Any) -> tuple[str, float]:
    try:
        name, value = item
    except (TypeError, ValueError):
        raise FitError(f"target_returns: {item!r} is no pair (name, return)") from None
    return str(name), _number(str(name) or "target_returns", value)


def _check_counts(seed: Any, replicates: Any, hardware: Any) -> None:
    for name, value, least in (("seed", seed, 0), ("replicates", replicates, 1)):
        if not isinstance(value, int | np.integer) or value < least:
            raise FitError(f"{name}: {value!r} is no whole number of at least {least}")
    if hardware is not None and not isinstance(hardware, Hardware):
        raise FitError(f"hardware: {hardware!r} is none; give playscale.scaling.gpu.hardware(name, utilisation)")


def _check_limits(points: Sequence[Point], smallest: float | None, largest: float | None) -> None:
    """Refuse limits of the returns that a mean return of the table has passed."""
    measured = [p.return_mean for p in points if p.return_mean is not None and not p.diverged]
    for name, limit, end in ((SMALLEST_RETURN, smallest, min), (LARGEST_RETURN, largest, max)):
        if limit is not None and measured and end(limit, end(measured)) != limit:
            raise FitError(
                f"{name} of the game is given as {limit:g}, but the table has one of {end(measured):g};"
                f" give the {name.split()[1]} that is possible"
            )


def _check_goals(
    seen: Sequence[Point], goals: Sequence[tuple[str, float]], min_return: float | None, budget_column: str | None
) -> None:
    """Refuse a target return that is not above what returns are counted from, before anything is fitted."""
    if not goals:
        return
    try:
        cells, _ = make_cells(seen, "return_mean", min_return=min_return, budget_column=budget_column, screen=True)
    except FitError:  # no return was measured, as the fit says
        return
    for name, value in goals:
        if value <= cells.offset:
            least = f"{cells.offset:.4g}, from which returns are counted" if cells.offset else "zero"
            raise FitError(f"{name or 'target'}: a return of {value:g} has no logarithm; give one above {least}")


def _goals(
    targets: dict[Target, TargetFit], goals: Sequence[tuple[str, float]], expert: float | None, seed: int
) -> list[Goal]:
    """Find the compute of each target return, and of the expert's where that is above the offset."""
    if "return_mean" not in targets:
        return []
    forecaster = targets["return_mean"].forecaster
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
    """Return the laws over compute, to the furthest budget `ahead`; to ten times the largest fitted without one."""
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
