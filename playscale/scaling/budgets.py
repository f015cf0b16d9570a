"""The budgets of a table: its rows grouped by a column, or by the gaps between neighbours in compute.

Runs stop a little past a budget, or some per cent before or after it, so a budget is a cluster of rows. Legend: n rows,
B budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playscale.points import COLUMNS, Point

COLUMN = "budget"
# Chosen on planted tables (2 to 22 budgets 1.25 to 3.2 apart, 3 to 7 sizes, runs within 0 to 15 % of their budget, or
# past it): all tables with budgets 1.5 apart and runs within 5 %, or 2 apart and within 7 %, come out as planted.
# Gaps below 2 % are none; a clear cut is 1.5 times wider than what lies within a budget, and no budget is wider than
# a factor 1.4. What has no clear cut (a scatter, checkpoints of learning curves) is cut in steps of 5 %.
LEAST_GAP, CLEAR, WIDEST, STEP = 0.02, 1.5, float(np.log(1.4)), 1.05
# Gap from which on rows are apart where nothing else is (one budget alone, or one row a budget).
ALONE = float(np.log(1.5))
# Rows of one value of a column that differ by more than this are no budget.
SAME = 2.0


@dataclass(frozen=True, eq=False)
class Budgets:
    """index [n]: budget of each row; flops [B], rising; column: the column that names them, None if found by gaps.

    clear: they are separate budgets, not steps through a continuum.
    """

    index: np.ndarray
    flops: np.ndarray
    column: str | None
    clear: bool

    @property
    def source(self) -> str:
        """Say what the budgets were found by."""
        return f"column {self.column}" if self.column else "gaps" if self.clear else "steps of 5 %"

    def spread(self, points: Sequence[Point]) -> float:
        """Return the largest factor by which a row lies from its budget."""
        off = np.log([point.flops for point in points]) - np.log(self.flops[self.index])
        return float(np.exp(np.abs(off).max()))


def find_budgets(points: Sequence[Point], column: str | None = None) -> Budgets:
    """Group rows by `column`; by default by the column "budget" where its values are budgets, else by gaps.

    ValueError where a column was given that is missing, empty in some rows, or of no budgets.
    """
    flops = np.array([point.flops for point in points], dtype=float)
    try:
        return _by_column(points, flops, column or COLUMN)
    except ValueError:
        if column is not None:
            raise
    order = np.argsort(flops, kind="stable")
    ordered, clear = _cut(np.log(flops[order]))
    index = np.empty(len(flops), dtype=int)
    index[order] = ordered
    return Budgets(index, _centres(flops, index), None, clear)


def _spelled(name: str) -> str:
    """Return one spelling of a budget that is a number: 1e11 and 100000000000 are the same."""
    try:
        return f"{float(name):.15g}"
    except ValueError:
        return name


def _by_column(points: Sequence[Point], flops: np.ndarray, column: str) -> Budgets:
    names = [str(point.extra.get(column, "")).strip() for point in points]
    if column in COLUMNS:
        what = "is compute itself" if column == "flops" else "is one of what was trained and measured"
        raise ValueError(f"column {column} {what} and cannot name budgets; {_others(points)}")
    if not any(names):
        raise ValueError(f"column {column}: the table has none, or it is empty; {_others(points)}")
    if not all(names):
        raise ValueError(
            f"column {column}: {names.count('')} of {len(names)} rows have none; give every row its budget"
        )
    values, label = np.unique([_spelled(name) for name in names], return_inverse=True)
    for i, name in enumerate(values):
        own = flops[label == i]
        if own.max() > SAME * own.min():
            raise ValueError(
                f'column {column}: rows of the budget "{name}" reach from {own.min():.3g} to {own.max():.3g} FLOPs;'
                f" rows of one budget lie within a factor {SAME:g} of each other"
            )
    centres = _centres(flops, label)
    for i, name in enumerate(values):
        centres[i] = _nominal(str(name), flops[label == i], centres[i])
    order = np.argsort(centres, kind="stable")
    return Budgets(np.argsort(order)[label], centres[order], column, True)


def _others(points: Sequence[Point]) -> str:
    """Name the columns that may name budgets."""
    there = dict.fromkeys(name for point in points for name, value in point.extra.items() if value.strip())
    return f"columns that may: {', '.join(there)}" if there else "this table has no column that may"


def _nominal(name: str, flops: np.ndarray, centre: float) -> float:
    """Return the budget that a name is, where it is one in FLOPs, else the centre of its rows."""
    try:
        value = float(name)
    except ValueError:
        return centre
    return value if flops.max() / SAME <= value <= flops.min() * SAME else centre


def _cut(ordered: np.ndarray) -> tuple[np.ndarray, bool]:
    """Cut rising logarithms [n] where a gap is clearly wider than those within; return indices, and whether there are.

    Of all widths between two gaps the one with the largest ratio of the next gap to it, if no budget is then too wide.
    """
    gaps = np.diff(ordered)
    levels = np.unique([LEAST_GAP, *gaps[gaps > LEAST_GAP]])
    ratios = np.append(levels[1:], max(ALONE, levels[-1])) / levels
    for i in np.argsort(-ratios, kind="stable"):
        if ratios[i] < CLEAR:
            break
        index = np.append(0, np.cumsum(gaps > levels[i]))
        starts = np.flatnonzero(np.append(True, np.diff(index) > 0))
        if np.max(np.maximum.reduceat(ordered, starts) - ordered[starts]) <= WIDEST:
            return index, True
    steps = [0]
    while (end := int(np.searchsorted(ordered, ordered[steps[-1]] + np.log(STEP), side="right"))) < len(ordered):
        steps.append(end)
    return np.searchsorted(steps, np.arange(len(ordered)), side="right") - 1, False


def _centres(flops: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the geometric mean of each budget's rows, exact for equal ones."""
    low, high = np.full(index.max() + 1, np.inf), np.zeros(index.max() + 1)
    np.minimum.at(low, index, flops)
    np.maximum.at(high, index, flops)
    mean = np.exp(np.bincount(index, weights=np.log(flops)) / np.bincount(index))
    return np.where(low == high, low, mean)
