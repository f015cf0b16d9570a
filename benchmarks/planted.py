"""Analyse tables sampled from planted laws: bias, coverage, the form chosen.

    python -m benchmarks.planted --draws 200 --workers 2 [--json FILE]

Each draw has its own grid of sizes, loses a share of its cells, and multiplies every cell by lognormal noise. Bias is
the mean error in units of the mean width of the 95 % interval; coverage is the share of draws whose interval holds the
truth.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from playscale.points import Point
from playscale.scaling.backtest import BREAKING, LEVELLING, PLAIN, CandidateLaw, Frontier
from playscale.scaling.cells import make_cells
from playscale.scaling.choice import choose
from playscale.scaling.exponents import fit_exponents
from playscale.scaling.frontier import FrontierLaw, parameters
from playscale.scaling.isoflop import fit_profiles, in_windows
from playscale.scaling.parametric import fit_parametric
from playscale.scaling.translog import fit_translog

BUDGETS = np.geomspace(1e13, 1e18, 14)
SIZES = np.geomspace(1e3, 3e8, 20)
CELLS_PER_BUDGET = 7
MISSING = 0.15
# N_opt = G C^SHARE, and the curvature of ln value in ln N about it.
SHARE, G, CURVATURE = 0.55, 2e-3, 0.03
NOISES = (0.005, 0.02, 0.05)


@dataclass(frozen=True)
class Planted:
    """value(N, D, C) without noise; truth: {name: exponent}; form: the law of the frontier that should be chosen."""

    target: str
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    truth: dict[str, float]
    form: CandidateLaw | None = None


def profiled(best: Callable[[np.ndarray], np.ndarray], sign: float) -> Callable[..., np.ndarray]:
    """Return the best value of a budget, worse by a parabola in ln N away from the best size."""

    def value(params: np.ndarray, _: np.ndarray, flops: np.ndarray) -> np.ndarray:
        away = np.log(params) - np.log(G * flops**SHARE)
        return best(flops) * np.exp(sign * CURVATURE * away**2)

    return value


def _break(before: float, after: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a power law whose exponent changes within a decade around 1e15."""
    width = np.log(10.0) / 4

    def best(flops: np.ndarray) -> np.ndarray:
        soft = width * np.logaddexp(0, np.log(flops / 1e15) / width)
        return 2.0 * np.exp(-before * np.log(flops / 1e13) - (after - before) * soft)

    return best


def _translog(params: np.ndarray, samples: np.ndarray, _: np.ndarray) -> np.ndarray:
    n, d = np.log(params / 1e6), np.log(samples / 1e9)
    return np.exp(-0.5 - 0.12 * n - 0.15 * d + 0.015 * n**2 + 0.012 * d**2 - 0.004 * n * d)


def _translog_share() -> float:
    """N_opt ~ C^share of `_translog` along C = 6 N D."""
    return (2 * 0.012 + 0.004) / (2 * (0.015 + 0.004 + 0.012))


SIZE_TRUTH = {"params argmin": SHARE, "params vertex": SHARE}
LAWS = {
    "power": Planted(
        "dev_loss", profiled(lambda c: 2.0 * (c / 1e13) ** -0.12, 1), SIZE_TRUTH | {"gamma": 0.12}, PLAIN
    ),
    "floor": Planted(
        "dev_loss", profiled(lambda c: 0.3 + 1.5 * (c / 1e13) ** -0.3, 1), SIZE_TRUTH | {"gamma": 0.3}, LEVELLING
    ),
    "broken": Planted(
        "dev_loss", profiled(_break(0.08, 0.3), 1), SIZE_TRUTH | {"gamma": 0.08, "gamma_after": 0.3}, BREAKING
    ),
    "slowing": Planted(
        "dev_loss", profiled(_break(0.3, 0.08), 1), SIZE_TRUTH | {"gamma": 0.3, "gamma_after": 0.08}, BREAKING
    ),
    "bounded return": Planted(
        "return_mean", profiled(lambda c: 1 / (1 / 900 + 1 / (30 * (c / 1e13) ** 0.5)), -1),
        SIZE_TRUTH | {"gamma": 0.5}, LEVELLING,
    ),
    "parametric": Planted(
        "dev_loss",
        lambda n, d, _: 0.3 + 30 / n**0.35 + 300 / d**0.3,
        {
            "alpha": 0.35, "beta": 0.3, "params parametric": 0.3 / 0.65, "params vertex": 0.3 / 0.65,
            "params argmin": 0.3 / 0.65,
        },
    ),
    "translog": Planted(
        "dev_loss", _translog, dict.fromkeys(("params translog", "params vertex", "params argmin"), _translog_share())
    ),
}  # fmt: skip


def table(law: Planted, noise: float, rng: np.random.Generator) -> list[Point]:
    """Return the cells around each budget's best size that a planner would train, some of them missing."""
    sizes = SIZES * float(np.exp(rng.uniform(-0.5, 0.5) * np.log(SIZES[1] / SIZES[0])))
    points = []
    for flops in BUDGETS:
        value = law.value(sizes, flops / 6 / sizes, np.full(len(sizes), flops))
        best = int(np.argmin(value if law.target == "dev_loss" else -value))
        near = np.argsort(np.abs(np.arange(len(sizes)) - best), kind="stable")[:CELLS_PER_BUDGET]
        for i in near[rng.random(len(near)) >= MISSING]:
            measured = float(value[i] * np.exp(noise * rng.standard_normal()))
            loss, score = (measured, None) if law.target == "dev_loss" else (None, measured)
            samples = float(flops / 6 / sizes[i])
            points.append(Point(flops=flops, params=sizes[i], samples=samples, dev_loss=loss, return_mean=score))
    return points


@dataclass(frozen=True)
class DrawResult:
    """Result of one draw: {name: (value, low, high)}, and the name of the form chosen."""

    exponents: dict[str, tuple[float | None, float | None, float | None]]
    form: str


def analyse(law: Planted, noise: float, seed: int, replicates: int = 200) -> DrawResult:
    """Fit one sampled table with the parts of the analysis that the planted law is about."""
    which = next(number for number, own in enumerate(LAWS.values()) if own is law)
    rng = np.random.default_rng([seed, round(1e4 * noise), which])
    cells, _ = make_cells(table(law, noise, rng), law.target)  # type: ignore[arg-type]
    profiles = fit_profiles(cells)
    results: dict[str, tuple[float | None, float | None, float | None]] = {}
    for row in fit_exponents(cells, profiles, rng, 0):
        if row.quantity == "params":
            results[f"params {row.at}"] = (row.law.exponent, row.law.low, row.law.high)
    if law.form is None:
        surface = fit_parametric(cells, rng, replicates)
        results |= {name: span[:3] for name, span in surface.parameters().items() if name in {"alpha", "beta"}}
        results["params parametric"] = surface.exponents()["params"][:3]
        shares = fit_translog(cells.where(in_windows(cells)), 0).exponents()
        if shares:
            results["params translog"] = shares["params"][:3]
        return DrawResult(results, "")
    frontier = Frontier(
        cells.target, cells.budgets, np.array([p.argmin_cost for p in profiles]), np.array([p.noise for p in profiles])
    )
    about = (sum(p.rss for p in profiles), sum(p.degrees for p in profiles))
    fitted = frontier.fit(law.form, rng, replicates, about)
    assert isinstance(fitted, FrontierLaw)
    results |= {name: span[:3] for name, span in parameters(fitted, cells.target).items() if name.startswith("gamma")}
    return DrawResult(results, choose(frontier, rng, 20).name.partition(",")[0])


@dataclass(frozen=True)
class ExponentSummary:
    """One exponent of one planted law at one noise, over the draws."""

    law: str
    noise: float
    name: str
    truth: float
    mean: float
    width: float
    bias: float
    coverage: float
    draws: int


def summarise(name: str, noise: float, results: list[DrawResult]) -> Iterator[ExponentSummary]:
    law = LAWS[name]
    for quantity, truth in law.truth.items():
        spans = [one.exponents[quantity] for one in results if quantity in one.exponents]
        value, low, high = (np.array(column, dtype=float) for column in zip(*spans, strict=True))
        mean, width = float(np.nanmean(value)), float(np.nanmean(high - low))
        held = ~(low > truth) & ~(truth > high)  # an end that is not bounded holds the truth
        yield ExponentSummary(
            name, noise, quantity, truth, mean, width, abs(mean - truth) / width, float(np.mean(held)), len(spans),
        )  # fmt: skip


def expected(name: str) -> str:
    """Return the name of the form that should be chosen."""
    law = LAWS[name]
    return "" if law.form is None else law.form.name(law.target)


def _one(job: tuple[str, float, int]) -> DrawResult:
    return analyse(LAWS[job[0]], job[1], job[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--laws", default=",".join(LAWS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        for name in options.laws.split(","):
            for noise in NOISES:
                results = list(pool.map(_one, [(name, noise, seed) for seed in range(options.draws)], chunksize=5))
                for row in summarise(name, noise, results):
                    rows.append(row.__dict__)
                    said = f"{row.name:18s} truth {row.truth:6.3f}  mean {row.mean:6.3f}  bias/width {row.bias:5.3f}"
                    print(f"{name:15s} noise {100 * noise:3.1f} %  {said}  coverage {row.coverage:.3f}", flush=True)
                if expected(name):
                    forms = Counter(one.form for one in results)
                    rows.append({"law": name, "noise": noise, "forms": forms})
                    print(f"{name:15s} noise {100 * noise:3.1f} %  forms {dict(forms.most_common())}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
