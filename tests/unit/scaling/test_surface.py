"""Laws of params and samples: which is chosen, and that held-out cells fall inside their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.cells import Cells, FitError, make_cells
from playscale.scaling.surface import KINDS, NEAR, TRANSLOG, WHOLE, fit_surface, repeated_warning
from playscale.scaling.warning import Code


def cells(noise: float, rng: np.random.Generator, budgets: int = 9) -> Cells:
    table = []
    for flops in np.geomspace(1e14, 1e18, budgets):
        for params in 2e-3 * flops**0.5 * np.geomspace(0.1, 10, 6):
            samples = flops / 6 / params
            loss = (0.3 + 30 / params**0.35 + 300 / samples**0.3) * np.exp(noise * rng.standard_normal())
            table.append(Point(flops=float(flops), params=float(params), samples=float(samples), dev_loss=float(loss)))
    return make_cells(table, "dev_loss")[0]


@pytest.mark.slow
def test_the_planted_parametric_law_backtests_best_and_covers_a_new_cell() -> None:
    chosen, inside = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        surface = fit_surface(cells(0.01, rng), rng, 60)
        assert set(surface.laws) == set(KINDS)
        chosen.append(surface.chosen)
        params, samples = 3e7, 2e10
        cost, low, high = surface.predict(params, samples, rng, 0.0)
        measured = np.log(0.3 + 30 / params**0.35 + 300 / samples**0.3) + 0.01 * rng.standard_normal()
        assert low <= cost <= high
        inside.append(low <= measured <= high)
        assert surface.flops(params, samples) == pytest.approx(6 * params * samples, rel=1e-6)
    assert sum(name in (WHOLE, NEAR) for name in chosen) >= 6
    assert TRANSLOG not in chosen[:1]
    assert np.mean(inside) >= 0.85


def test_its_predictions_are_of_later_budgets_from_earlier_ones() -> None:
    surface = fit_surface(cells(0.01, np.random.default_rng(0)), np.random.default_rng(0), 30)
    assert {p.name for p in surface.predictions} == set(KINDS)
    assert all(p.flops > p.from_flops and p.low <= 0 <= p.high for p in surface.predictions)


def repeated(rng: np.random.Generator) -> list[Point]:
    """A law of the fresh samples that repeated ones are worth; with more than 17 passes, losses rise."""
    table = []
    for unique in np.geomspace(1e7, 1e9, 6):
        for params in np.geomspace(1e6, 1e9, 6):
            for epochs in (1, 2, 4, 8, 16, 64, 256):
                fresh = unique * (1 + 15.39 * (1 - np.exp(-(epochs - 1) / 15.39)))
                loss = 0.5 + 20 / params**0.3 + 200 / fresh**0.3 + max(epochs / 16 - 1, 0.0) * 0.1
                table.append(
                    Point(
                        flops=6 * params * unique * epochs,
                        params=params,
                        samples=unique * epochs,
                        dev_loss=float(loss * np.exp(0.002 * rng.standard_normal())),
                        extra={"epochs": str(epochs)},
                    )
                )
    return table


def test_repeated_data_count_for_what_they_are_worth_and_overfitted_cells_not_at_all() -> None:
    rng = np.random.default_rng(0)
    surface = fit_surface(make_cells(repeated(rng), "dev_loss")[0], rng, 60)
    exponents = surface.laws[WHOLE].parameters()
    assert (exponents["alpha"].value, exponents["beta"].value) == pytest.approx((0.3, 0.3), abs=0.01)
    cost, low, high = surface.predict(1e9, 2e10, rng, 0.0)
    assert cost == pytest.approx(np.log(0.5 + 20 / 1e9**0.3 + 200 / 2e10**0.3), abs=0.01)
    assert low < cost < high < low + 0.05
    assert "72 cells with more than 16 passes over their data are left out" in surface.why


@pytest.mark.slow
def test_warning_says_what_repeated_data_do_to_a_law() -> None:
    table = repeated(np.random.default_rng(0))
    few = [p for i, p in enumerate(table) if i % 14 == 0 or int(p.extra["epochs"]) > 16]
    for points, said in ((table, "72 of 252 cells have more than 16 passes"), (few, "fewer than 20 have at most 16")):
        cells = make_cells(points, "dev_loss")[0]
        warned = repeated_warning(cells, fit_surface(cells, np.random.default_rng(0), 20), cells)
        assert {w.code for w in warned} == {Code.REPEATED_DATA}
        assert said in warned[0].text
    fresh = make_cells([p for p in table if p.extra["epochs"] == "1"], "dev_loss")[0]
    assert not repeated_warning(fresh, fit_surface(fresh, np.random.default_rng(0), 20), fresh)


def test_warning_names_the_budgets_whose_best_cell_overfits() -> None:
    every = cells(0.0, np.random.default_rng(0))
    worn = replace(every, epochs=np.where(every.budget >= 7, 100.0, 1.0))
    warned = repeated_warning(worn, None, worn)
    assert [w.text.startswith("dev_loss: the best cells of 2 budgets (the last: 3.16e+17, 1e+18") for w in warned] == [
        True
    ]


def test_law_over_all_cells_shares_the_intervals_of_a_local_one() -> None:
    every = cells(0.01, np.random.default_rng(0))
    curved = replace(every, cost=every.cost + 0.02 * np.log(every.samples / 1e9) ** 2)
    surface = fit_surface(curved, np.random.default_rng(0), 30)
    assert surface.chosen == TRANSLOG
    assert WHOLE in surface.sharing


def test_without_budgets_to_backtest_on_the_parametric_law_answers() -> None:
    surface = fit_surface(cells(0.01, np.random.default_rng(0), budgets=4), np.random.default_rng(0), 30)
    assert (surface.chosen, surface.sharing, surface.predictions) == (WHOLE, (NEAR, TRANSLOG), ())
    assert "too few budgets" in surface.why


def test_too_few_cells_have_no_surface() -> None:
    every = cells(0.01, np.random.default_rng(0))
    with pytest.raises(FitError, match="at least 7 cells"):
        fit_surface(every.where(np.arange(len(every.cost)) < 5), np.random.default_rng(0), 30)
