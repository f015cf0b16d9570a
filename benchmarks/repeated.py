"""Planted laws of repeated data: what the intervals of their constants and of a limited corpus hold.

    python -m benchmarks.repeated --draws 200 --workers 2 [--json FILE]

Tables of 6 sizes, 4 amounts of unique data and 7 numbers of passes, a run for each size and amount, with normal noise.
Where cells overfit, the loss of those that have seen their data most often for their size rises again, as no law of
repeated data has it. Reported: the share of draws whose 95 % interval holds the truth of R_D, R_N and of the cost of
the largest size after the most passes over a corpus of another size, the median of their errors, and the share of
cells left out.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from playscale.points import Point
from playscale.scaling.cells import make_cells
from playscale.scaling.powerlaw import LEVEL
from playscale.scaling.repetition import Repetition, curve, fit_repetition

SIZES, UNIQUE, PASSES = np.geomspace(1e7, 3e9, 6), np.geomspace(1e8, 1e10, 4), (1, 2, 4, 8, 16, 32, 64)
NOISE = (0.005, 0.02, 0.05)
CORPUS = 3e9
OFTEN, STEEP = 40.0, 0.05  # passes times excess size from which a cell overfits, and how steeply


class Planted(NamedTuple):
    """Constants of the law: E, A, alpha, B, beta, R_D, R_N."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float
    rd: float
    rn: float

    def theta(self, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
        a, b = np.log(self.a) - self.alpha * centre[0], np.log(self.b) - self.beta * centre[1]
        logs = np.log((self.alpha, self.beta, self.rd, self.rn))
        return np.array([np.log(self.floor), a, logs[0], b, *logs[1:]])

    def cost(self, params: np.ndarray, unique: np.ndarray, passes: np.ndarray) -> np.ndarray:
        return curve(self.theta()[None], np.log(params), np.log(unique), passes - 1.0, 1.0)[0][0]


LAWS = {
    "language models": Planted(1.87, 521.0, 0.353, 1488.0, 0.353, 15.39, 5.31),
    "soon worn out": Planted(1.69, 406.4, 0.34, 410.7, 0.28, 4.0, 20.0),
    "long of use": Planted(0.4, 60.0, 0.3, 300.0, 0.35, 40.0, 2.0),
}


def sample(law: Planted, noise: float, rng: np.random.Generator, *, overfit: bool = False) -> list[Point]:
    """Return a table of the law with normal noise of the logarithm; overfit: with cells that it has no term for."""
    params, unique, passes = (v.ravel() for v in np.meshgrid(SIZES, UNIQUE, PASSES, indexing="ij"))
    cost = law.cost(params, unique, passes) + noise * rng.standard_normal(len(params))
    if overfit:
        best = (law.alpha * law.a / law.beta / law.b * unique**law.beta) ** (1 / law.alpha)
        cost += STEEP * np.maximum(np.log(passes * np.maximum(params / best, 1.0) / OFTEN), 0.0) ** 2
    return [
        Point(
            run=f"{n:.3g} of {u:.3g}", flops=float(6 * n * u * e), params=float(n), samples=float(u * e),
            dev_loss=float(np.exp(c)), extra={"epochs": str(e)},
        )
        for n, u, e, c in zip(params, unique, passes, cost, strict=True)
    ]  # fmt: skip


def fitted(law: Planted, noise: float, seed: int, *, overfit: bool, replicates: int) -> Repetition:
    """Fit one draw."""
    rng = np.random.default_rng([seed, 9])
    return fit_repetition(make_cells(sample(law, noise, rng, overfit=overfit), "dev_loss")[0], rng, replicates)


def covered(name: str, noise: float, seed: int, *, overfit: bool, replicates: int = 200) -> dict[str, float]:
    """Return whether the intervals of one draw hold the truth, the errors of its logarithms, and the cells left out."""
    truth = LAWS[name]
    law = fitted(truth, noise, seed, overfit=overfit, replicates=replicates)
    found = law.parameters()
    row = {"left_out": float(law.over.mean())}
    for constant, true in (("R_D", truth.rd), ("R_N", truth.rn)):
        value, low, high, _ = found[constant]
        row[f"{constant} inside"] = float((low is None or low <= true) and (high is None or true <= high))
        row[f"{constant} error"] = float(np.log(value / true)) if value else np.nan
    where = np.log([SIZES[-1]]), np.log([CORPUS]), np.array([float(PASSES[-1])])
    true_cost, costs = truth.cost(SIZES[-1:], np.array([CORPUS]), where[2])[0], law.cost(*where)[:, 0]
    low, high = np.quantile(costs[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return row | {"cost inside": float(low <= true_cost <= high), "cost error": float(costs[0] - true_cost)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        for name, noise, overfit in product(LAWS, NOISE, (False, True)):
            made = list(pool.map(partial(covered, name, noise, overfit=overfit), range(options.draws), chunksize=5))
            row: dict[str, Any] = {"law": name, "noise": noise, "overfit": overfit}
            for column in made[0]:
                values = np.array([one[column] for one in made])
                row[column] = float(np.nanmedian(values) if column.endswith("error") else values.mean())
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
