"""The split of a budget between parameters and samples by each law: exponents of the optimum, the optimum itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.cells import Cells, Target
from playscale.scaling.exponents import ATS, SPLIT, Exponent
from playscale.scaling.surface import Surface


@dataclass(frozen=True)
class OptimalExponent:
    """The best params or samples as a power of compute, with its 95 % interval, by one method.

    method: argmin | vertex (isoFLOP profiles), or a law of params and samples. reason: why an end is None.
    """

    target: Target
    method: str
    quantity: str
    exponent: float | None
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Optimum:
    """The best params and samples of a budget under one method.

    value: the loss or return that the method gives them; None where it gives none.
    """

    target: Target
    method: str
    flops: float
    params: float
    samples: float | None
    value: float | None


def optimal_exponents(target: Target, exponents: Sequence[Exponent], surface: Surface | None) -> list[OptimalExponent]:
    rows = [
        OptimalExponent(target, row.at, row.quantity, row.law.exponent, row.law.low, row.law.high)
        for row in exponents
        if row.target == target and row.quantity in SPLIT
    ]
    for name, law in (surface.laws if surface else {}).items():
        spans = law.exponents() or {}
        rows += [OptimalExponent(target, name, quantity, *span) for quantity, span in spans.items()]
    return rows


def optima(
    cells: Cells, exponents: Sequence[Exponent], surface: Surface | None, flops: Sequence[float]
) -> list[Optimum]:
    """Return the best params and samples of each budget, by every method that has them."""
    target = cells.target
    laws = {(row.at, row.quantity): row.law for row in exponents if row.target == target}
    rows = []
    for budget in flops:
        for at in ATS:
            params, samples = (laws.get((at, quantity)) for quantity in SPLIT)
            if params is not None:
                data = None if samples is None else samples.at(budget)
                rows.append(Optimum(target, at, budget, params.at(budget), data, None))
        for name, law in (surface.laws if surface else {}).items():
            best = law.optimum(budget)
            if best is not None and np.all(np.isfinite(best)) and min(best) > 0:
                cost = law.cost(np.array([best[0]]), np.array([best[1]]))
                rows.append(Optimum(target, name, budget, *best, float(cells.value(cost)[0])))
    return rows
