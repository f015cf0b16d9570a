"""Fit laws: all starts and replicates at once, beside the usual way, one scipy minimize after the other.

Both sides minimise the same objectives with the same analytic derivatives from the same starting points, on the same
sampled table of the published NetHack table's size. What is compared is also how low they get: `excess` in a row's
detail is the median of (ours - theirs) / theirs over the minima, negative where ours are lower.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from playscale.points import Point
from playscale.scaling.cells import Cells, make_cells
from playscale.scaling.fit import REPLICATES, fit
from playscale.scaling.frontier import SATURATING
from playscale.scaling.levenberg import minimise, objective
from playscale.scaling.parametric import DELTA, curve, search_starts

from .bench import Options, Row
from .rounds import alternate, row

BUDGETS, SIZES = 22, 10
NOISE = 0.02
# How many problems the loop solves in a round; the batch solves all of them.
LOOP = 12

Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def run(options: Options) -> list[Row]:
    """Measure the rates of solved problems, ours and scipy's L-BFGS-B in a loop, and of whole analyses."""
    rng = np.random.default_rng(0)
    points = _table(rng)
    cells, _ = make_cells(points, "dev_loss")
    x, y = np.log(cells.params / np.exp(np.log(cells.params).mean())), _centred(cells)
    starts = search_starts(x, y, cells.cost, 54)
    again = cells.cost + NOISE * rng.standard_normal((REPLICATES, len(cells.cost)))

    def surface(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return curve(theta, x, y)

    best, _ = _batch(surface, np.broadcast_to(cells.cost, (len(starts), len(cells.cost))), starts, DELTA)
    theta = best[np.argmin([_huber(surface, cells.cost, DELTA)(t)[0] for t in best])]
    budget, frontier = np.unique(cells.budget, return_index=True)[1], cells.budgets
    lowest = np.array([cells.cost[cells.budget == b].min() for b in range(len(budget))])
    log_flops = np.log(frontier / np.exp(np.log(frontier).mean()))
    bent = lowest + NOISE * rng.standard_normal((REPLICATES, len(lowest)))
    first = SATURATING.starts(log_flops, lowest)

    def along(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return SATURATING.curve(theta, log_flops)

    level, _ = _batch(along, np.broadcast_to(lowest, (len(first), len(lowest))), first, None)
    rounds = options.rounds
    return [
        _compare("parametric law, starts", surface, np.tile(cells.cost, (len(starts), 1)), starts, DELTA, rounds),
        _compare("parametric law, replicates", surface, again, np.tile(theta, (REPLICATES, 1)), DELTA, rounds),
        _compare("law with a floor, replicates", along, bent, np.tile(level[0], (REPLICATES, 1)), None, rounds),
        _whole(points, rounds),
    ]


def _table(rng: np.random.Generator) -> list[Point]:
    points = []
    for flops in np.geomspace(1e14, 1e19, BUDGETS):
        for params in 2e-3 * flops**0.55 * np.geomspace(0.1, 10, SIZES):
            samples = flops / 6 / params
            loss = (0.1 + 30 / params**0.35 + 300 / samples**0.3) * float(np.exp(NOISE * rng.standard_normal()))
            points.append(
                Point(
                    flops=float(flops), params=float(params), samples=float(samples), dev_loss=loss,
                    return_mean=float(1 / (1 / 5000 + loss**2.5 / 30) * np.exp(5 * NOISE * rng.standard_normal())),
                )
            )  # fmt: skip
    return points


def _centred(cells: Cells) -> np.ndarray:
    return np.log(cells.samples) - np.log(cells.samples).mean()


def _batch(curve: Curve, cost: np.ndarray, starts: np.ndarray, delta: float | None) -> tuple[np.ndarray, np.ndarray]:
    def residuals(theta: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted, jacobian = curve(theta)
        return fitted - cost[rows], jacobian

    return minimise(residuals, starts, delta=delta, iterations=200)


def _huber(curve: Curve, cost: np.ndarray, delta: float | None) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return the objective and its gradient, times 1e3: unscaled, L-BFGS-B's own tolerance ends it too early."""

    def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
        fitted, jacobian = curve(theta[None])
        r = fitted[0] - cost
        slope = r if delta is None else np.clip(r, -delta, delta)
        return 1e3 * float(objective(r, delta)), 1e3 * jacobian[0].T @ slope

    return both


def _compare(name: str, curve: Curve, cost: np.ndarray, starts: np.ndarray, delta: float | None, rounds: int) -> Row:
    """Measure problems solved a second, and compare the minima of the two sides."""
    some = np.linspace(0, len(starts) - 1, min(LOOP, len(starts))).astype(int)
    lows: dict[str, np.ndarray] = {}

    def ours() -> float:
        began = time.perf_counter()
        _, lows["ours"] = _batch(curve, cost, starts, delta)
        return len(starts) / (time.perf_counter() - began)

    def theirs() -> float:
        began = time.perf_counter()
        found = [
            minimize(_huber(curve, cost[i], delta), starts[i], jac=True, method="L-BFGS-B", options={"maxiter": 5000})
            for i in some
        ]
        lows["theirs"] = np.array([one.fun / 1e3 for one in found])
        return len(some) / (time.perf_counter() - began)

    measured = alternate({"ours": ours, "peer": theirs}, rounds)
    gap = lows["ours"][some] / lows["theirs"] - 1
    detail = {
        "excess": float(np.median(gap)), "not_higher": float(np.mean(gap <= 1e-4)), "problems": len(starts),
        "against": "scipy.optimize.minimize, L-BFGS-B, one problem after the other", "dtype": "float64",
        "note": f"minima {100 * float(np.mean(gap <= 1e-4)):.0f} % as low or lower",
    }  # fmt: skip
    return row(name, "problems/s", measured["ours"], measured["peer"], **detail)


def _whole(points: list[Point], rounds: int) -> Row:
    """Measure the whole analysis: profiles, every law with its replicates, the backtest, forecasts."""

    def ours() -> float:
        began = time.perf_counter()
        fit(points, [1e20])
        return 60 / (time.perf_counter() - began)

    measured = alternate({"ours": ours}, min(rounds, 3))["ours"]
    note = f"{60 / float(np.median(measured)):.1f} s for {len(points)} rows, {REPLICATES} replicates"
    return row("whole analysis, loss and return", "analyses/min", measured, note=note, dtype="float64")
