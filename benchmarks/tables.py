"""Forecast the later budgets of other people's tables from their earlier ones, beside simple laws.

    python -m benchmarks.tables TABLE... [--replicates 300] [--json FILE]

From every prefix of at least four budgets, every law forecasts the best measured cell of each later budget: the law
that Playscale chooses, fitted by `playscale.fit` to the prefix alone; a power law and a saturating law by scipy, each
with the interval that a textbook gives it. Errors are of logarithms. A table counts by target and horizon (decades of
compute ahead), and each table weighs the same: coverage of the 95 % intervals, their median width, the mean interval
score (Gneiting and Raftery 2007, doi 10.1198/016214506000001437; lower is better) and the median absolute error.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from playscale.points import Point, read_points
from playscale.scaling.cells import TARGETS, Cells, FitError, Target, cost_of, make_cells
from playscale.scaling.fit import fit
from playscale.scaling.powerlaw import LEVEL

FEWEST = 4
# Ends of the horizons, in decades of compute beyond the last budget seen.
HORIZONS = (0.5, 1.0, 2.0, np.inf)

# (flops, cost) of the budgets seen, flops ahead -> cost ahead, and the ends of its interval.
Law = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Made:
    """One forecast: log error, and the ends of the 95 % interval about it."""

    table: str
    target: str
    law: str
    seen: int
    decades: float
    error: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.error <= self.high

    @property
    def score(self) -> float:
        """Return the interval score: the width, and 2 / (1 - LEVEL) times how far the outcome lies outside."""
        outside = max(self.low - self.error, self.error - self.high, 0.0)
        return self.high - self.low + 2 / (1 - LEVEL) * outside


def power(flops: np.ndarray, cost: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit a line through logarithms, with its prediction interval by Student's t."""
    x, y = np.log(flops), np.log(ahead)
    line = stats.linregress(x, cost)
    degrees = len(x) - 2
    sd = np.sqrt(np.sum((cost - line.intercept - line.slope * x) ** 2) / degrees)
    value = line.intercept + line.slope * y
    spread = sd * np.sqrt(1 + 1 / len(x) + (y - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * spread
    return value, value - half, value + half


def saturating(flops: np.ndarray, cost: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit cost = ln(e^f + e^(a - g x)) by scipy's curve_fit, with its prediction interval by the delta method."""

    def curve(x: np.ndarray, floor: float, a: float, slope: float) -> np.ndarray:
        return np.logaddexp(floor, a - slope * x)

    centre = np.log(flops).mean()
    x, y = np.log(flops) - centre, np.log(ahead) - centre
    line = stats.linregress(x, cost)
    start = (cost.min() - 1.0, line.intercept, max(-line.slope, 1e-3))
    limits = ([-50.0, -np.inf, 0.0], [cost.min() + 1e-9, np.inf, 20.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theta, covariance = optimize.curve_fit(curve, x, cost, start, bounds=limits, max_nfev=5000)
    value, degrees = curve(y, *theta), len(x) - 3
    share = np.exp(np.minimum(theta[1] - theta[2] * y - value, 0))
    gradient = np.stack([1 - share, share, -share * y], axis=1)
    sd = np.sqrt(np.sum((cost - curve(x, *theta)) ** 2) / degrees)
    known = np.where(np.isfinite(covariance), covariance, 0.0)
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(sd**2 + np.einsum("ni,ij,nj->n", gradient, known, gradient))
    return value, value - half, value + half


SIMPLE: dict[str, Law] = {"power law": power, "saturating law": saturating}


def forecasts(name: str, points: Sequence[Point], replicates: int) -> Iterator[Made]:
    """Yield the forecasts of every law, from every prefix, of one method's table."""
    for target in TARGETS:
        try:
            cells = make_cells(points, target)[0].at_budgets()
        except FitError:
            continue
        best = np.array([cells.cost[cells.budget == b].min() for b in range(len(cells.budgets))])
        for seen in range(FEWEST, len(best)):
            ahead, decades = cells.budgets[seen:], np.log10(cells.budgets[seen:] / cells.budgets[seen - 1])
            try:
                made = {"playscale": _chosen(points, cells, target, seen, replicates)}
            except FitError:  # for instance returns that have not begun to rise
                continue
            made |= {law: use(cells.budgets[:seen], best[:seen], ahead) for law, use in SIMPLE.items()}
            for law, (value, low, high) in made.items():
                for i, at in enumerate(decades):
                    error = best[seen + i] - value[i]
                    yield Made(name, target, law, seen, float(at), error, low[i] - value[i], high[i] - value[i])


def _chosen(
    points: Sequence[Point], cells: Cells, target: Target, seen: int, replicates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the forecast of `playscale.fit` from the points of the first budgets, as costs of the whole table.

    Raises:
        FitError: nothing can be fitted to them.
    """
    upto = np.sqrt(cells.budgets[seen - 1] * cells.budgets[seen])
    past = [p for p in points if p.flops < upto]
    fitted = fit(past, replicates=replicates).targets.get(target)
    if fitted is None:
        raise FitError(f"no law of {target} from {seen} budgets")
    cost, low, high = fitted.forecaster.choice.predict(cells.budgets[seen:], np.random.default_rng(0))
    ends = cost, cost if low is None else low, cost if high is None else high
    offset = cells.offset
    value, low, high = (np.array([cost_of(target, fitted.forecaster.value(c), offset) for c in end]) for end in ends)
    return value, low, high


def tables(paths: Sequence[Path]) -> Iterator[tuple[str, list[Point]]]:
    """Yield the rows of each table, by method, those that are held out among them."""
    for path in paths:
        by_method: dict[str, list[Point]] = defaultdict(list)
        for point in read_points(path):
            by_method[point.method].append(point)
        for method, points in by_method.items():
            yield path.stem + (f" {method}" if len(by_method) > 1 else ""), points


def horizon(decades: float) -> str:
    low = max((h for h in (0.0, *HORIZONS) if h < decades - 1e-9), default=0.0)
    high = min(h for h in HORIZONS if decades <= h + 1e-9)
    return f"up to {high:g}" if low == 0 else f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"


def summary(made: Sequence[Made]) -> dict[str, float]:
    """Summarise forecasts, each table weighing the same."""
    parts: dict[str, list[Made]] = defaultdict(list)
    for one in made:
        parts[one.table].append(one)
    rows = [
        (
            np.mean([m.inside for m in own]), np.median([m.high - m.low for m in own]), np.mean([m.score for m in own]),
            np.median([abs(m.error) for m in own]),
        )
        for own in parts.values()
    ]  # fmt: skip
    names = ("coverage", "width", "interval_score", "error")
    return {"tables": len(parts), "forecasts": len(made)} | {
        name: float(np.mean([row[i] for row in rows])) for i, name in enumerate(names)
    }


def show(made: Sequence[Made]) -> None:
    laws = list(dict.fromkeys(m.law for m in made))
    for target in TARGETS:
        own = [m for m in made if m.target == target]
        for part in ("all", *dict.fromkeys(horizon(m.decades) for m in sorted(own, key=lambda m: m.decades))):
            for law in laws:
                some = [m for m in own if m.law == law and part in {"all", horizon(m.decades)}]
                print(f"{target:12} {part:11} {law:15} " + _line(summary(some)))
        for table in dict.fromkeys(m.table for m in own):
            for law in laws:
                line = _line(summary([m for m in own if m.law == law and m.table == table]))
                print(f"{target:12} {table[:40]:40} {law:15} {line}")


def _line(row: dict[str, float]) -> str:
    return (
        f"{row['forecasts']:5d} forecasts  coverage {row['coverage']:5.1%}  width {row['width']:7.3f}"
        f"  interval score {row['interval_score']:8.3f}  error {row['error']:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    made = [m for name, points in tables(options.tables) for m in forecasts(name, points, options.replicates)]
    show(made)
    if options.json:
        options.json.write_text(json.dumps([asdict(m) for m in made]) + "\n")


if __name__ == "__main__":
    main()
