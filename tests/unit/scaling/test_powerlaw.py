"""Power laws: planted ones, their intervals' coverage, and the published tables' exponents to the printed digits."""

from __future__ import annotations

import numpy as np
import pytest
from resources import PUBLISHED

from playscale.points import read_points
from playscale.scaling.cells import FitError, make_cells
from playscale.scaling.exponents import RETURN_OF_LOSS, fit_exponents, fit_return_of_loss, used_laws
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.powerlaw import fit_power_law, interval, slopes


def test_a_planted_power_law_is_recovered_exactly() -> None:
    x = np.geomspace(1e10, 1e14, 5)
    law = fit_power_law(np.log(x), np.log(3.5 * x**-0.07))
    assert law.exponent == pytest.approx(-0.07)
    assert law.coefficient == pytest.approx(3.5)
    assert law.r2 == pytest.approx(1)
    assert law.at(1e15) == pytest.approx(3.5 * 1e15**-0.07)
    assert law.low == pytest.approx(-0.07)
    assert law.n == 5


def test_the_t_interval_covers_95_per_cent() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 3, 4)
    laws = [fit_power_law(x, 0.5 * x + 0.1 * rng.standard_normal(4)) for _ in range(600)]
    covered = np.mean([law.low < 0.5 < law.high for law in laws])  # type: ignore[operator]
    assert 0.93 < covered < 0.97


def test_two_points_give_a_law_without_an_interval_and_one_gives_none() -> None:
    law = fit_power_law(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    assert (law.exponent, law.low, law.high) == (1.0, None, None)
    with pytest.raises(FitError, match="at least 2 points"):
        fit_power_law(np.array([0.0, 1.0]), np.array([2.0, np.nan]))
    with pytest.raises(FitError, match="at least 2 points"):
        fit_power_law(np.array([1.0, 1.0]), np.array([2.0, 3.0]))


def test_a_constant_has_exponent_zero_and_no_r2() -> None:
    law = fit_power_law(np.arange(4.0), np.full(4, 2.0))
    assert (law.exponent, law.r2) == (0.0, None)


def test_slopes_of_many_equal_the_law_of_each() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 50, 6))
    y[rng.random(y.shape) < 0.3] = np.nan
    for slope, one_x, one_y in zip(slopes(x, y), x, y, strict=True):
        if np.isfinite(one_y).sum() < 2:
            assert np.isnan(slope)
        else:
            assert slope == pytest.approx(fit_power_law(one_x, one_y).exponent)


def test_an_interval_of_mostly_missing_draws_is_none() -> None:
    assert interval(np.array([np.nan] * 60 + [1.0] * 40)) == (None, None)
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))


# A plain line through the best cell of each budget, computed independently (the tables' README).
CHECKED = {
    ("nethack_isoflop", 1e14): (0.605, 0.395, -0.172, 0.340, 0.540),
    ("nethack_isoflop", 1e16): (0.677, 0.323, -0.115, 0.159, 0.702),
    ("atari_BankHeist", 0.0): (0.427, 0.640, -0.377, 0.340, 0.401),
    ("atari_BattleZone", 0.0): (0.413, 0.652, -0.154, 0.257, 0.147),
    ("atari_Boxing", 0.0): (0.428, 0.637, -0.201, 0.314, 0.489),
    ("atari_Breakout", 0.0): (0.727, 0.453, -0.260, 0.234, 0.238),
}


@pytest.mark.parametrize(("table", "least"), CHECKED)
def test_the_published_tables_give_the_independently_computed_exponents(table: str, least: float) -> None:
    points = [point for point in read_points(PUBLISHED / f"{table}.csv") if point.flops >= least]
    found = {}
    for target in ("dev_loss", "return_mean"):
        cells, _ = make_cells(points, target, offset=0.0)
        rows = fit_exponents(cells, fit_profiles(cells), np.random.default_rng(0), 50)
        found |= {(target, row.quantity): row.law.exponent for row in rows if row.at == "argmin"}
    exponents = (
        found["dev_loss", "params"], found["dev_loss", "samples"], found["dev_loss", "dev_loss"],
        found["return_mean", "return_mean"], found["return_mean", "params"],
    )  # fmt: skip
    # One unit of the last printed digit: the table there is rounded, and one of its entries (0.2575) is on the edge.
    assert exponents == pytest.approx(CHECKED[table, least], abs=0.00100)


def test_return_against_loss_and_bootstrap_intervals_on_nethack() -> None:
    points = read_points(PUBLISHED / "nethack_isoflop.csv")
    both = []
    for target in ("dev_loss", "return_mean"):
        cells, _ = make_cells(points, target, offset=0.0)
        both.append((cells, fit_profiles(cells)))
    rows = fit_return_of_loss(*both, np.random.default_rng(0), 200)
    assert [row.quantity for row in rows] == [RETURN_OF_LOSS] * 2
    assert all(-3 < row.law.exponent < -1.5 for row in rows)
    exponents = fit_exponents(*both[0], np.random.default_rng(0), 300)
    for row in exponents:
        assert row.law.boot_low is not None
        assert row.law.boot_high is not None
        assert row.law.boot_low < row.law.boot_high
    assert used_laws(exponents, "dev_loss", len(both[0][0].budgets))["params"].at == "vertex"
