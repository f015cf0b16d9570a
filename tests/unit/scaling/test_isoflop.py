"""Cells and isoFLOP profiles: planted parabolas are found, and every exclusion has its reason."""

from __future__ import annotations

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.cells import Excluded, FitError, Reason, make_cells
from playscale.scaling.exponents import resample
from playscale.scaling.isoflop import excluded_budgets, fit_profiles, weights_of


def row(flops: float, params: float, loss: float | None = None, **more: object) -> Point:
    return Point(flops=flops, params=params, samples=flops / (6 * params), dev_loss=loss, **more)  # type: ignore[arg-type]


def parabola(flops: float, best: float, sizes: list[float], curvature: float = 0.1, least: float = 1.0) -> list[Point]:
    return [row(flops, n, least * float(np.exp(curvature * np.log(n / best) ** 2))) for n in sizes]


SIZES = [1e4, 3e4, 1e5, 3e5]


def test_a_planted_vertex_and_its_value_are_found_between_the_sizes() -> None:
    cells, excluded = make_cells(parabola(1e12, 5e4, SIZES, least=1.3), "dev_loss")
    (profile,) = fit_profiles(cells)
    assert not excluded
    assert profile.argmin_params == 3e4
    assert profile.argmin_samples == pytest.approx(1e12 / (6 * 3e4))
    assert profile.vertex_params == pytest.approx(5e4)
    assert profile.vertex_samples == pytest.approx(1e12 / (6 * 5e4))
    assert np.exp(profile.vertex_cost) == pytest.approx(1.3)
    assert profile.excluded is None


def test_the_coefficients_draw_the_parabola_in_log10() -> None:
    a, b, c = fit_profiles(make_cells(parabola(1e12, 5e4, SIZES), "dev_loss")[0])[0].coefficients or (0, 0, 0)
    x = np.log10(np.array(SIZES))
    expected = [point.dev_loss for point in parabola(1e12, 5e4, SIZES)]
    assert 10 ** (a * x**2 + b * x + c) == pytest.approx(expected)


def test_a_return_has_its_maximum_where_its_parabola_opens_downwards() -> None:
    table = [row(1e12, n, return_mean=float(200 * np.exp(-0.1 * np.log(n / 5e4) ** 2))) for n in SIZES]
    cells, excluded = make_cells(table, "return_mean")
    (profile,) = fit_profiles(cells)
    assert not excluded
    assert profile.vertex_params == pytest.approx(5e4)
    assert float(cells.value(np.array(profile.vertex_cost))) == pytest.approx(200)
    assert (profile.coefficients or (0,))[0] < 0


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (parabola(1e12, 5e6, SIZES), Reason.ABOVE_SIZES),
        (parabola(1e12, 5e2, SIZES), Reason.BELOW_SIZES),
        (parabola(1e12, 5e4, SIZES, curvature=-0.1), Reason.WRONG_CURVATURE),
        (parabola(1e12, 5e4, SIZES[:2]), Reason.FEW_CELLS),
        (parabola(1e12, 5e4, [5e4, 1e6, 1e7]), Reason.FEW_CELLS),  # two of three lie outside the window
        ([row(1e12, n, 1.0) for n in SIZES], Reason.WRONG_CURVATURE),
    ],
)
def test_a_budget_without_a_vertex_says_why_and_keeps_its_best_cell(table: list[Point], reason: Reason) -> None:
    cells, _ = make_cells(table, "dev_loss")
    profiles = fit_profiles(cells)
    assert excluded_budgets(profiles) == [Excluded("dev_loss", 1e12, None, reason)]
    assert profiles[0].vertex_params is None
    assert profiles[0].argmin_params in cells.params


def test_points_without_a_usable_value_are_excluded_with_their_reason() -> None:
    table = [
        row(1e12, n, loss, return_mean=ret)
        for n, loss, ret in zip(SIZES, [1, None, 1, 1], [5, 4, None, -3], strict=True)
    ]
    assert make_cells(table, "dev_loss")[1] == [Excluded("dev_loss", 1e12, 3e4, Reason.NO_LOSS)]
    assert make_cells(table, "return_mean", offset=0.0)[1] == [
        Excluded("return_mean", 1e12, 1e5, Reason.NO_RETURN),
        Excluded("return_mean", 1e12, 3e5, Reason.RETURN_NOT_POSITIVE),
    ]
    with pytest.raises(FitError, match="no cell has a return_mean above 0"):
        make_cells([row(1e12, 1e4, return_mean=-1.0), row(2e12, 1e4, return_mean=0.0)], "return_mean", offset=0.0)


def test_repeats_are_averaged_and_measure_the_noise() -> None:
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1e4, 1e6, 40)
    table = [row(1e12, float(n), float(np.exp(0.05 * rng.standard_normal()))) for n in sizes for _ in range(4)]
    cells, _ = make_cells(table, "dev_loss")
    assert list(cells.repeats) == [4] * 40
    assert cells.repeat_sd == pytest.approx(0.05, rel=0.2)
    first = np.log(np.mean([point.dev_loss for point in table[:4] if point.dev_loss]))
    assert cells.cost[0] == pytest.approx(first)
    assert np.isnan(make_cells(table[::4], "dev_loss")[0].repeat_sd)


def test_budgets_overshot_by_less_than_a_few_per_cent_are_one_budget() -> None:
    table = [row(1e12 * over, n, 1.0) for n, over in zip(SIZES, (1.0, 1.001, 1.01, 1.03), strict=True)]
    cells, _ = make_cells([*table, row(1.2e12, 1e4, 0.9)], "dev_loss")
    assert len(cells.budgets) == 2
    assert cells.budgets[1] == 1.2e12
    assert list(cells.params[:4]) == SIZES


def test_a_precise_cell_counts_at_most_twice_a_typical_one() -> None:
    weights = weights_of(np.array([1e-9, 0.01, 0.01, 0.01]))
    assert weights[0] / weights[1] == pytest.approx(2)
    assert list(weights_of(np.array([0.1, np.nan]))) == [1, 1]


def test_resampled_optima_surround_the_fitted_one() -> None:
    rng = np.random.default_rng(1)
    sizes = np.geomspace(1e4, 1e6, 9)
    table = [
        row(1e12, float(n), float(np.exp(0.1 * np.log(n / 1e5) ** 2 + 0.02 * rng.standard_normal()))) for n in sizes
    ]
    cells, _ = make_cells(table, "dev_loss")
    optima = resample(cells, rng, 500)
    vertex = optima["vertex"].params[:, 0]
    low, high = np.nanquantile(vertex, [0.025, 0.975])
    assert low < np.log(1e5) < high
    assert high - low < 1.0
    assert set(np.round(optima["argmin"].params[:, 0], 9)) <= set(np.round(np.log(cells.params), 9))


@pytest.mark.parametrize(
    ("runs", "clusters"),
    [
        (("", "", ""), 2),  # none named: two sizes
        (("a", "b", "c"), 3),
        (("a", "a", "a"), 2),  # a name used again for another size
        (("", "b", ""), 3),
    ],
)
def test_cells_of_one_run_or_of_one_size_where_none_is_named_are_a_cluster(
    runs: tuple[str, ...], clusters: int
) -> None:
    cells = zip(runs, ((1e12, 1e4), (1e13, 1e4), (1e13, 1e5)), strict=True)
    table = [Point(flops=c, params=n, samples=c / 6 / n, dev_loss=1.0, run=run) for run, (c, n) in cells]
    assert len(set(make_cells(table, "dev_loss")[0].cluster)) == clusters


def test_runs_that_share_a_cell_are_one_cluster() -> None:
    cells = (("a", 1e12), ("b", 1e12), ("b", 1e13))
    table = [Point(flops=c, params=1e4, samples=c / 6e4, dev_loss=1.0, run=run) for run, c in cells]
    assert make_cells(table, "dev_loss")[0].cluster.tolist() == [0, 0]
