"""The split of a budget between parameters and samples by each law: exponents of the optimum, the optimum itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from playscale.scaling.cells import Cells, Reason, Target
from playscale.scaling.exponents import ATS, SPLIT, Exponent
from playscale.scaling.isoflop import Profile, fit_profiles, in_windows
from playscale.scaling.numbers import count
from playscale.scaling.powerlaw import fit_power_law
from playscale.scaling.surface import TRANSLOG, WHOLE, Surface
from playscale.scaling.warning import Code, Warned

# Factor between two recommended sizes from which on laws disagree, and between the vertices and the law's own best
# sizes from which on a parabola misplaces them.
DISAGREE, MISPLACED = 1.5, 1.1
# Best cells with a smaller and a larger size beside them.
INNER = "argmin, inner"
NAMES = {"argmin": "the best cells", "vertex": "the vertices", WHOLE: "the law of params and samples"}


@dataclass(frozen=True)
class OptimalExponent:
    """The best params or samples as a power of compute, with its 95 % interval, by one method.

    method: argmin | "argmin, inner" | vertex (isoFLOP profiles), or a law of params and samples. reason: why an end is
    None.
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


def optimal_exponents(
    target: Target, exponents: Sequence[Exponent], surface: Surface | None, profiles: Sequence[Profile] = ()
) -> list[OptimalExponent]:
    """Return the exponents of every law; those of the best cells also without the budgets that only bound the best."""
    rows = [
        OptimalExponent(target, row.at, row.quantity, row.law.exponent, row.law.low, row.law.high)
        for row in exponents
        if row.target == target and row.quantity in SPLIT
    ]
    inner = [p for p in profiles if p.edge is None and p.excluded is not Reason.WRONG_CURVATURE]
    if 3 <= len(inner) < len(profiles):
        for quantity in SPLIT:
            values = np.array([getattr(p, f"argmin_{quantity}") for p in inner])
            if np.isfinite(values).sum() >= 3:
                found = fit_power_law(np.log([p.flops for p in inner]), np.log(values))
                rows.append(OptimalExponent(target, INNER, quantity, found.exponent, found.low, found.high))
    for name, law in (surface.laws if surface else {}).items():
        spans = law.exponents() or {}
        rows += [OptimalExponent(target, name, quantity, *span) for quantity, span in spans.items()]
    return rows


def optima(
    cells: Cells, exponents: Sequence[Exponent], surface: Surface | None, flops: Sequence[float], floor: float = -np.inf
) -> list[Optimum]:
    """Return the best params and samples of each budget, by every method that has them; floor: least cost possible.

    The translog law has none beyond the largest budget: it is quadratic, and far from the cells its optimum is wrong
    even without noise.
    """
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
            best = None if name == TRANSLOG and budget > cells.budgets[-1] else law.optimum(budget)
            if best is not None and np.all(np.isfinite(best)) and min(best) > 0:
                cost = law.cost(np.array([best[0]]), np.array([best[1]]))
                rows.append(Optimum(target, name, budget, *best, float(cells.value(np.maximum(cost, floor))[0])))
    return rows


def disagreement(rows: Sequence[Optimum], recommended: Mapping[tuple[Target, float], float | None]) -> list[Warned]:
    """Warn where vertices, best cells and the law of N and D recommend sizes that differ by more than DISAGREE.

    recommended: the params that forecasts are of, by target and budget.
    """
    found = []
    for target in dict.fromkeys(row.target for row in rows):
        apart = []
        for flops in sorted({row.flops for row in rows if row.target == target}):
            own = [r for r in rows if (r.target, r.flops) == (target, flops) and r.method in (*ATS, WHOLE)]
            own.sort(key=lambda row: row.params)
            if own and own[-1].params > DISAGREE * own[0].params:
                apart.append((own[0], own[-1]))
        if apart:
            (small, large), more = apart[0], len(apart) - 1
            size = recommended.get((target, small.flops))
            text = (
                f"{target}: the laws disagree on the best size at {small.flops:.3g} FLOPs: {count(small.params)} by"
                f" {NAMES[small.method]}, {count(large.params)} by {NAMES[large.method]}"
                + (f" (and at {more} more budget{'s' if more > 1 else ''})" if more else "")
                + (f"; recommended is {count(size)}" if size else "; none is recommended")
                + "; train both sizes at a smaller budget before relying on either"
            )
            found.append(Warned(Code.LAWS_DISAGREE, text))
    return found


def vertex_bias(cells: Cells, surface: Surface | None) -> dict[float, float]:
    """Return, by budget, the factor by which a parabola misplaces the best size if the law of N and D holds.

    The law's own costs at the cells of each window get a parabola as the measured ones do; its vertex is divided by the
    law's best size. Profiles are not symmetric where alpha differs from beta (Czech et al., arXiv 2603.22339).
    """
    if surface is None:
        return {}
    law = surface.laws[WHOLE]
    near = cells.where(in_windows(cells) & np.isfinite(cells.samples))
    bias = {}
    expected = replace(near, cost=law.cost(near.params, surface.samples(near)))
    for profile in fit_profiles(expected) if len(near.cost) else ():
        best = law.optimum(profile.flops)
        if profile.vertex_params is not None and best is not None:
            bias[profile.flops] = profile.vertex_params / best[0]
    return bias


def bias_warning(target: Target, bias: Mapping[float, float]) -> list[Warned]:
    """Warn where parabolas misplace the best sizes by more than MISPLACED in the median."""
    if len(bias) < 2:
        return []
    low, middle, high = np.quantile(list(bias.values()), [0.1, 0.5, 0.9])
    if max(middle, 1 / middle) <= MISPLACED:
        return []
    text = (
        f"{target}: profiles are not symmetric: under the law of params and samples the vertices of parabolas are"
        f" {low:.2f} to {high:.2f} times the best sizes; fit.json has it for each budget"
    )
    return [Warned(Code.VERTEX_BIASED, text)]
