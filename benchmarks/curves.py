"""Forecast the last point of single runs from the first 25 and 50 % of their compute.

    python -m benchmarks.curves [--draws 100] [--table POINTS] [CURVE.CSV...] [--json FILE]

Planted curves have correlated noise; of --table each method and size is a curve of mean returns, and of each curve.csv
`train_return`, else `train_loss`. Forecasts stand beside the last value held constant and a power law through all
points; an error is that of the last point as it was measured, over the range of the whole curve.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter
from scipy.stats import linregress

from playscale.points import read_curve, read_points
from playscale.scaling.run_curve import CurveForecast, forecast_curve
from playscale.scaling.run_posterior import Kind

PARTS = (0.25, 0.5)
KINDS: tuple[Kind, ...] = ("return", "loss")
EVENLY, GEOMETRICALLY = 100, 24  # points of a curve: those of curve.csv, and those of checkpoints
CORRELATIONS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.97)  # of neighbouring residuals
NOISE = (0.01, 0.1)  # over the range of the curve
NOISY = 0.05  # of the compute, in which the noise is three times as large


class Curve(NamedTuple):
    """A run's curve: compute and values [n]; turned: compute from which on it gets worse, infinite for none."""

    name: str
    kind: Kind
    flops: np.ndarray
    values: np.ndarray
    turned: float = np.inf


@dataclass(frozen=True)
class Summary:
    """What came of the forecasts of one group of curves from one part of their compute.

    Errors are medians over the curves that were answered; last_all: that of the last value over all curves.
    """

    group: str
    part: float
    curves: int
    answers: int
    untold: dict[str, int]
    coverage: float | None
    error: float | None
    last: float | None
    power: float | None
    last_all: float | None


Course = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _sigmoid(c: np.ndarray, middle: float, steepness: float) -> np.ndarray:
    return np.asarray(1 / (1 + (middle / c) ** steepness))


def _saturated(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _sigmoid(c, _log_uniform(rng, 0.03, 0.25), _log_uniform(rng, 1.2, 4))


def _rising(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _sigmoid(c, _log_uniform(rng, 0.4, 3), _log_uniform(rng, 1, 4))


def _logarithm(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.log1p(c / _log_uniform(rng, 0.01, 0.3))


def _two_waves(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _sigmoid(c, rng.uniform(0.05, 0.15), 3) + rng.uniform(0.5, 2) * _sigmoid(c, rng.uniform(0.4, 1), 5)


def _falling(least: float, most: float) -> Course:
    def course(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a power law, after a start at a constant loss, as gain."""
        return -(np.maximum(c, 0.03) ** -rng.uniform(least, most))

    return course


def _log_loss(c: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.log(c + 0.01)


def _falling_twice(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -(c**-0.4) + 3 * _sigmoid(c, rng.uniform(0.3, 0.8), 6)


COURSES: dict[Kind, dict[str, tuple[Course, ...]]] = {
    "return": {
        "saturated": (_saturated,), "not saturated": (_rising,), "other shapes": (_logarithm, _two_waves),
        "diverging": (_saturated, _rising),
    },
    "loss": {
        "saturated": (_falling(0.5, 1.2),), "not saturated": (_falling(0.08, 0.4),),
        "other shapes": (_log_loss, _falling_twice), "diverging": (_falling(0.2, 1),),
    },
}  # fmt: skip


def planted(kind: Kind, group: str, seed: int) -> Curve:
    """Return a curve of a known course, its noise AR(1) and three times as large at first, its compute up to 1."""
    rng = np.random.default_rng([seed, KINDS.index(kind), list(COURSES[kind]).index(group)])
    c = np.linspace(1 / EVENLY, 1, EVENLY) if seed % 2 else np.geomspace(0.01, 1, GEOMETRICALLY)
    courses = COURSES[kind][group]
    gain = courses[seed // 2 % len(courses)](c, rng)
    gain = (gain - gain[0]) / np.ptp(gain)
    turned = np.inf
    if group == "diverging":
        turned = rng.uniform(0.1, 0.8)
        lost = rng.uniform(0.4, 1) * np.interp(turned, c, gain)
        gain = gain - lost * np.clip((c - turned) / rng.uniform(0.1, 0.3), 0, 1)
    size = _log_uniform(rng, *NOISE) * np.where(c < NOISY, 3, 1)
    if kind == "return" and rng.random() < 0.5:
        size = size * np.maximum(gain, 0.05)
    values = gain + size * _correlated(len(c), rng.choice(CORRELATIONS), rng)
    level = rng.uniform(1.2, 3)
    return Curve(f"{kind}, {group}", kind, c, values if kind == "return" else level - values, turned)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _correlated(n: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    """Return residuals [n] of variance 1, those of neighbours correlated by rho."""
    white = rng.standard_normal(n) * np.where(np.arange(n) == 0, 1, np.sqrt(1 - rho**2))
    return np.asarray(lfilter([1], [1, -rho], white))


def curves_of_table(path: Path) -> list[Curve]:
    """Return the mean returns of each method and size of a points table."""
    points = sorted(read_points(path), key=lambda point: (point.method, point.params, point.flops))
    curves = []
    for _, own in groupby(points, key=lambda point: (point.method, point.params)):
        measured = [(point.flops, point.return_mean) for point in own if point.return_mean is not None]
        c, y = (np.array(column) for column in zip(*measured, strict=True))
        curves.append(Curve(path.stem, "return", c, y))
    return curves


def curve_of_run(path: Path) -> Curve | None:
    """Return the returns of a run's curve.csv, else its losses; None where it has 20 of neither."""
    rows = read_curve(path)
    for column, kind in (("train_return", KINDS[0]), ("train_loss", KINDS[1])):
        own = [(row["flops"], row[column]) for row in rows if column in row and "flops" in row]
        if len(own) >= 20:
            c, y = (np.array(values) for values in zip(*own, strict=True))
            return Curve(f"runs, {column}", kind, c, y)
    return None


class _Outcome(NamedTuple):
    forecast: CurveForecast
    truth: float
    scale: float
    last: float
    power: float | None


def backtest(curve: Curve, part: float) -> _Outcome:
    """Forecast the last point of a curve from the points up to a part of its compute."""
    seen = curve.flops <= part * curve.flops[-1] * (1 + 1e-9)
    c, y = curve.flops[seen], curve.values[seen]
    forecast = forecast_curve(c, y, float(curve.flops[-1]), kind=curve.kind)
    above = y > 0
    power = None
    if above.sum() > 2:
        law = linregress(np.log(c[above]), np.log(y[above]))
        power = float(np.exp(law.intercept + law.slope * np.log(curve.flops[-1])))
    return _Outcome(forecast, float(curve.values[-1]), float(np.ptp(curve.values)), float(y[-1]), power)


def summarise_curves(group: str, part: float, curves: Sequence[Curve]) -> Summary:
    """Return what came of the forecasts of a group of curves."""
    outcomes = [backtest(curve, part) for curve in curves]
    told = [one for one in outcomes if one.forecast.value is not None]

    def error(of: Sequence[_Outcome], value: Callable[[_Outcome], float | None]) -> float | None:
        errors = [abs(found - one.truth) / one.scale for one in of if (found := value(one)) is not None]
        return float(np.median(errors)) if errors else None

    inside = [one.forecast.low <= one.truth <= one.forecast.high for one in told]  # type: ignore[operator]
    return Summary(
        group, part, len(curves), len(told),
        dict(Counter(str(one.forecast.untold) for one in outcomes if one.forecast.untold)),
        float(np.mean(inside)) if inside else None, error(told, lambda one: one.forecast.value),
        error(told, lambda one: one.last), error(told, lambda one: one.power), error(outcomes, lambda one: one.last),
    )  # fmt: skip


def groups_of(curves: Sequence[Curve], part: float) -> Iterator[tuple[str, list[Curve]]]:
    """Yield the groups of curves; those that diverge by whether they did so before the cut."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        when = "" if curve.turned == np.inf else " before" if curve.turned < part else " after"
        groups.setdefault(curve.name + when, []).append(curve)
    yield from groups.items()


def table_line(row: Summary) -> str:
    """Return a line of a Markdown table."""
    numbers = ("" if value is None else f"{value:.3f}" for value in (row.error, row.last, row.power, row.last_all))
    held = "" if row.coverage is None else f"{row.coverage:.0%}"
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(row.untold.items(), key=lambda pair: -pair[1]))
    return " | ".join(
        [f"| {row.group}", f"{row.part:.0%}", f"{row.curves}", f"{row.answers}", held, *numbers, f"{why} |"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("curves", type=Path, nargs="*")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--table", type=Path, action="append", default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    curves = [planted(kind, group, i) for kind in KINDS for group in COURSES[kind] for i in range(options.draws)]
    curves += [curve for path in options.table for curve in curves_of_table(path)]
    curves += [curve for path in options.curves if (curve := curve_of_run(path))]
    print(
        "| curves | part | runs | answers | coverage | error | last value | power law | last value, all | no answer |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for part in PARTS:
        for group, own in groups_of(curves, part):
            rows.append(summarise_curves(group, part, own))
            print(table_line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
