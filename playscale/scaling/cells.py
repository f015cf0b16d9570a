"""Points as cells: repeats averaged, one noise estimate, one direction in which less is better.

Everything downstream works on the cost of a cell, log dev loss or minus log of the return above the offset, so that a
best cell is always a minimum and a power law always a line. Legend: n cells, B budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from playscale.points import PASSES_COLUMNS, Point
from playscale.scaling.broken import broken
from playscale.scaling.budgets import STEP, Budgets, find_budgets
from playscale.scaling.offset import UNFITTED_MARGIN, fit_offset

Target = Literal["dev_loss", "return_mean"]
TARGETS: tuple[Target, ...] = ("dev_loss", "return_mean")
OPTIONS: dict[str, Target] = {"loss": "dev_loss", "return": "return_mean"}
"""The targets by their names in options."""
SIGN: dict[str, float] = {"dev_loss": 1.0, "return_mean": -1.0}

# Sizes, and amounts of compute within a budget, that differ by less are the same: rows of both are repeats.
SAME_SIZE = SAME_COMPUTE = 1.01
# A profile needs sizes, and a law of best cells budgets: a table has them if at least this many budgets have this many
# sizes, and these budgets hold this share of its cells.
ISOFLOP_BUDGETS, ISOFLOP_SIZES, ISOFLOP_SHARE = 2, 3, 0.5
# Passes over the data after which another is worth nothing: R*_D, fitted by Muennighoff et al. to 182 language models.
REUSE = 15.39
# More passes than this overfit: the last is worth nothing, and the laws have no term for what is lost.
MOST_PASSES = 1 + REUSE
# Costs (logarithms) that differ by less are the same.
SAME_COST = 1e-9
# A relative error is the error of a logarithm while it is small; a value that is mostly noise has one of about this.
LARGEST_ERROR = 1.0


class FitError(ValueError):
    """The table cannot be fitted; one line says what is missing."""


class Reason(StrEnum):
    """Reasons for which a point or a budget is not part of a fit: a closed list."""

    DIVERGED = "training diverged"
    NO_LOSS = "no dev loss"
    NO_RETURN = "no return"
    BROKEN = "far from its neighbours"
    SAMPLES = "samples do not fit size and compute"
    RETURN_NOT_POSITIVE = "return not positive"
    FEW_CELLS = "fewer than 3 cells"
    WRONG_CURVATURE = "profile curves the wrong way"
    BELOW_SIZES = "minimum below the trained sizes"
    ABOVE_SIZES = "minimum above the trained sizes"


@dataclass(frozen=True)
class Excluded:
    """A point (params given) or a whole budget's parabola (params None) left out of the fits of `target`.

    run and value tell a point from others of its size and compute.
    """

    target: str
    flops: float
    params: float | None
    reason: Reason
    run: str = ""
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one target, sorted by budget, size and compute.

    flops, params, samples, cost [n] (samples NaN where unknown); error [n]: standard error of the cost, NaN where the
    table has none; repeats [n]: how many points were averaged; budget [n]: index into budgets [B] (FLOPs, rising).
    cluster [n]: index of the cells whose errors belong together: of one run, or of one size where no run is named.
    epochs [n]: passes over the data, at least 1 and 1 where unknown.
    repeat_sd: standard deviation of one run's cost about its cell's mean, pooled over the cells with repeats; NaN
    without repeats. offset: what is taken from a return before its logarithm; errors are relative to the rest;
    offset_fitted: it is neither zero nor given. isoflop: the table has budgets at which several sizes were trained;
    separate: its runs are at budgets, not anywhere.
    """

    target: Target
    flops: np.ndarray
    params: np.ndarray
    samples: np.ndarray
    cost: np.ndarray
    error: np.ndarray
    repeats: np.ndarray
    budget: np.ndarray
    budgets: np.ndarray
    repeat_sd: float
    cluster: np.ndarray
    epochs: np.ndarray
    offset: float = 0.0
    offset_fitted: bool = False
    isoflop: bool = True
    separate: bool = True

    def value(self, cost: np.ndarray | float) -> np.ndarray:
        """Return the dev loss or return of a cost."""
        return value_of(self.target, cost, self.offset)

    @property
    def fresh(self) -> np.ndarray:
        """Return the samples seen once that are worth as much as each cell's [n].

        D = U + U R (1 - e^(-(epochs - 1) / R)) of U unique samples (Muennighoff et al. 2023, arXiv 2305.16264, eq. 5).
        """
        unique = self.samples / self.epochs
        return unique * (1 - REUSE * np.expm1(-(self.epochs - 1) / REUSE))

    @property
    def flat(self) -> bool:
        """Tell whether no size is better than another: at any budget, or anywhere where there are none."""
        of = self.budget if self.isoflop else np.zeros_like(self.budget)
        return all(np.ptp(self.cost[of == i]) < SAME_COST for i in np.unique(of))

    def where(self, mask: np.ndarray) -> Cells:
        """Return the cells of a mask [n]; budgets and their indices stay as they are."""
        columns = ("flops", "params", "samples", "cost", "error", "repeats", "budget", "cluster", "epochs")
        return replace(self, **{name: getattr(self, name)[mask] for name in columns})

    def at_budgets(self) -> Cells:
        """Return one cell per budget and size, moved to the budget along the slope of the frontier.

        Of several that of the fewest passes over the data, and of these the nearest to the budget.

        At the best size a run gains from more data what the frontier gains from more compute (the envelope theorem;
        Hoffmann et al. 2022, equation 4), so its cost at the budget is that plus the slope times the missing ln C.
        Where all runs of a budget lie within STEP of each other, as those that stop a little past it, none is moved.
        """
        off = np.log(self.flops / self.budgets[self.budget])
        made = np.stack([self.budget, _group(self.params, SAME_SIZE)[0]])
        order = np.lexsort((np.abs(off), self.epochs, *made[::-1]))
        same = made[:, order]
        first = np.append(True, np.any(np.diff(same, axis=1) != 0, axis=0))
        near = self.where(np.sort(order[first]))
        low, high = np.full(len(self.budgets), np.inf), np.zeros(len(self.budgets))
        np.minimum.at(low, self.budget, self.flops)
        np.maximum.at(high, self.budget, self.flops)
        off = np.where((high <= STEP * low)[near.budget], 0, np.log(near.flops / near.budgets[near.budget]))
        return replace(
            near, flops=near.budgets[near.budget], cost=near.cost - self._slope()[near.budget] * off,
            samples=near.samples * np.exp(-off),
        )  # fmt: skip

    def _slope(self) -> np.ndarray:
        """Return the slope [B] of the best cost against ln C: of a parabola, or a line through few budgets."""
        if len(self.budgets) < 2:
            return np.zeros(len(self.budgets))
        best = np.full(len(self.budgets), np.inf)
        np.minimum.at(best, self.budget, self.cost)
        x = np.log(self.budgets) - np.log(self.budgets).mean()
        curve = np.polynomial.Polynomial.fit(x, best, 2 if len(x) > 3 else 1)
        return np.minimum(curve.deriv()(x), 0.0)

    def noise(self) -> np.ndarray:
        """Return the standard deviation [n] of each cell's cost if the cell were measured again; 0 where unknown.

        From repeats where there are any. The standard error of a return counts too; that of a dev loss does not, since
        every cell is measured on the same games: its error is shared by all of them and moves no comparison.
        """
        among = np.nan_to_num(self.repeat_sd / np.sqrt(self.repeats))
        within = np.nan_to_num(self.error) if self.target == "return_mean" else np.zeros(len(self.cost))
        return np.maximum(among, within)


def value_of(target: str, cost: np.ndarray | float, offset: float) -> np.ndarray:
    """Return the dev loss or return of a cost; inf where it would overflow."""
    with np.errstate(over="ignore", under="ignore"):
        return offset + np.exp(SIGN[target] * np.asarray(cost, dtype=float))


def cost_of(target: str, value: float, offset: float) -> float:
    """Return the cost of a dev loss or return; inf where a return is not above the offset."""
    above = value - offset
    return SIGN[target] * float(np.log(above)) if above > 0 else float("inf")


def make_cells(
    points: Sequence[Point], target: Target, *, offset: float | None = None, min_return: float | None = None,
    budget_column: str | None = None, screen: bool = False,
) -> tuple[Cells, list[Excluded]]:  # fmt: skip
    """Average points to the cells of `target`; also return the points that have none.

    A cell's value is the mean of its repeats. A return is counted from an offset: from `min_return`, or zero, where all
    cells lie above it, else from one that is fitted (`playscale.scaling.offset`).

    Args:
        points: rows of the points table.
        target: dev_loss or return_mean.
        offset: the offset of a fit, for other rows of its table, or 0 as in published analyses; a cell whose mean
            return is not above it has no logarithm and is excluded.
        min_return: the smallest return that the game gives.
        budget_column: the column that says to which budget a row belongs (`playscale.scaling.budgets`).
        screen: leave out rows that are far from their neighbours (`playscale.scaling.broken`).

    Raises:
        FitError: no cell is left, or the column is of no budgets.
    """
    excluded = _broken(points, target, min_return) if screen else []
    if excluded:
        gone = {(e.flops, e.params, e.run, e.value) for e in excluded}
        points = [p for p in points if (p.flops, p.params, p.run, getattr(p, target)) not in gone]
    measured, rows, unmeasured = _measured(points, target)
    excluded += unmeasured
    flops, params, samples, values, errors = _columns(measured, target)
    found = find_budgets_of(points, budget_column)
    budget, budgets = found.index[rows], found.flops
    size, _ = _group(params, SAME_SIZE)
    compute, _ = _group(flops, SAME_COMPUTE)
    passes, _ = _group(epochs_of(measured), SAME_COMPUTE)
    made, cell, repeats = np.unique(
        np.stack([budget, size, compute, passes]), axis=1, return_inverse=True, return_counts=True
    )
    cell = cell.ravel()
    mean = _mean(values, cell, repeats)
    flops, params, samples, epochs = (
        _centre(column, cell, repeats) for column in (flops, params, samples, epochs_of(measured))
    )
    error = np.sqrt(_mean(errors**2, cell, repeats) / repeats)
    first = made[0]
    offset, fitted = _offset(target, offset, min_return, budgets, first, mean, error)
    good = mean > offset
    excluded += [
        Excluded(target, float(budgets[b]), float(n), Reason.RETURN_NOT_POSITIVE)
        for b, n in zip(first[~good], params[~good], strict=True)
    ]
    if not good.any():
        raise FitError(f"no cell has a {target} above {offset:g}; laws on logarithms need at least 2 budgets with one")
    above = np.where(good, mean - offset, np.nan)
    kept, index = np.unique(first[good], return_inverse=True)
    relative = (error / above)[good]
    relative = np.where(relative > 0, np.minimum(relative, LARGEST_ERROR), np.nan)
    spread = (values - mean[cell]) / above[cell]
    cells = Cells(
        target, flops[good], params[good], samples[good], SIGN[target] * np.log(above[good]),
        relative, repeats[good], index.ravel(), budgets[kept], _repeat_sd(spread, int(np.sum(repeats[good] - 1))),
        _clusters(measured, size, cell)[good], epochs[good], offset, fitted,
        found.clear and _is_isoflop(made[:2, good]), found.clear,
    )  # fmt: skip
    return cells, excluded


def _measured(points: Sequence[Point], target: Target) -> tuple[list[Point], list[int], list[Excluded]]:
    """Return the points that have the target and did not diverge, their rows, and the others with their reasons.

    Raises:
        FitError: there are none.
    """
    missing = Reason.NO_LOSS if target == "dev_loss" else Reason.NO_RETURN
    excluded, measured, rows = [], [], []
    for row, point in enumerate(points):
        reason = Reason.DIVERGED if point.diverged else missing if getattr(point, target) is None else None
        if reason is None:
            measured.append(point)
            rows.append(row)
        else:
            excluded.append(Excluded(target, point.flops, point.params, reason))
    if not measured:
        but = " and has not diverged" if any(point.diverged for point in points) else ""
        raise FitError(f"no point to fit has a {target}{but}")
    return measured, rows, excluded


def _offset(
    target: Target, given: float | None, min_return: float | None, budgets: np.ndarray, budget: np.ndarray,
    mean: np.ndarray, error: np.ndarray,
) -> tuple[float, bool]:  # fmt: skip
    """Return the offset of returns, and whether it is fitted: to the cells' means, errors and budget indices [n]."""
    if target == "dev_loss":
        return 0.0, False
    if given is not None:
        return given, False
    least = 0.0 if min_return is None else min_return
    if mean.min() > least:
        return least, False
    return _fitted_offset(budgets, budget, mean, error), True


def _repeat_sd(spread: np.ndarray, degrees: int) -> float:
    """Return the pooled relative scatter of repeats, from their differences from the mean (NaN: not used)."""
    limited = np.minimum(np.abs(spread), LARGEST_ERROR)
    return float(np.sqrt(np.nansum(limited**2) / degrees)) if degrees else float("nan")


def _broken(points: Sequence[Point], target: Target, min_return: float | None) -> list[Excluded]:
    """Return the points that are far from their neighbours."""
    seen = [point for point in points if not point.diverged and getattr(point, target) is not None]
    if not seen:
        return []
    flops, params, samples, values, _ = _columns(seen, target)
    if target == "return_mean":
        least = 0.0 if min_return is None else min_return
        values = values - (least if values.min() > least else values.min() - UNFITTED_MARGIN * np.ptp(values))
    with np.errstate(divide="ignore"):
        far = broken(target, params, flops, SIGN[target] * np.log(values))
        slips = broken("samples", params, flops, np.log(samples))
    return [
        Excluded(target, p.flops, p.params, Reason.BROKEN if off else Reason.SAMPLES, p.run, getattr(p, target))
        for p, off, slip in zip(seen, far, slips, strict=True)
        if off or slip
    ]


def find_budgets_of(points: Sequence[Point], column: str | None) -> Budgets:
    """Group rows to budgets. Raises FitError where the column is of no budgets."""
    try:
        return find_budgets(points, column)
    except ValueError as error:
        raise FitError(str(error)) from error


def epochs_of(points: Sequence[Point]) -> np.ndarray:
    """Return the passes over the data [n]: column `epochs`, else samples over column `corpus_samples`; at least 1."""
    found = []
    for point in points:
        passes, corpus = (point.number(name) for name in PASSES_COLUMNS)
        found.append(passes or (point.samples / corpus if point.samples and corpus else 1.0))
    return np.maximum(found, 1.0)


def _fitted_offset(budgets: np.ndarray, budget: np.ndarray, mean: np.ndarray, error: np.ndarray) -> float:
    if np.ptp(mean) == 0:
        raise FitError(f"every mean return is {mean[0]:g}, so there is no law of returns; play more or train more")
    best = np.full(len(budgets), -np.inf)
    np.maximum.at(best, budget, mean)
    seen = np.isfinite(best)
    return fit_offset(budgets[seen], best[seen], mean, float(np.nan_to_num(error[np.argmin(mean)])))


def _is_isoflop(made: np.ndarray) -> bool:
    """Tell whether cells [2, n], by index of budget and of size, are an isoFLOP table."""
    sizes = np.bincount(np.unique(made, axis=1)[0])
    several = sizes >= ISOFLOP_SIZES
    return bool(several.sum() >= ISOFLOP_BUDGETS and sizes[several].sum() >= ISOFLOP_SHARE * sizes.sum())


def _clusters(points: Sequence[Point], size: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the cluster of each cell, from the size and the cell of each point; cells that share a run are one."""
    _, label = np.unique([f"{s} {p.run}" for p, s in zip(points, size, strict=True)], return_inverse=True)
    cells, labels = int(cell.max()) + 1, int(label.max()) + 1
    joined = coo_array((np.ones(len(cell)), (cell, cells + label)), shape=(cells + labels,) * 2)
    return np.asarray(connected_components(joined, directed=False)[1][:cells])


def _columns(points: Sequence[Point], target: str) -> tuple[np.ndarray, ...]:
    error = "dev_loss_se" if target == "dev_loss" else "return_se"
    names = ("flops", "params", "samples", target, error)
    return tuple(np.array([np.nan if (v := getattr(p, name)) is None else v for p in points], float) for name in names)


def _group(values: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Group values within a factor `ratio`; return the group of each [n] and the geometric mean of each group."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = [0]
    while (end := int(np.searchsorted(ordered, ordered[starts[-1]] * ratio, side="right"))) < len(values):
        starts.append(end)
    index = np.empty(len(values), dtype=int)
    index[order] = np.searchsorted(starts, np.arange(len(values)), side="right") - 1
    low, high = np.minimum.reduceat(ordered, starts), np.maximum.reduceat(ordered, starts)
    logs = np.exp(np.add.reduceat(np.log(ordered), starts) / np.diff([*starts, len(values)]))
    return index, np.where(low == high, low, logs)


def count_sizes(params: np.ndarray) -> int:
    """Count the sizes, of which those within 1 % are one."""
    return len(_group(params, SAME_SIZE)[1])


def _centre(values: np.ndarray, cell: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Return the geometric mean of each cell's values, exact for equal ones; NaN when one of them is."""
    first = np.empty(len(repeats))
    first[cell] = values
    spread = _mean((values != first[cell]).astype(float), cell, repeats)
    return np.where(spread == 0, first, np.exp(_mean(np.log(values), cell, repeats)))


def _mean(values: np.ndarray, cell: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Return the mean of each cell's values; NaN when one of them is."""
    return np.bincount(cell, weights=values, minlength=len(repeats)) / repeats
