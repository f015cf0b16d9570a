"""Forecast the later budgets of other people's tables from their earlier ones, beside simple laws.

    python -m benchmarks.tables TABLE... [--planted] [--replicates 300] [--workers 2] [--json FILE]

From every prefix of at least four budgets (at most 24, evenly spread), every law forecasts the best measured cell of
each later budget: the law that Playscale chooses, fitted by `playscale.fit` to the prefix alone; a power law and a
saturating law by scipy, each with the interval that a textbook gives it; and, of losses, the law of params and samples
as the `chinchilla` package (pip install chinchilla==0.2.0; left out where it is not installed) and variable projection
fit it, neither of which has an interval. They forecast from the budget alone; where a table is no isoFLOP table, the
laws of params and samples forecast the best cell of each step of compute from its own params and samples.

Errors are of logarithms. A table counts by target and horizon (decades of compute ahead), and each table weighs the
same: coverage of the 95 % intervals, their median width, the mean interval score (Gneiting and Raftery 2007, doi
10.1198/016214506000001437; lower is better) and the median absolute error. Forecasts of budgets whose best cell is the
smallest or largest size are also summarised apart. At the end, every law chosen that is off by a factor 1.5 or more
where a simple law is within 10 %. `--planted` adds tables drawn from known laws (benchmarks.planted), one a noise.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from playscale.points import Point, read_points
from playscale.scaling.cells import SIGN, TARGETS, Cells, FitError, Target, make_cells, value_of
from playscale.scaling.fit import fit
from playscale.scaling.forecast import Forecaster
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.powerlaw import LEVEL
from playscale.scaling.target_fit import TargetFit

from . import planted
from .surfaces import Runs, surfaces

FEWEST = 4
# Ends of the horizons, in decades of compute beyond the last budget seen.
HORIZONS = (0.5, 1.0, 2.0, np.inf)

MOST_PREFIXES = 24
# A pick is listed when it is off by FAR or more where a simple law is within NEAR (factors).
FAR, NEAR = 1.5, 1.1
PLAYSCALE = "playscale"

Ends = tuple[np.ndarray, np.ndarray, np.ndarray]  # costs, and the ends of their intervals (NaN without one)
# (flops, cost) of the budgets seen, flops ahead -> cost ahead, and the ends of its interval.
Law = Callable[[np.ndarray, np.ndarray, np.ndarray], Ends]


@dataclass(frozen=True)
class Made:
    """One forecast: log error, and the ends of the 95 % interval about it (NaN without one).

    edge: the best cell is the smallest or largest size of its budget; name: of the law that was chosen.
    """

    table: str
    target: str
    law: str
    seen: int
    decades: float
    error: float
    low: float
    high: float
    edge: bool = False
    name: str = ""

    @property
    def inside(self) -> bool:
        return self.low <= self.error <= self.high

    @property
    def score(self) -> float:
        """Return the interval score: the width, and 2 / (1 - LEVEL) times how far the outcome lies outside."""
        outside = max(self.low - self.error, self.error - self.high, 0.0)
        return self.high - self.low + 2 / (1 - LEVEL) * outside


def power(flops: np.ndarray, cost: np.ndarray, ahead: np.ndarray) -> Ends:
    """Fit a line through logarithms, with its prediction interval by Student's t."""
    x, y = np.log(flops), np.log(ahead)
    line = stats.linregress(x, cost)
    degrees = len(x) - 2
    sd = np.sqrt(np.sum((cost - line.intercept - line.slope * x) ** 2) / degrees)
    value = line.intercept + line.slope * y
    spread = sd * np.sqrt(1 + 1 / len(x) + (y - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * spread
    return value, value - half, value + half


def saturating(flops: np.ndarray, cost: np.ndarray, ahead: np.ndarray) -> Ends:
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
            cells = make_cells(points, target)[0]
        except FitError:
            continue
        cells = cells.at_budgets() if cells.isoflop else cells
        best = np.array([best_of(cells, budget) for budget in range(len(cells.budgets))])
        edge = [p.edge is not None for p in fit_profiles(cells)] if cells.isoflop else [False] * len(best)
        for seen in prefixes_of(len(best)):
            decades = np.log10(cells.budgets[seen:] / cells.budgets[seen - 1])
            try:
                fitted = _fitted(points, cells, target, seen, replicates)
                chosen, ends = _chosen(fitted, cells, best[seen:], seen)
            except FitError:  # for instance returns that have not begun to rise
                continue
            offset = fitted.forecaster.offset
            known = counted_from(offset, cells, cells.cost[best[:seen]])
            made = {PLAYSCALE: ends} | {
                law: use(cells.budgets[:seen], known, cells.budgets[seen:]) for law, use in SIMPLE.items()
            }
            if target == "dev_loss":
                made |= _of_surfaces(cells, best, seen)
            for law, its_ends in made.items():
                value, low, high = (counted_from(cells.offset, fitted.forecaster, end) for end in its_ends)
                for i, at in enumerate(decades):
                    error = float(cells.cost[best[seen + i]] - value[i])
                    yield Made(
                        name, target, law, seen, float(at), error, float(low[i] - value[i]),
                        float(high[i] - value[i]), edge[seen + i], chosen if law == PLAYSCALE else "",
                    )  # fmt: skip


def prefixes_of(budgets: int, most: int = MOST_PREFIXES) -> list[int]:
    """Return from how many budgets forecasts are made, evenly spread."""
    count = min(most, max(budgets - FEWEST, 0))
    return np.unique(np.linspace(FEWEST, budgets - 1, count).astype(int)).tolist()  # type: ignore[no-any-return]


def upto(points: Sequence[Point], cells: Cells, seen: int) -> list[Point]:
    """Return the points of the first budgets."""
    last = np.sqrt(cells.budgets[seen - 1] * cells.budgets[seen])
    return [p for p in points if p.flops < last]


def best_of(cells: Cells, budget: int) -> int:
    """Return the row of the best cell of a budget."""
    own = np.flatnonzero(cells.budget == budget)
    return int(own[np.argmin(cells.cost[own])])


def _fitted(points: Sequence[Point], cells: Cells, target: Target, seen: int, replicates: int) -> TargetFit:
    """Return what `playscale.fit` makes of the points of the first budgets; FitError where it makes nothing."""
    fitted = fit(upto(points, cells, seen), replicates=replicates).targets.get(target)
    if fitted is None:
        raise FitError(f"no law of {target} from {seen} budgets")
    return fitted


def _chosen(fitted: TargetFit, cells: Cells, ahead: np.ndarray, seen: int) -> tuple[str, Ends]:
    """Return the name and the forecast of the chosen law. FitError: a scatter without a law of params and samples."""
    forecaster, rng = fitted.forecaster, np.random.default_rng(0)
    if cells.isoflop:
        cost, low, high = forecaster.choice.predict(cells.budgets[seen:], rng)
        return forecaster.choice.name, (cost, cost if low is None else low, cost if high is None else high)
    if forecaster.surface is None:
        raise FitError(f"no law of params and samples from {seen} budgets")
    at = zip(cells.params[ahead], forecaster.surface.samples(cells)[ahead], strict=True)
    each = [forecaster.surface.predict(*where, rng, forecaster.noise) for where in at]
    value, low, high = np.array(each).T
    return forecaster.surface.chosen, (value, low, high)


def counted_from(offset: float, of: Cells | Forecaster, cost: np.ndarray) -> np.ndarray:
    """Return costs as those of returns counted from another offset: a law is given nothing of later budgets."""
    if offset == of.offset:
        return cost  # as they are: a wide interval's ends overflow otherwise
    above = value_of(of.target, cost, of.offset) - offset
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(above <= 0, np.inf, SIGN[of.target] * np.log(above))


def _of_surfaces(cells: Cells, best: np.ndarray, seen: int) -> dict[str, Ends]:
    """Return the forecasts of others' laws of params and samples; nothing from fewer than 7 runs of 3 sizes."""
    past = (cells.budget < seen) & np.isfinite(cells.samples)
    if past.sum() < 7 or len(np.unique(cells.params[past])) < 3:
        return {}
    runs = Runs(cells.params[past], cells.samples[past], np.exp(cells.cost[past]), cells.flops[past])
    none = np.full(len(best) - seen, np.nan)
    made = {}
    for name, fitter in surfaces().items():
        law = fitter(runs)
        own = best[seen:]
        loss = law.best(cells.budgets[seen:]) if cells.isoflop else law.loss(cells.params[own], cells.samples[own])
        if np.all(loss > 0):  # else the fit has failed
            made[name] = (np.log(loss), none, none)
    return made


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


def planted_tables() -> Iterator[tuple[str, list[Point]]]:
    """Yield two tables of each planted law at each noise: with sizes around each best one, and with the middle half.

    In the second, most small and large budgets have their best cell at the edge of the sizes.
    """
    for which, (name, law) in enumerate(planted.LAWS.items()):
        for noise in planted.NOISES:
            whole = planted.table(law, noise, np.random.default_rng([which, 7]))
            yield f"planted: {name}, {noise:.1%}", whole
            low, high = np.quantile([p.params for p in whole], [0.25, 0.75])
            middle = [p for p in whole if low <= p.params <= high]
            yield f"planted: {name}, {noise:.1%}, few sizes", middle


def summary(made: Sequence[Made]) -> dict[str, float]:
    """Summarise forecasts, each table weighing the same; NaN for what needs an interval where there is none."""
    parts: dict[str, list[Made]] = defaultdict(list)
    for one in made:
        parts[one.table].append(one)
    rows = [
        (
            np.mean([m.inside for m in own]) if not np.isnan(own[0].low) else np.nan,
            np.median([m.high - m.low for m in own]), np.mean([m.score for m in own]),
            np.median([abs(m.error) for m in own]),
        )
        for own in parts.values()
    ]  # fmt: skip
    names = ("coverage", "width", "interval_score", "error")
    return {"tables": len(parts), "forecasts": len(made)} | {
        name: float(np.mean([row[i] for row in rows])) for i, name in enumerate(names)
    }


def show(made: Sequence[Made]) -> None:
    """Print the summaries by target and horizon, by table, and the forecasts that are far off."""
    laws = list(dict.fromkeys(m.law for m in made))
    for target in TARGETS:
        own = [m for m in made if m.target == target]
        parts = {"all": own, "best inside": [m for m in own if not m.edge], "best at edge": [m for m in own if m.edge]}
        parts |= {h: [m for m in own if horizon(m.decades) == h] for h in _horizons(own)}
        tables = {table: [m for m in own if m.table == table] for table in dict.fromkeys(m.table for m in own)}
        for part, some in (parts | tables).items():
            for law in laws:
                if of_law := [m for m in some if m.law == law]:
                    print(f"{target:12} {part[:44]:44} {law:19} " + _line(summary(of_law)))
    for line in far_off(made):
        print(line)


def _horizons(made: Sequence[Made]) -> list[str]:
    return list(dict.fromkeys(horizon(m.decades) for m in sorted(made, key=lambda m: m.decades)))


def far_off(made: Sequence[Made]) -> Iterator[str]:
    """Yield a line for each of our forecasts that is off by FAR or more where a simple law is within NEAR."""
    simple: dict[tuple[str, str, int, float], dict[str, float]] = defaultdict(dict)
    for one in made:
        if one.law in SIMPLE:
            simple[one.table, one.target, one.seen, one.decades][one.law] = abs(one.error)
    for one in made:
        beside = simple[one.table, one.target, one.seen, one.decades]
        near = [law for law, error in beside.items() if error < np.log(NEAR)]
        if one.law == PLAYSCALE and abs(one.error) >= np.log(FAR) and near:
            yield (
                f"off by x{np.exp(abs(one.error)):.2f} ({'inside' if one.inside else 'outside'} its interval):"
                f" {one.table}, {one.target}, {one.name}, from {one.seen} budgets, {one.decades:.2f} decades ahead"
                f" (best cell {'at the edge' if one.edge else 'inside'}); within 10 %: {', '.join(near)}"
            )


def _line(row: dict[str, float]) -> str:
    interval = (
        f"  coverage {row['coverage']:5.1%}  width {row['width']:7.3f}  interval score {row['interval_score']:8.3f}"
        if not np.isnan(row["width"])
        else "  no interval"
    )
    return f"{row['forecasts']:5d} forecasts  error {row['error']:.4f}{interval}"


def _forecasts(job: tuple[str, list[Point], int]) -> list[Made]:
    return list(forecasts(*job))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    jobs = [(*table, options.replicates) for table in tables(options.tables)]
    jobs += [(*table, options.replicates) for table in (planted_tables() if options.planted else ())]
    with ProcessPoolExecutor(options.workers) as pool:
        made = [m for part in pool.map(_forecasts, jobs) for m in part]
    show(made)
    if options.json:
        options.json.write_text(json.dumps([asdict(m) for m in made]) + "\n")


if __name__ == "__main__":
    main()
