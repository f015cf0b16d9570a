"""Forecast returns by way of the dev loss, beside the law of the return along compute alone.

    python -m benchmarks.two_steps TABLE... [--planted] [--replicates 300] [--prefixes 24] [--json FILE]

As `benchmarks.tables`: from every prefix of at least four budgets, the best return measured at each later budget is
forecast by

* direct: the law that is the choice where no law goes by way of the dev loss;
* two steps: of the laws that do, the one with the better backtest, whatever the others do;
* playscale: the choice among all of them.

`--planted` adds tables of a loss and a return that are drawn from known laws: returns that follow the loss, returns
that level off in it, and returns with a law of their own along compute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from playscale.points import Point
from playscale.scaling.backtest import THROUGH_LOSS
from playscale.scaling.cells import TARGETS, Cells, FitError, make_cells
from playscale.scaling.choice import OF_FORM, Choice, choose, widening
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.target_fit import about, frontier_of, steps_of

from . import planted
from .tables import MOST_PREFIXES, PLAYSCALE, Made, best_of, counted_from, prefixes_of, show, tables, upto

DIRECT, TWO_STEPS = "direct", "two steps"


@dataclass(frozen=True)
class Pair:
    """The best loss of compute, and the best return of that loss and of compute, both without noise."""

    loss: Callable[[np.ndarray], np.ndarray]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]


PAIRS = {
    "power of loss": Pair(lambda c: 2.0 * (c / 1e13) ** -0.12, lambda loss, _: 20 * (2.0 / loss) ** 3),
    "power of a loss with a floor": Pair(
        lambda c: 0.3 + 1.5 * (c / 1e13) ** -0.3, lambda loss, _: 20 * (2.0 / loss) ** 2
    ),
    "bounded in the loss": Pair(
        lambda c: 2.0 * (c / 1e13) ** -0.12, lambda loss, _: 1 / (1 / 900 + (loss / 2.0) ** 4 / 30)
    ),
    "late in the loss": Pair(
        lambda c: 0.3 + 1.5 * (c / 1e13) ** -0.3, lambda loss, _: 5 + 800 / (1 + np.exp((loss - 0.7) / 0.12))
    ),
    "along compute, its own": Pair(
        lambda c: 0.3 + 1.5 * (c / 1e13) ** -0.3, lambda _, c: 1 / (1 / 900 + 1 / (30 * (c / 1e13) ** 0.5))
    ),
}
RETURN_NOISE = 4.0  # times the loss's


def planted_tables() -> Iterator[tuple[str, list[Point]]]:
    """Yield a table of each pair at each noise of the loss; the return's is RETURN_NOISE times as large."""
    for which, (name, pair) in enumerate(PAIRS.items()):
        for noise in planted.NOISES:
            yield f"planted: {name}, {noise:.1%}", planted_table(pair, noise, np.random.default_rng([which, 8]))


def planted_table(pair: Pair, noise: float, rng: np.random.Generator) -> list[Point]:
    """Return the cells around each budget's best size, which is that of the loss and of the return."""
    law = planted.Planted("dev_loss", planted.profiled(pair.loss, 1), {})
    whole = []
    for point in planted.table(law, 0.0, rng):
        assert point.dev_loss is not None
        flops = np.array(point.flops)
        best = pair.loss(flops)
        score = float(pair.value(best, flops) * (best / point.dev_loss) ** 2)
        loss, factor = np.exp(noise * np.array([1.0, RETURN_NOISE]) * rng.standard_normal(2))
        whole.append(replace(point, dev_loss=float(point.dev_loss * loss), return_mean=float(score * factor)))
    return whole


def forecasts(name: str, points: Sequence[Point], replicates: int, most: int) -> Iterator[Made]:
    """Yield the forecasts of the return, from every prefix, of one method's table; none where no loss goes with it."""
    try:
        cells = make_cells(points, "return_mean")[0].at_budgets()
    except FitError:
        return
    best = np.array([best_of(cells, budget) for budget in range(len(cells.budgets))])
    edge = [p.edge is not None for p in fit_profiles(cells)]
    for seen in prefixes_of(len(best), most):
        try:
            own, made = choices(upto(points, cells, seen), replicates)
        except FitError:
            continue
        for law, choice in made.items():
            yield from _made(name, law, choice, own, cells, seen, best, edge)


def _made(
    name: str, law: str, choice: Choice, own: Cells, cells: Cells, seen: int, best: np.ndarray, edge: Sequence[bool],
) -> Iterator[Made]:  # fmt: skip
    ahead = cells.budgets[seen:]
    cost, low, high = choice.predict(ahead, np.random.default_rng(0))
    ends = (cost, cost if low is None else low, cost if high is None else high)
    value, low, high = (counted_from(cells.offset, own, end) for end in ends)
    for i, at in enumerate(np.log10(ahead / cells.budgets[seen - 1])):
        error = float(cells.cost[best[seen + i]] - value[i])
        yield Made(
            name, "return_mean", law, seen, float(at), error, float(low[i] - value[i]), float(high[i] - value[i]),
            edge[seen + i], choice.name,
        )  # fmt: skip


def choices(points: Sequence[Point], replicates: int) -> tuple[Cells, dict[str, Choice]]:
    """Return the cells of returns, and the choices among all laws, among those along compute, and of two steps.

    Raises FitError where the returns have no loss beside them, or too few budgets.
    """
    rng = np.random.default_rng(1)
    loss, ret = (make_cells(points, target, screen=True)[0].at_budgets() for target in TARGETS)
    of_loss, profiles = fit_profiles(loss), fit_profiles(ret)
    steps = steps_of(choose(frontier_of(loss, of_loss), rng, replicates, about(of_loss)), ret.budgets, rng, replicates)
    if steps is None:
        raise FitError("some budget with a return has no dev loss")
    frontier = frontier_of(ret, profiles)
    every = choose(replace(frontier, loss=steps), rng, replicates, about(profiles))
    found = {PLAYSCALE: every, DIRECT: choose(frontier, rng, replicates, about(profiles))}
    return ret, found | {TWO_STEPS: two_steps(every, rng, replicates, about(profiles))}


def two_steps(choice: Choice, rng: np.random.Generator, replicates: int, extra: tuple[float, int]) -> Choice:
    """Return the better law of two steps, as it would be if no other law were there."""
    assert choice.tested is not None
    frontier = choice.tested.frontier
    whole = len(frontier.flops)
    among = [c for c in choice.tested.rolling if c.source == THROUGH_LOSS and frontier.fits(c)]
    score = choice.tested.scores(whole, among)
    best = min(score, key=score.__getitem__, default=among[-1])
    law = frontier.fit(best, rng, replicates, extra)
    strain = np.array([p.strain for p in choice.tested.rolling[best].predictions(whole)])
    wider = widening(strain) * (1 + OF_FORM / whole)
    return replace(choice, name=best.name("return_mean"), law=law, laws=(law,), widening=wider)


def _forecasts(job: tuple[str, list[Point], int, int]) -> list[Made]:
    return list(forecasts(*job))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--prefixes", type=int, default=MOST_PREFIXES)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    given = [*tables(options.tables), *(planted_tables() if options.planted else ())]
    jobs = [(*table, options.replicates, options.prefixes) for table in given]
    with ProcessPoolExecutor(options.workers) as pool:
        made = [m for part in pool.map(_forecasts, jobs) for m in part]
    show(made)
    if options.json:
        options.json.write_text(json.dumps([asdict(m) for m in made]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
