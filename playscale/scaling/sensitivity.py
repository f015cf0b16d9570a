"""Sensitivity to settings: how the best value of a setting moves with size and compute, what the recipe's value loses,
and how far the laws' exponents differ between settings.

A study that varies settings has rows of its own settings, the recipe, and rows that differ from it (column `varied`).
A curve is the loss of one size at one budget against the values of one setting, the other settings the same: those of
the recipe, or in a grid without them the combination with the most values, and of these the lowest loss.

Sizes are trained apart, the budgets of a size are checkpoints of one run: intervals take sizes as the units.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from playscale.points import Point
from playscale.scaling.cells import SIGN, FitError, Target, find_budgets_of, make_cells
from playscale.scaling.exponents import fit_exponents, used_laws
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.powerlaw import LEVEL, fit_power_law

Value = float | str
Settings = frozenset[tuple[str, Value]]  # those in which a row differs from the recipe
RECIPE = "recipe"
TUNED = "best of all"
REPLICATES = 20  # of a bootstrap that nothing here uses: intervals are those of the line through the budgets
FEWEST = 3  # values of a curve whose minimum is one
WINDOW = 4.0


@dataclass(frozen=True)
class Curve:
    """The loss (or return) of one size at one budget against the values of a setting.

    others: settings in which its rows differ from the recipe beside this one, "" for none.
    values, losses: rising values, or names in their order; losses are means over seeds.
    best: the value at the vertex of a parabola around the lowest loss, between its neighbours (in the logarithm of the
    values where all are above zero), else the best value trained; low, high: its neighbours, between which the best
    lies; edge: the best value trained is the last one, and a bound.
    best_value, best_loss: the best that was trained. recipe_value, recipe_loss: the recipe's value, and its loss on
    this curve, else that of the recipe's run; lost: what that loses against the best, 0 where it is as good or better.
    """

    setting: str
    size: str
    params: float
    flops: float
    others: str
    values: tuple[Value, ...]
    losses: tuple[float, ...]
    best: Value
    low: Value | None
    high: Value | None
    edge: str | None
    best_value: Value
    best_loss: float
    recipe_value: Value | None
    recipe_loss: float | None
    lost: float | None


@dataclass(frozen=True)
class SettingLaw:
    """The best value of a setting as a power law of `of`, params or flops, at equal values of the other one.

    low, high: 95 % interval of the exponent; None where too few sizes give one. n: sizes. recipe: the exponent of the
    recipe's own values. log_coefficient: of the law of params, at the mean budget.
    """

    of: str
    exponent: float
    low: float | None
    high: float | None
    n: int
    log_coefficient: float | None = None
    recipe: float | None = None

    @property
    def follows(self) -> bool | None:
        """Tell whether the best value changes with `of`: None where no interval tells."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


@dataclass(frozen=True)
class SettingResult:
    """One setting: its curves, largest budget last, and the laws of its best value."""

    setting: str
    curves: tuple[Curve, ...]
    laws: tuple[SettingLaw, ...]


@dataclass(frozen=True)
class SettingExponent:
    """An exponent of the laws fitted to the rows of one combination of settings, against compute."""

    settings: str
    quantity: str
    exponent: float
    low: float | None
    high: float | None
    budgets: int


@dataclass(frozen=True)
class Tuned:
    """A budget: the best loss (or return) of the recipe over the sizes, and that of all settings, with its size."""

    flops: float
    recipe: float
    best: float
    params: float
    varied: str


@dataclass(frozen=True)
class Sensitivity:
    """All of it. noise: standard deviation of one run's loss about the mean of its seeds, relative; None: one seed."""

    target: Target
    noise: float | None
    settings: tuple[SettingResult, ...]
    tuned: tuple[Tuned, ...]
    exponents: tuple[SettingExponent, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the part `sensitivity` of fit.json."""
        return {
            "target": self.target,
            "noise": self.noise,
            "settings": [
                {
                    "setting": one.setting,
                    "laws": [vars(law) | {"follows": law.follows} for law in one.laws],
                    "curves": [
                        vars(curve) | {"values": [*curve.values], "losses": [*curve.losses]} for curve in one.curves
                    ],
                }
                for one in self.settings
            ],
            "tuned": [dict(vars(row)) for row in self.tuned],
            "exponents": [dict(vars(row)) for row in self.exponents],
        }


@dataclass(frozen=True)
class _Cell:
    """The rows of one size, budget and settings, which differ in their seed alone."""

    size: str
    params: float
    flops: float
    settings: Settings
    rows: tuple[Point, ...]
    loss: float

    def value(self, setting: str) -> Value | None:
        """Return the value of a setting, of the recipe too; None where the table does not say."""
        text = self.rows[0].extra.get(setting, "").strip() or str(dict(self.settings).get(setting, ""))
        return _value(text) if text else None


def analyse(points: Sequence[Point]) -> Sensitivity | None:
    """Analyse a table of one method whose column `varied` names settings; None for one that varies nothing.

    Held-out rows are left out, as in every fit.
    """
    target: Target = "dev_loss" if any(point.dev_loss is not None for point in points) else "return_mean"
    cells = _cells([point for point in points if not point.held_out and getattr(point, target) is not None], target)
    names = sorted({name for cell in cells for name, _ in cell.settings})
    if not names:
        return None
    settings = []
    for name in names:
        curves = _curves(cells, name, target)
        settings.append(SettingResult(name, curves, tuple(_laws(curves))))
    common = _beside_varied(cells)
    return Sensitivity(
        target, _noise(cells, target), tuple(settings), _tuned(common, target), _exponents(common, target)
    )


def _cells(points: Sequence[Point], target: Target) -> list[_Cell]:
    if not points:
        return []
    found = find_budgets_of(points, None)
    groups: dict[Any, list[Point]] = defaultdict(list)
    for point, index in zip(points, found.index, strict=True):
        groups[point.params, float(found.flops[index]), _settings(point.varied)].append(point)
    return [
        _Cell(rows[0].size, params, flops, settings, tuple(rows), float(np.mean([getattr(p, target) for p in rows])))
        for (params, flops, settings), rows in groups.items()
    ]


def _settings(varied: str) -> Settings:
    """Read `batch=32 learning_rate=0.001`."""
    pairs = (part.partition("=") for part in re.split(r"[\s,;]+", varied) if part)
    return frozenset((name, _value(text)) for name, _, text in pairs)


def _value(text: str) -> Value:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def settings_text(settings: Iterable[tuple[str, Value]]) -> str:
    """Write settings as the column `varied` does."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in sorted(settings)
    )


def _curves(cells: Sequence[_Cell], setting: str, target: Target) -> tuple[Curve, ...]:
    """Return a curve for each size and budget at which the setting has two values or more."""
    places: dict[tuple[float, float], list[_Cell]] = defaultdict(list)
    for cell in cells:
        places[cell.flops, cell.params].append(cell)
    curves = (_curve(own, setting, target) for _, own in sorted(places.items()))
    return tuple(curve for curve in curves if curve is not None)


def _curve(own: Sequence[_Cell], setting: str, target: Target) -> Curve | None:
    sign = SIGN[target]
    groups: dict[Settings, dict[Value, float]] = defaultdict(dict)
    for cell in own:
        value = cell.value(setting)
        if value is not None:
            groups[frozenset(pair for pair in cell.settings if pair[0] != setting)][value] = cell.loss
    if not groups:
        return None
    others = min(
        groups, key=lambda g: (-len(groups[g]), min(sign * loss for loss in groups[g].values()), sorted(map(str, g)))
    )
    if len(groups[others]) < 2:
        return None
    numeric = all(isinstance(value, float) for value in groups[others])
    values = sorted(groups[others], key=lambda value: value if numeric else str(value))  # type: ignore[arg-type,return-value]
    losses = [groups[others][value] for value in values]
    least = int(np.argmin(sign * np.array(losses)))
    last = len(values) - 1
    edge = None if not numeric or 0 < least < last else "below" if least == 0 else "above"
    recipe = next((cell for cell in own if not cell.settings), None)
    recipe_value = None if recipe is None else recipe.value(setting)
    recipe_loss = None if recipe is None else groups[others].get(recipe_value, recipe.loss)  # type: ignore[arg-type]
    return Curve(
        setting, own[0].size, own[0].params, own[0].flops, settings_text(others), tuple(values), tuple(losses),
        _vertex(values, sign * np.array(losses), least) if numeric and edge is None else values[least],  # type: ignore[arg-type]
        values[least - 1] if numeric and least > 0 else None, values[least + 1] if numeric and least < last else None,
        edge, values[least], losses[least],
        recipe_value, recipe_loss, None if recipe_loss is None else max(0.0, sign * (recipe_loss - losses[least])),
    )  # fmt: skip


def _vertex(values: Sequence[float], costs: np.ndarray, least: int) -> float:
    """Return the vertex of a parabola around the lowest cost, in ln value where that exists, between its neighbours.

    It is fitted to the values within a factor WINDOW of the best one, the neighbours at least.
    """
    x = np.log(values) if min(values) > 0 else np.array(values)
    near = np.abs(np.arange(len(x)) - least) <= 1
    if min(values) > 0:
        near |= np.abs(x - x[least]) <= math.log(WINDOW) * (1 + 1e-9)
    a, b, _ = np.polyfit(x[near] - x[least], costs[near], 2)
    if not a > 0:
        return values[least]
    vertex = float(x[least] - b / (2 * a))
    return float(np.clip(math.exp(vertex) if min(values) > 0 else vertex, values[least - 1], values[least + 1]))


def _laws(curves: Sequence[Curve]) -> list[SettingLaw]:
    """Fit ln best against ln params at equal budgets, and against ln flops at equal size.

    Curves whose best value is the last one bound it and are left out, and so are those of fewer than 3 values.
    """
    used = [
        c for c in curves if c.edge is None and len(c.values) >= FEWEST and isinstance(c.best, float) and c.best > 0
    ]
    sizes: dict[float, list[Curve]] = defaultdict(list)
    for curve in used:
        sizes[curve.params].append(curve)
    slopes = [slope for own in sizes.values() if (slope := _slope(own)) is not None]
    slope = float(np.mean(slopes)) if slopes else 0.0
    return [law for law in (_law_of_params(sizes, slope), _law_of_flops(slopes)) if law is not None]


def _slope(own: Sequence[Curve]) -> float | None:
    """Return the slope of ln best against ln flops of one size; None where it has one budget."""
    try:
        return fit_power_law(_log(c.flops for c in own), _log(c.best for c in own)).exponent
    except FitError:
        return None


def _law_of_params(sizes: Mapping[float, Sequence[Curve]], slope: float) -> SettingLaw | None:
    """Fit the sizes' mean ln best, moved to the mean budget by the slope against ln flops."""
    if len(sizes) < 2:
        return None
    middle = float(np.mean(_log(c.flops for own in sizes.values() for c in own)))
    mean = [
        float(np.mean(_log(c.best for c in own) - slope * (_log(c.flops for c in own) - middle)))
        for own in sizes.values()
    ]
    law = fit_power_law(_log(sizes), np.array(mean))
    recipe = [own[0].recipe_value for own in sizes.values()]
    given = [value for value in recipe if isinstance(value, float) and value > 0]
    own_exponent = fit_power_law(_log(sizes), _log(given)).exponent if len(given) == len(sizes) else None
    return SettingLaw("params", law.exponent, law.low, law.high, law.n, law.log_coefficient, own_exponent)


def _law_of_flops(slopes: Sequence[float]) -> SettingLaw | None:
    """Return the mean of the sizes' slopes against ln flops, with the interval of that mean."""
    if not slopes:
        return None
    mean, n = float(np.mean(slopes)), len(slopes)
    if n < 2:
        return SettingLaw("flops", mean, None, None, n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(slopes, ddof=1) / math.sqrt(n))
    return SettingLaw("flops", mean, mean - half, mean + half, n)


def _log(values: Iterable[Any]) -> np.ndarray:
    return np.log(np.array([*values], dtype=float))


def _noise(cells: Sequence[_Cell], target: Target) -> float | None:
    """Return the pooled relative scatter of seeds about their cell's mean."""
    squares = degrees = 0.0
    for cell in cells:
        if len(cell.rows) > 1:
            spread = np.array([getattr(p, target) for p in cell.rows]) / cell.loss - 1
            squares, degrees = squares + float(np.sum(spread**2)), degrees + len(cell.rows) - 1
    return math.sqrt(squares / degrees) if degrees else None


def _beside_varied(cells: Sequence[_Cell]) -> list[_Cell]:
    """Return the cells of the sizes and budgets at which something was varied: the grid that settings share."""
    varied = {(cell.params, cell.flops) for cell in cells if cell.settings}
    return [cell for cell in cells if (cell.params, cell.flops) in varied]


def _tuned(cells: Sequence[_Cell], target: Target) -> tuple[Tuned, ...]:
    """Return for each budget the best of the recipe's sizes beside the best of all settings."""
    sign, rows = SIGN[target], []
    for flops in sorted({cell.flops for cell in cells}):
        own = [cell for cell in cells if cell.flops == flops]
        recipe = [cell.loss for cell in own if not cell.settings]
        if recipe:
            best = min(own, key=lambda cell: (sign * cell.loss, len(cell.settings)))
            least = min(recipe, key=lambda loss: sign * loss)
            rows.append(Tuned(flops, least, best.loss, best.params, settings_text(best.settings)))
    return tuple(rows)


def _exponents(cells: Sequence[_Cell], target: Target) -> tuple[SettingExponent, ...]:
    """Fit the laws of best cells to each combination of settings, and to the best of all settings of each cell."""
    combinations = sorted(
        {cell.settings for cell in cells}, key=lambda s: (len(s), [(n, str(type(v)), v) for n, v in sorted(s, key=str)])
    )
    groups = {
        settings_text(chosen) or RECIPE: [cell for cell in cells if _is_of(cell, chosen)] for chosen in combinations
    }
    best: dict[tuple[float, float], _Cell] = {}
    for cell in cells:
        known = best.get((cell.params, cell.flops))
        if known is None or SIGN[target] * (cell.loss - known.loss) < 0:
            best[cell.params, cell.flops] = cell
    groups[TUNED] = [*best.values()]
    return tuple(row for name, own in groups.items() for row in _exponents_of(name, own, target))


def _is_of(cell: _Cell, chosen: Settings) -> bool:
    """Tell whether a cell has the chosen settings, be they its size's anyway, and the recipe's otherwise."""
    return cell.settings <= chosen and all(cell.value(name) == value for name, value in chosen)


def _exponents_of(name: str, own: Sequence[_Cell], target: Target) -> list[SettingExponent]:
    try:
        cells = make_cells([row for cell in own for row in cell.rows], target)[0].at_budgets()
    except FitError:
        return []
    if not cells.isoflop:
        return []
    exponents = fit_exponents(cells, fit_profiles(cells), np.random.default_rng(0), REPLICATES)
    used = used_laws(exponents, target, len(cells.budgets))
    return [
        SettingExponent(name, quantity, row.law.exponent, row.law.low, row.law.high, row.law.n)
        for quantity in ("params", "samples", target)
        if (row := used.get(quantity)) is not None
    ]
