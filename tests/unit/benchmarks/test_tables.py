"""Forecasts of later budgets from earlier ones: the laws beside ours, the scores, and what is listed as far off."""

from __future__ import annotations

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.cells import make_cells
from playscale_benchmarks.surfaces import Runs, variable_projection
from playscale_benchmarks.tables import PLAYSCALE, Made, far_off, forecasts, power, saturating, summary

FLOPS = np.geomspace(1e18, 1e21, 6)


def loss(params: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return 1.7 + 400 / params**0.34 + 410 / samples**0.28


def table(sizes: int) -> list[Point]:
    rows = [
        (c, n, c / 6 / n) for c in FLOPS for n in np.sqrt(c / 120) * np.geomspace(0.2, 5, sizes)
    ]  # fmt: skip
    return [
        Point(flops=float(c), params=float(n), samples=float(d), dev_loss=float(loss(np.array(n), np.array(d))))
        for c, n, d in rows
    ]


def test_variable_projection_recovers_a_law_without_noise() -> None:
    points = table(5)
    columns = [np.array([getattr(p, name) for p in points]) for name in ("params", "samples", "dev_loss", "flops")]
    law = variable_projection(Runs(*columns))
    assert (law.floor, law.alpha, law.beta) == pytest.approx((1.7, 0.34, 0.28), rel=1e-2)
    sizes = np.geomspace(1e6, 1e12, 4000)
    assert law.best(np.array([1e22]))[0] == pytest.approx(loss(sizes, 1e22 / 6 / sizes).min(), rel=1e-3)


def test_simple_laws_recover_their_own_form() -> None:
    x = np.log(FLOPS)
    line = 2.0 - 0.1 * x
    value, low, high = power(FLOPS, line + 1e-6 * np.resize([1, -1], 6), np.array([1e22]))
    assert value[0] == pytest.approx(2.0 - 0.1 * np.log(1e22), abs=1e-4)
    assert low[0] < value[0] < high[0]
    level = np.logaddexp(0.5, 9.0 - 0.2 * x)
    value, low, high = saturating(FLOPS, level, np.array([1e22]))
    assert value[0] == pytest.approx(np.logaddexp(0.5, 9.0 - 0.2 * np.log(1e22)), abs=1e-4)
    assert low[0] <= value[0] <= high[0]


def test_every_law_forecasts_every_later_budget() -> None:
    made = list(forecasts("planted", table(5), 20))
    laws = {one.law for one in made}
    assert {PLAYSCALE, "power law", "saturating law", "variable projection"} <= laws
    for law in laws:
        assert [(m.seen, round(m.decades, 1)) for m in made if m.law == law] == [(4, 0.6), (4, 1.2), (5, 0.6)]
    assert summary([m for m in made if m.law == PLAYSCALE])["error"] < 0.01


def test_laws_of_params_and_samples_forecast_each_run_of_a_scatter() -> None:
    scatter = [
        Point(flops=c, params=n, samples=c / 6 / n, dev_loss=float(loss(np.array(n), np.array(c / 6 / n))))
        for c, ratio in zip(np.geomspace(1e18, 1e21, 12), np.resize([0.3, 1.0, 3.0, 0.5], 12), strict=True)
        for n in [ratio * np.sqrt(c / 120)]
    ]
    made = list(forecasts("planted", scatter, 20))
    assert {m.seen for m in made if m.law == PLAYSCALE} == {7, 8, 9, 10, 11}
    errors = {law: summary([m for m in made if m.law == law and m.seen > 8])["error"] for law in {m.law for m in made}}
    assert errors[PLAYSCALE] < 0.01
    assert errors["variable projection"] < 0.01
    assert errors["power law"] > errors[PLAYSCALE]


def test_scores_weigh_tables_alike_and_count_intervals() -> None:
    def one(table: str, error: float, half: float) -> Made:
        return Made(table, "dev_loss", PLAYSCALE, 4, 1.0, error, -half, half)

    made = [one("a", 0.1, 0.2), one("a", 0.3, 0.2), one("b", 0.0, 0.4)]
    row = summary(made)
    assert (row["tables"], row["coverage"], row["width"]) == (2, 0.75, pytest.approx(0.6))
    assert row["interval_score"] == pytest.approx(((0.4 + 0.4 + 40 * 0.1) / 2 + 0.8) / 2)
    none = summary([one("a", 0.1, float("nan"))])
    assert np.isnan([none["coverage"], none["width"]]).all()


def test_forecasts_far_off_beside_a_good_simple_law_are_listed() -> None:
    def one(law: str, error: float, decades: float) -> Made:
        return Made("a", "return_mean", law, 4, decades, error, -1.0, 1.0, edge=True, name="bounded")

    made = [one(PLAYSCALE, 0.5, 1.0), one("power law", 0.05, 1.0), one(PLAYSCALE, 0.5, 2.0), one("power law", 0.3, 2.0)]
    (line,) = far_off(made)
    for text in ("x1.65", "inside its interval", "bounded", "from 4 budgets", "1.00 decades", "power law"):
        assert text in line


def test_simple_laws_of_returns_know_nothing_of_later_budgets() -> None:
    def returns(budgets: int, spoilt: float) -> list[Point]:
        cells = [
            (c, n) for c in np.geomspace(1e15, 1e18, 7)[:budgets] for n in np.sqrt(c / 120) * np.array([0.3, 1, 3])
        ]
        points = [
            Point(flops=c, params=n, samples=c / 6 / n, return_mean=float(-20 + (c / 1e15) ** 0.4 - i % 3 * 0.2))
            for i, (c, n) in enumerate(cells)
        ]
        return [*points[:-1], Point(**{**points[-1].__dict__, "return_mean": points[-1].return_mean - spoilt})]

    def first(points: list[Point]) -> dict[str, float]:
        """What each law forecasts of the fifth budget from four, as a return."""
        cells = make_cells(points, "return_mean")[0]
        cost = cells.cost[cells.budget == 4].min()
        made = [m for m in forecasts("planted", points, 20) if (m.target, m.seen) == ("return_mean", 4)]
        return {m.law: float(cells.value(cost - m.error)) for m in made if m.decades < 0.6}

    assert first(returns(7, 0.0)) == pytest.approx(first(returns(7, 30.0)))
