"""The second-order law: planted terms, its optimum, the delta method against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.cells import Cells, FitError, make_cells
from playscale.scaling.translog import TERMS, fit_translog

BETA = {"n": -0.12, "d": -0.15, "n^2": 0.015, "d^2": 0.012, "n d": -0.004}
# Along C = 6 N D the best N grows as C^SHARE: d/dn of the cost is zero.
SHARE = (2 * 0.012 + 0.004) / (2 * (0.015 + 0.004 + 0.012))


def cost(params: float, samples: float) -> float:
    n, d = np.log(params / 1e6), np.log(samples / 1e9)
    return float(-0.5 - 0.12 * n - 0.15 * d + 0.015 * n * n + 0.012 * d * d - 0.004 * n * d)


def cells(noise: float = 0.0, seed: int = 0, curvature: float = 1.0) -> Cells:
    rng, table = np.random.default_rng(seed), []
    for flops in np.geomspace(1e14, 1e18, 8):
        for params in 2e-3 * flops**0.5 * np.geomspace(0.1, 10, 6):
            samples = flops / 6 / params
            loss = float(np.exp(curvature * cost(params, samples) + noise * rng.standard_normal()))
            table.append(Point(flops=float(flops), params=float(params), samples=float(samples), dev_loss=loss))
    return make_cells(table, "dev_loss")[0]


def test_planted_terms_are_recovered() -> None:
    law = fit_translog(cells(), 0)
    n0, d0 = law.centre[0] - np.log(1e6), law.centre[1] - np.log(1e9)
    found = dict(zip(TERMS, law.beta, strict=True))
    for name in ("n^2", "d^2", "n d"):
        assert found[name] == pytest.approx(BETA[name], abs=1e-8)
    assert found["n"] == pytest.approx(-0.12 + 2 * 0.015 * n0 - 0.004 * d0, abs=1e-8)
    assert law.cost(np.array([3e6]), np.array([2e9]))[0] == pytest.approx(cost(3e6, 2e9), abs=1e-8)


def test_the_optimum_is_the_least_cost_on_the_budget_and_grows_by_its_exponent() -> None:
    law = fit_translog(cells(), 0)
    best = law.optimum(6e16)
    assert best is not None
    sizes = np.geomspace(1e4, 1e8, 40_000)
    assert best[0] == pytest.approx(sizes[np.argmin([cost(n, 1e16 / n) for n in sizes])], rel=1e-3)
    assert 6 * best[0] * best[1] == pytest.approx(6e16, rel=1e-6)
    further = law.optimum(6e17)
    exponents = law.exponents()
    assert further is not None
    assert exponents is not None
    assert np.log10(further[0] / best[0]) == pytest.approx(SHARE, abs=1e-6)
    assert exponents["params"][0] == pytest.approx(SHARE, abs=1e-6)
    assert exponents["samples"][0] == pytest.approx(1 - SHARE, abs=1e-6)


def test_the_delta_method_covers_the_planted_exponent_and_new_cells_fall_inside() -> None:
    inside, held = [], []
    for seed in range(60):
        law = fit_translog(cells(0.02, seed), 400)
        found = law.exponents()
        assert found is not None
        inside.append(found["params"][1] <= SHARE <= found["params"][2])
        rng = np.random.default_rng(seed + 1000)
        low, high = np.quantile(law.draw(np.array([5e6]), np.array([1e10]), rng)[:, 0], [0.025, 0.975])
        held.append(low <= cost(5e6, 1e10) + 0.02 * rng.standard_normal() <= high)
    assert 0.88 <= np.mean(inside) <= 1
    assert np.mean(held) >= 0.88


def test_a_law_without_a_minimum_along_the_budget_has_no_optimum() -> None:
    law = fit_translog(cells(curvature=-1.0), 0)
    assert law.optimum(1e16) is None
    assert law.exponents() is None


def test_too_few_cells_or_a_single_line_of_them_are_refused() -> None:
    every = cells()
    with pytest.raises(FitError, match="at least 8 cells; there are 7"):
        fit_translog(every.where(np.arange(len(every.cost)) < 7), 0)
    line = [Point(flops=6e6 * n, params=n, samples=1e6, dev_loss=1 / n) for n in np.geomspace(1, 10, 9)]
    with pytest.raises(FitError, match="vary apart"):
        fit_translog(make_cells(line, "dev_loss")[0], 0)
