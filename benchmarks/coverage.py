"""Coverage of the intervals of the law of params and samples, with the residuals of real tables.

    python -m benchmarks.coverage TABLE... [--target dev_loss] --draws 400 --workers 2 [--json FILE]

The law fitted to a table is the truth. A draw flips the sign of the table's residuals, all those of a cluster (a run,
or a size where no run is named) together, adds them to the truth and fits again. A table with a column `epochs` has its
residuals about a law of repeated data (Muennighoff et al. 2023, arXiv 2305.16264). Reported: the share of draws whose
95 % interval holds the truth of alpha, of beta, and of the cost of the best agent at ten times the largest budget.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from playscale.points import Point, read_points
from playscale.scaling.cells import REUSE, Cells, Target, cost_of, epochs_of, make_cells, value_of
from playscale.scaling.parametric import SIZE, Parametric, fit_parametric
from playscale.scaling.powerlaw import LEVEL

AHEAD = 10.0
QUANTITIES = ("alpha", "beta", "best cost at 10 times the compute")
# R*_D and R*_N of Muennighoff et al. 2023, where the fit of their constants starts.
STARTS = (REUSE, 5.31)


@dataclass(frozen=True, eq=False)
class Case:
    """A table as a planted law: its points, the law that is the truth, each point's residual and cluster."""

    name: str
    target: Target
    points: list[Point]
    law: Parametric
    residuals: np.ndarray
    cluster: np.ndarray
    offset: float

    def sample(self, rng: np.random.Generator) -> Cells:
        """Return the cells of the truth plus the residuals, their signs flipped by cluster."""
        sign = rng.choice([-1.0, 1.0], int(self.cluster.max()) + 1)[self.cluster]
        samples = np.array([p.samples for p in self.points], dtype=float)
        cost = self.law.cost(np.array([p.params for p in self.points]), samples) + sign * self.residuals
        values = value_of(self.target, cost, self.offset)
        drawn = [
            replace(p, **{self.target: float(v), "dev_loss_se": None, "return_se": None})  # type: ignore[arg-type]
            for p, v in zip(self.points, values, strict=True)
        ]
        cells = make_cells(drawn, self.target, offset=self.offset)[0]
        return replace(cells, epochs=np.ones(len(cells.epochs)))  # the truth is a law of data seen once


def case(name: str, points: list[Point], target: Target) -> Case:
    """Make a case of a table's points to fit."""
    use = [p for p in points if not p.held_out and not p.diverged and p.samples and getattr(p, target) is not None]
    cells, _ = make_cells(use, target)
    use = [p for p in use if getattr(p, target) > cells.offset]
    law = fit_parametric(cells, np.random.default_rng(0), 20)
    params, samples = (np.array([getattr(p, column) for p in use], dtype=float) for column in ("params", "samples"))
    cost = np.array([cost_of(target, getattr(p, target), cells.offset) for p in use])
    if all("epochs" in p.extra for p in use):
        law, expected = _with_epochs(law, params, samples, epochs_of(use), cost)
    else:
        expected = law.cost(params, samples)
    flops = np.array([p.flops for p in use])
    away = sum(
        np.abs(np.log(own[:, None] / of_cells))
        for own, of_cells in ((params, cells.params), (flops, cells.flops), (epochs_of(use), cells.epochs))
    )
    _, cluster = np.unique(cells.cluster[np.argmin(away, axis=1)], return_inverse=True)
    return Case(name, target, use, law, cost - expected, cluster, cells.offset)


def _with_epochs(
    law: Parametric, params: np.ndarray, samples: np.ndarray, epochs: np.ndarray, cost: np.ndarray
) -> tuple[Parametric, np.ndarray]:
    """Fit the law of repeated data, E + A/N'^alpha + B/D'^beta; return it without repetition, and its cost [n].

    N' and D' are the effective size and data: of D/epochs unique samples, and of the size that is best for these.
    """
    unique = np.log(samples / epochs) - law.centre[1]
    size, again = np.log(params) - law.centre[0], epochs - 1.0

    def fitted(theta: np.ndarray) -> np.ndarray:
        floor, a, log_alpha, b, log_beta, log_data, log_size = theta
        alpha, beta = np.exp((log_alpha, log_beta))
        best = np.minimum(size, (np.log(alpha / beta) + a - b + beta * unique) / alpha)
        data = unique + np.log1p(np.exp(log_data) * -np.expm1(-again / np.exp(log_data)))
        excess = np.expm1(size - best)
        effective = best + np.log1p(np.exp(log_size) * -np.expm1(-excess / np.exp(log_size)))
        return np.logaddexp(np.logaddexp(floor, a - alpha * effective), b - beta * data)

    def away(theta: np.ndarray) -> np.ndarray:
        return fitted(theta) - cost

    found = least_squares(away, [*law.theta, *np.log(STARTS)], loss="soft_l1", f_scale=0.01, x_scale="jac").x
    return replace(law, theta=found[:SIZE]), fitted(found)


def covered(one: Case, seed: int, replicates: int = 200) -> tuple[list[bool], list[float]]:
    """Return whether the interval of each of QUANTITIES holds the truth in one draw, and its width."""
    rng = np.random.default_rng([seed, 7])
    ahead = AHEAD * one.law.largest
    law = fit_parametric(one.sample(rng), rng, replicates)
    true, own = _quantities(one.law, ahead)[:1], _quantities(law, ahead)[1:]
    low, high = np.quantile(own, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ((low <= true[0]) & (true[0] <= high)).tolist(), (high - low).tolist()


def _quantities(law: Parametric, flops: float) -> np.ndarray:
    """Return QUANTITIES [1 + R, 3], of the fit and of its draws; the exponents as logarithms."""
    every = np.concatenate([law.theta[None], law.draws])
    best = law.frontier(np.array([flops]))
    assert best is not None
    return np.stack([every[:, 2], every[:, 4], np.concatenate([best[0][None], best[1]])[:, 0]], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--target", choices=("dev_loss", "return_mean"), default="dev_loss")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        for path in options.tables:
            one = case(path.stem, read_points(path), options.target)
            made = list(pool.map(covered, [one] * options.draws, range(options.draws), chunksize=5))
            inside, width = (np.array(column, dtype=float) for column in zip(*made, strict=True))
            for i, quantity in enumerate(QUANTITIES):
                row = {
                    "table": one.name, "target": one.target, "clusters": int(one.cluster.max()) + 1,
                    "quantity": quantity, "coverage": float(inside[:, i].mean()),
                    "width": float(np.median(width[:, i])), "draws": options.draws,
                }  # fmt: skip
                rows.append(row)
                print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
