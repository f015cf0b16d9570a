"""Resampling the cells of each budget: what else the best size and the best value could have been.

Each replicate draws the cells of a budget with replacement and measures each again (adds its noise), then looks for the
best cell and the parabola's vertex as the fit does. Legend: R replicates, B budgets, k cells of one budget.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from playscale.scaling.cells import Cells
from playscale.scaling.isoflop import WINDOW, samples_at, weights_of


@dataclass(frozen=True, eq=False)
class Optima:
    """Best size, samples and cost per replicate and budget, natural logarithms, [R, B]; NaN where there is none."""

    params: np.ndarray
    samples: np.ndarray
    cost: np.ndarray


def resample(cells: Cells, rng: np.random.Generator, replicates: int) -> dict[str, Optima]:
    """Optima at "argmin" and at "vertex"."""
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
    """Vertex size and cost [R] of the weighted parabolas; NaN where it is not inside or curves the wrong way."""
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
