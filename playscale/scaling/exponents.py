"""The power laws of what is best at a budget: size, data, loss and return against compute, return against loss.

Their bootstrap intervals: each replicate draws the cells of a budget with replacement and measures each again (adds its
noise), then looks for the best cell and the parabola's vertex as the fit does. Legend: R replicates, B budgets, k cells
of one budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from playscale.scaling.cells import SIGN, Cells, FitError, Target
from playscale.scaling.isoflop import WINDOW, Profile, samples_at, weights_of
from playscale.scaling.powerlaw import PowerLaw, fit_power_law, interval, slopes

At = Literal["argmin", "vertex"]
ATS: tuple[At, ...] = ("argmin", "vertex")
SPLIT = ("params", "samples")  # what a budget is split between
RETURN_OF_LOSS = "return_mean of dev_loss"


@dataclass(frozen=True)
class Exponent:
    """One row of the table of power laws.

    quantity: params | samples | dev_loss | return_mean, each of flops, or "return_mean of dev_loss", "... of params",
    "... of samples"; target: what is best at a budget.
    """

    target: Target
    quantity: str
    at: At
    law: PowerLaw


def best(profiles: list[Profile], at: At) -> dict[str, np.ndarray]:
    """Return flops, params, samples, cost [B] at the best cell or at the vertex, NaN for a budget without."""
    columns = {
        "params": [getattr(p, f"{at}_params") for p in profiles],
        "samples": [getattr(p, f"{at}_samples") for p in profiles],
        "cost": [getattr(p, f"{at}_cost") for p in profiles],
    }
    flops = {"flops": np.array([p.flops for p in profiles])}
    return flops | {name: np.array([np.nan if v is None else v for v in column]) for name, column in columns.items()}


def fit_exponents(cells: Cells, profiles: list[Profile], rng: np.random.Generator, replicates: int) -> list[Exponent]:
    """Fit params, samples and the target against flops, at argmin and vertex, where there are 2 budgets or more.

    A return also against params and against samples: the return of the best agent of each budget, by its size and by
    the transitions (interactions, where it learned by playing) that it learned from.
    """
    resampled = resample(cells, rng, replicates)
    rows = []
    for at in ATS:
        found, optima = best(profiles, at), resampled[at]
        log_flops = np.broadcast_to(np.log(cells.budgets), optima.cost.shape)
        sign = SIGN[cells.target]
        values: dict[str, tuple[np.ndarray, np.ndarray]] = {
            "params": (np.log(found["params"]), optima.params),
            "samples": (np.log(found["samples"]), optima.samples),
            cells.target: (sign * found["cost"], sign * optima.cost),
        }
        for quantity, (log_value, draws) in values.items():
            law = _fit(np.log(found["flops"]), log_value)
            if law is not None:
                low, high = interval(slopes(log_flops, draws))
                rows.append(Exponent(cells.target, quantity, at, replace(law, boot_low=low, boot_high=high)))
        if cells.target == "return_mean":
            gain, gain_draws = values[cells.target]
            for variable in ("params", "samples"):
                log_x, draws = values[variable]
                law = _fit(log_x, gain)
                if law is not None:
                    low, high = interval(slopes(draws, gain_draws))
                    boot = replace(law, boot_low=low, boot_high=high)
                    rows.append(Exponent(cells.target, f"return_mean of {variable}", at, boot))
    return rows


def fit_return_of_loss(
    loss: tuple[Cells, list[Profile]], ret: tuple[Cells, list[Profile]], rng: np.random.Generator, replicates: int
) -> list[Exponent]:
    """Fit the best return of a budget against the best dev loss of the same budget, over budgets that have both."""
    draws = [resample(cells, rng, replicates) for cells, _ in (loss, ret)]
    rows = []
    for at in ATS:
        x, y = best(loss[1], at), best(ret[1], at)
        _, in_loss, in_return = np.intersect1d(loss[0].budgets, ret[0].budgets, return_indices=True)
        law = _fit(x["cost"][in_loss], -y["cost"][in_return])
        if law is not None:
            low, high = interval(slopes(_cost(draws[0][at], in_loss), -_cost(draws[1][at], in_return)))
            rows.append(Exponent("return_mean", RETURN_OF_LOSS, at, replace(law, boot_low=low, boot_high=high)))
    return rows


def _cost(optima: Optima, budgets: np.ndarray) -> np.ndarray:
    return optima.cost[:, budgets]


def _fit(log_x: np.ndarray, log_y: np.ndarray) -> PowerLaw | None:
    try:
        return fit_power_law(log_x, log_y)
    except FitError:
        return None


def used_laws(exponents: Sequence[Exponent], target: Target, budgets: int) -> dict[str, Exponent]:
    """Return the power law that is used for each quantity of a target: drawn in figures, and for sizes recommended.

    The law of the vertices where at least 3 budgets and half of all have one, else the law of the best cells. Size and
    data are read off together: where the data have no law of the vertices, the size takes that of the best cells too.

    Args:
        exponents: power laws, those of other targets among them.
        target: dev_loss or return_mean.
        budgets: how many budgets were fitted.
    """
    used: dict[str, Exponent] = {}
    rows = {(row.quantity, row.at): row for row in exponents if row.target == target}
    for quantity in dict.fromkeys(quantity for quantity, _ in rows):
        argmin, vertex = (rows.get((quantity, at)) for at in ATS)
        wanted = argmin.law.n if argmin is not None and quantity not in SPLIT else budgets
        law = vertex if vertex is not None and vertex.law.n >= max(3, wanted / 2) else argmin
        if law is not None:
            used[quantity] = law
    if "samples" in used and "params" in used:
        used["params"] = rows["params", used["samples"].at]
    return used


@dataclass(frozen=True, eq=False)
class Optima:
    """Best size, samples and cost per replicate and budget, natural logarithms, [R, B]; NaN where there is none."""

    params: np.ndarray
    samples: np.ndarray
    cost: np.ndarray


def resample(cells: Cells, rng: np.random.Generator, replicates: int) -> dict[str, Optima]:
    """Resample the cells; return the optima at "argmin" and at "vertex"."""
    found: dict[str, list[np.ndarray]] = {"argmin": [], "vertex": []}
    noise = cells.noise()
    for budget in range(len(cells.budgets)):
        index = np.flatnonzero(cells.budget == budget)
        log_params, k = np.log(cells.params[index]), len(index)
        counts = rng.multinomial(k, np.full(k, 1 / k), size=replicates)
        cost = cells.cost[index] + noise[index] * rng.standard_normal((replicates, k))
        best = np.argmin(np.where(counts > 0, cost, np.inf), axis=1)
        found["argmin"].append(
            _stack(log_params[best], cells.samples[index], log_params, cost[range(replicates), best])
        )
        vertex, at_vertex = _vertices(log_params, cost, counts * weights_of(cells.error[index]), best)
        found["vertex"].append(_stack(vertex, cells.samples[index], log_params, at_vertex))
    return {at: Optima(*np.moveaxis(np.stack(columns), 0, 2)) for at, columns in found.items()}


def _stack(size: np.ndarray, samples: np.ndarray, log_params: np.ndarray, cost: np.ndarray) -> np.ndarray:
    data = np.where(np.isfinite(size), np.log(samples_at(log_params, samples, np.nan_to_num(size))), np.nan)
    return np.stack([size, data, cost])


def _vertices(
    log_params: np.ndarray, cost: np.ndarray, weights: np.ndarray, best: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return vertex size and cost [R] of the weighted parabolas; NaN where outside the sizes or curved wrongly."""
    none = np.full(len(best), np.nan)
    if len(log_params) < 3:
        return none, none
    x = log_params[None, :] - log_params[best][:, None]
    weights = np.where(np.abs(x) <= np.log(WINDOW) * (1 + 1e-9), weights, 0.0)
    design = np.stack([x**2, x, np.ones_like(x)], axis=2)
    normal = np.einsum("rk,rki,rkj->rij", weights, design, design)
    right = np.einsum("rk,rki,rk->ri", weights, design, cost)
    solvable = (weights > 0).sum(axis=1) >= 3
    normal[~solvable] = np.eye(3)
    normal += 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    a, b, c = np.moveaxis(np.linalg.solve(normal, right[:, :, None])[:, :, 0], 1, 0)
    good = solvable & (a > 0)
    shift = -b / np.where(good, 2 * a, 1)
    vertex = log_params[best] + shift
    good &= (vertex >= log_params.min()) & (vertex <= log_params.max())
    return np.where(good, vertex, np.nan), np.where(good, c + b * shift / 2, np.nan)
