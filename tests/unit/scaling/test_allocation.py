"""Optima by several laws: where they disagree, and where parabolas misplace them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.allocation import Optimum, bias_warning, disagreement, optima, vertex_bias
from playscale.scaling.cells import Cells, make_cells
from playscale.scaling.fit import fit
from playscale.scaling.numbers import count
from playscale.scaling.surface import TRANSLOG, Surface, fit_surface
from playscale.scaling.warning import Code


def cells(alpha: float, beta: float, budgets: int = 4) -> Cells:
    """Return cells without noise at 7 sizes within a factor 10 of the best one, L = 1 + N^-alpha + D^-beta."""
    table = []
    for flops in np.geomspace(1e14, 1e17, budgets):
        # alpha N^-alpha = beta D^-beta
        best = np.exp((np.log(alpha / beta) + beta * np.log(flops / 6)) / (alpha + beta))
        for params in best * np.geomspace(0.1, 10, 7):
            samples = flops / 6 / params
            loss = float(1 + params**-alpha + samples**-beta)
            table.append(Point(flops=float(flops), params=float(params), samples=float(samples), dev_loss=loss))
    return make_cells(table, "dev_loss")[0]


def fitted(of: Cells) -> Surface:
    return fit_surface(of, np.random.default_rng(0), 20)


def test_a_parabola_misplaces_the_best_size_of_an_asymmetric_surface() -> None:
    skew = cells(0.465, 0.155)
    bias = vertex_bias(skew, fitted(skew))
    assert len(bias) == 4
    # symmetric sampling, alpha / beta = 3: the factor is in closed form, the same at all budgets
    w = np.log(10) * np.linspace(-1, 1, 7)
    cost = np.exp(-0.465 * w) / 3 + np.exp(0.155 * w)
    a, b, _ = np.polyfit(w, cost, 2)
    assert list(bias.values()) == pytest.approx([np.exp(-b / (2 * a))] * 4, rel=0.02)
    assert np.exp(-b / (2 * a)) > 1.1
    (warned,) = bias_warning("dev_loss", bias)
    assert warned.code is Code.VERTEX_BIASED
    even = cells(0.3, 0.3)
    assert list(vertex_bias(even, fitted(even)).values()) == pytest.approx([1.0] * 4, rel=0.02)
    assert bias_warning("dev_loss", vertex_bias(even, fitted(even))) == []


def test_without_a_law_there_is_no_bias() -> None:
    assert vertex_bias(cells(0.3, 0.3), None) == {}
    assert bias_warning("dev_loss", {}) == []


def test_the_translog_law_recommends_nothing_beyond_the_largest_budget() -> None:
    table = cells(0.3, 0.3)
    methods = {(row.flops, row.method) for row in optima(table, [], fitted(table), [1e17, 1e18])}
    assert (1e17, TRANSLOG) in methods
    assert (1e18, TRANSLOG) not in methods
    assert (1e18, "parametric") in methods


@pytest.mark.parametrize(("factor", "count"), [(1.4, 0), (1.6, 1)])
def test_laws_that_differ_by_more_than_half_in_the_best_size_are_named_with_both(factor: float, count: int) -> None:
    rows = [
        Optimum("dev_loss", method, flops, params, None, None)
        for flops in (1e18, 1e19)
        for method, params in (("argmin", 2e6), ("vertex", 2e6 * factor), ("translog, window", 1e9))
    ]
    found = disagreement(rows, {("dev_loss", 1e18): 2.5e6})
    assert [warned.code for warned in found] == [Code.LAWS_DISAGREE] * count
    if found:
        assert "2M by the best cells, 3.2M by the vertices (and at 1 more budget); recommended is 2.5M" in found[0].text
        assert "(and at 1 more budget); none is recommended;" in disagreement(rows, {})[0].text


def test_a_budget_at_which_only_the_translog_law_has_an_optimum_has_no_disagreement() -> None:
    assert disagreement([Optimum("dev_loss", TRANSLOG, 1e18, 2e6, None, None)], {}) == []


def test_fit_warns_of_laws_that_disagree() -> None:
    # profiles of 3 sizes that do not reach the best one: the best cell is the largest at every budget
    points = [
        Point(flops=c, params=n, samples=c / 6 / n, dev_loss=1 + n**-0.3 + (c / 6 / n) ** -0.3)
        for c in np.geomspace(1e14, 1e16, 4).tolist()
        for n in (1e4, 2e4, 4e4)
    ]
    result = fit(points, [1e18], replicates=20)
    (warned,) = [w for w in result.warnings if w.code is Code.LAWS_DISAGREE]
    assert "40k by the best cells" in warned.text
    assert "by the law of params and samples" in warned.text
    assert f"; recommended is {count(result.forecasts[0].params)};" in warned.text


def test_best_cells_between_other_sizes_have_an_exponent_of_their_own() -> None:
    points = []
    for i, flops in enumerate(10.0 ** np.arange(15, 21)):
        best = 1e6 * (flops / 1e15) ** 0.5
        for factor in (0.3, 1.0, 3.0) if i < 4 else (3.0, 10.0, 30.0):
            loss = 5 * flops**-0.05 * math.exp(0.02 * math.log(factor) ** 2)
            points.append(Point(flops=flops, params=best * factor, samples=flops / 6 / best / factor, dev_loss=loss))
    rows = {(r.method, r.quantity): r.exponent for r in fit(points, replicates=20).optimal_exponents}
    assert rows["argmin, inner", "params"] == pytest.approx(0.5, abs=1e-6)
    assert rows["argmin, inner", "samples"] == pytest.approx(0.5, abs=1e-6)
    assert rows["argmin", "params"] > 0.55
