"""Simulate what `playscale design` proposes on planted laws, beside the same spend on today's sizes.

    python -m benchmarks.next_runs --draws 50 --workers 2 [--json FILE]

Each draw has its own grid of sizes; each size is one run through its budgets. Half of the variance of the noise is the
run's own, the same at all of its checkpoints. The runs proposed are sampled from the same law, the table is fitted
again, and so it is with as many FLOPs spent on today's sizes at the next budget. Reported: the width of the interval at
the target, in logarithms, and whether it holds the truth. A table whose laws cannot carry a forecast, so that nothing
is proposed, is counted as declined.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from playscale.points import Point
from playscale.scaling.cells import FitError
from playscale.scaling.design import ProposedRun, next_runs
from playscale.scaling.fit import Fit, fit
from playscale_benchmarks.planted import CELLS_PER_BUDGET, LAWS, SIZES, Planted

BUDGETS = np.geomspace(1e13, 1e16, 8)
TARGET = 100 * BUDGETS[-1]
NEXT = BUDGETS[-1] * BUDGETS[1] / BUDGETS[0]
SPEND = CELLS_PER_BUDGET * NEXT
NAMES = ("power", "floor", "bounded return", "parametric")
OF_RUN = 0.5


@dataclass(frozen=True)
class Simulated:
    """One draw: widths of the interval now, after the runs proposed, after today's sizes; whether each holds the truth.

    expected: the width after the runs proposed, as it was expected; runs: how many; reach: their largest budget over
    the largest one before.
    """

    law: str
    noise: float
    now: float
    after: float
    same: float
    expected: float
    held_now: bool
    held_after: bool
    held_same: bool
    runs: int
    reach: float


def value(law: Planted, params: np.ndarray, flops: float) -> np.ndarray:
    """Return the value without noise of sizes at a budget."""
    return law.value(params, flops / 6 / params, np.full(len(params), flops))


def sampled(
    law: Planted, params: float, budgets: Iterable[float], noise: float, rng: np.random.Generator
) -> Iterator[Point]:
    """Yield the points of one run. They have no samples: laws of params and samples take no part in the forecast."""
    own = OF_RUN**0.5 * rng.standard_normal()
    name = f"{params:g}-{rng.integers(1 << 40)}"
    for flops in budgets:
        error = noise * (own + (1 - OF_RUN) ** 0.5 * rng.standard_normal())
        measured = float(value(law, np.array([params]), flops)[0] * np.exp(error))
        loss, score = (measured, None) if law.target == "dev_loss" else (None, measured)
        yield Point(flops=flops, params=params, samples=None, run=name, dev_loss=loss, return_mean=score)


def table(law: Planted, noise: float, rng: np.random.Generator) -> list[Point]:
    """Return the cells around each budget's best size, of one run for each size."""
    sizes = SIZES * float(np.exp(rng.uniform(-0.5, 0.5) * np.log(SIZES[1] / SIZES[0])))
    sign = 1 if law.target == "dev_loss" else -1
    near = {
        float(flops): np.argsort(np.abs(np.arange(len(sizes)) - np.argmin(sign * value(law, sizes, flops))))
        for flops in BUDGETS
    }
    of_size = {
        float(size): [flops for flops, order in near.items() if i in order[:CELLS_PER_BUDGET]]
        for i, size in enumerate(sizes)
    }
    return [p for size, budgets in of_size.items() for p in sampled(law, size, budgets, noise, rng)]


def best_at(law: Planted, flops: float) -> float:
    """Return the value of the best size at a budget."""
    values = value(law, np.geomspace(SIZES[0], 1e3 * SIZES[-1], 4000), flops)
    return float(values.min() if law.target == "dev_loss" else values.max())


def _interval(fitted: Fit, truth: float) -> tuple[float, bool]:
    """Return the width of the interval at the target, in logarithms, and whether it holds the truth."""
    (row,) = fitted.forecasts
    low, high = row.low or 0.0, np.inf if row.high is None else row.high
    return float(np.log(high / low)) if low else np.inf, low <= truth <= high


def simulate(name: str, noise: float, seed: int, replicates: int = 60) -> Simulated | None:
    """Sample a table, add the runs proposed or those of today's sizes, and fit all three; None: none are proposed."""
    law, rng = LAWS[name], np.random.default_rng([seed, round(1e4 * noise), list(LAWS).index(name)])
    points, truth = table(law, noise, rng), best_at(law, TARGET)
    fitted = fit(points, [TARGET], seed=seed, replicates=replicates)
    try:
        found = next_runs(fitted, TARGET, SPEND, seed)
    except FitError:
        return None

    def more(runs: Iterable[ProposedRun]) -> list[Point]:
        of_each = [(run.params, run.budgets) for run in runs for _ in range(run.seeds)]
        return points + [p for params, budgets in of_each for p in sampled(law, params, budgets, noise, rng)]

    now, after, same = (
        _interval(one, truth)
        for one in (
            fitted, *(fit(more(r), [TARGET], seed=seed, replicates=replicates) for r in (found.runs, found.same_sizes))
        )
    )  # fmt: skip
    (expected,) = found.forecasts
    return Simulated(
        name, noise, now[0], after[0], same[0], now[0] * expected.width, now[1], after[1], same[1],
        sum(run.seeds for run in found.runs), found.runs[0].flops / float(BUDGETS[-1]),
    )  # fmt: skip


def summary(rows: list[Simulated]) -> dict[str, float]:
    """Return medians of ratios of widths, and the shares of intervals that hold the truth."""
    now, after, same, expected = (
        np.array([getattr(row, column) for row in rows]) for column in ("now", "after", "same", "expected")
    )
    held = {f"held {when}": float(np.mean([getattr(row, f"held_{when}") for row in rows])) for when in WHEN}
    return {
        "draws": len(rows), "after / now": float(np.median(after / now)), "same / now": float(np.median(same / now)),
        "after / same": float(np.median(after / same)), "after / expected": float(np.median(after / expected)), **held,
        "runs": float(np.mean([row.runs for row in rows])), "reach": float(np.median([row.reach for row in rows])),
    }  # fmt: skip


WHEN = ("now", "after", "same")


def _one(job: tuple[str, float, int]) -> Simulated | None:
    return simulate(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.02)
    parser.add_argument("--laws", default=",".join(NAMES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Simulated] = []
    with ProcessPoolExecutor(options.workers) as pool:
        for name in options.laws.split(","):
            jobs = [(name, options.noise, seed) for seed in range(options.draws)]
            own = [row for row in pool.map(_one, jobs) if row is not None]
            rows += own
            said = "  ".join(f"{key} {number:.3g}" for key, number in summary(own).items())
            print(f"{name:15s} noise {100 * options.noise:g} %  declined {len(jobs) - len(own)}  {said}", flush=True)
    print("all", "  ".join(f"{key} {number:.3g}" for key, number in summary(rows).items()))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
