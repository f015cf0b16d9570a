"""Laws of params and samples: which is chosen, and that held-out cells fall inside their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.cells import Cells, FitError, make_cells
from playscale.scaling.surface import KINDS, NEAR, TRANSLOG, WHOLE, fit_surface


def cells(noise: float, rng: np.random.Generator, budgets: int = 9) -> Cells:
    table = []
    for flops in np.geomspace(1e14, 1e18, budgets):
        for params in 2e-3 * flops**0.5 * np.geomspace(0.1, 10, 6):
            samples = flops / 6 / params
            loss = (0.3 + 30 / params**0.35 + 300 / samples**0.3) * np.exp(noise * rng.standard_normal())
            table.append(Point(flops=float(flops), params=float(params), samples=float(samples), dev_loss=float(loss)))
    return make_cells(table, "dev_loss")[0]


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


def test_without_budgets_to_backtest_on_the_parametric_law_answers() -> None:
    surface = fit_surface(cells(0.01, np.random.default_rng(0), budgets=4), np.random.default_rng(0), 30)
    assert (surface.chosen, surface.predictions) == (WHOLE, ())
    assert "too few budgets" in surface.why


def test_too_few_cells_have_no_surface() -> None:
    every = cells(0.01, np.random.default_rng(0))
    with pytest.raises(FitError, match="at least 7 cells"):
        fit_surface(every.where(np.arange(len(every.cost)) < 5), np.random.default_rng(0), 30)
