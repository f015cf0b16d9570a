"""Budgets of a table: by a column, or by the gaps between rows in compute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.budgets import find_budgets
from playscale.scaling.cells import FitError, make_cells
from playscale.scaling.fit import fit
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.warning import Code


def loss(params: float, samples: float) -> float:
    """Return a loss whose best size is about C^0.5."""
    return float(1.5 + 60 / params**0.35 + 60 / samples**0.35)


def row(flops: float, params: float, **more: Any) -> Point:
    samples = flops / 6 / params
    return Point(flops=flops, params=params, samples=samples, dev_loss=loss(params, samples), **more)


def table(budgets: np.ndarray, off: float, sizes: int = 5, seed: int = 0) -> list[Point]:
    """Return a table whose runs lie up to a share `off` from their budget."""
    rng = np.random.default_rng(seed)
    return [
        row(float(c * np.exp(rng.uniform(-off, off))), float(0.4 * c**0.5 * np.exp(a)), extra={"nominal": f"{c:.6g}"})
        for c in budgets
        for a in np.linspace(-1.5, 1.5, sizes)
    ]


@pytest.mark.parametrize(("apart", "off"), [(1.1, 0.0), (1.25, 0.02), (1.5, 0.05), (2.0, 0.07), (3.16, 0.12)])
@pytest.mark.parametrize("count", [2, 6, 14])
def test_budgets_are_found_however_far_runs_lie_from_them(apart: float, off: float, count: int) -> None:
    for seed in range(10):
        points = table(1e15 * apart ** np.arange(count), off, seed=seed)
        found = find_budgets(points)
        assert list(found.index) == [i for i in range(count) for _ in range(5)]
        assert found.clear
        assert found.spread(points) <= np.exp(2 * off) + 1e-9


def test_a_chain_of_close_runs_is_one_budget_though_its_ends_are_far_apart() -> None:
    points = [row(c * 1.04**i, 1e6 * 1.5**i) for c in (1e18, 2e18, 4e18) for i in range(7)]
    assert list(find_budgets(points).index) == [i for i in range(3) for _ in range(7)]


def test_a_scatter_and_dense_checkpoints_have_no_clear_budgets() -> None:
    rng = np.random.default_rng(0)
    scatter = [
        row(float(c), float(1e7 * rng.uniform(0.1, 10))) for c in np.exp(rng.uniform(np.log(1e18), np.log(1e22), 240))
    ]
    curves = [row(c, n) for n in (1e5, 3e5, 1e6, 3e6) for c in np.geomspace(n * 1e8, n * 1.1e10, 150)]
    for points in (scatter, curves):
        assert not find_budgets(points).clear
        cells, _ = make_cells(points, "dev_loss")
        assert not cells.isoflop
        assert set(cells.repeats) == {1}


def test_runs_off_their_budget_give_the_optimum_of_runs_on_it() -> None:
    budgets = np.geomspace(1e15, 1e18, 6)
    exact, off = (fit_profiles(make_cells(table(budgets, e, 7, 3), "dev_loss")[0].at_budgets()) for e in (0.0, 0.12))
    for one, other in zip(exact, off, strict=True):
        assert other.vertex_params == pytest.approx(one.vertex_params, rel=0.1)
        assert other.vertex_cost == pytest.approx(one.vertex_cost, abs=0.01)
        assert other.vertex_samples == pytest.approx(one.vertex_samples, rel=0.15)


def test_a_size_twice_in_a_budget_at_other_compute_is_no_repeat_and_the_nearest_counts() -> None:
    points = table(np.array([1e15, 4e15, 1.6e16]), 0.0)
    later = [row(p.flops * 1.08, p.params) for p in points[:5]]
    cells, _ = make_cells([*points, *later, points[0]], "dev_loss")
    assert sorted(cells.repeats) == [1] * 19 + [2]
    assert cells.repeat_sd == 0
    assert len(cells.at_budgets().cost) == 15
    assert len(cells.budgets) == 3


def test_runs_on_repeated_data_are_no_repeats_and_do_not_stand_for_their_size() -> None:
    points = table(np.array([1e15, 4e15, 1.6e16]), 0.0)
    again = [replace(p, dev_loss=(p.dev_loss or 0) * 1.3, extra={"epochs": "40"}) for p in points]
    corpus = [
        replace(p, dev_loss=(p.dev_loss or 0) * 1.2, extra={"corpus_samples": f"{(p.samples or 0) / 9}"})
        for p in points
    ]
    cells, _ = make_cells([*again, *corpus, *points], "dev_loss")
    assert set(cells.repeats) == {1}
    assert sorted(set(cells.epochs.round(6))) == [1, 9, 40]
    best = cells.at_budgets()
    assert best.cost == pytest.approx(make_cells(points, "dev_loss")[0].cost)


def test_a_column_names_the_budgets_and_a_bad_one_is_one_line() -> None:
    points = table(np.array([1e15, 1.2e15, 1.4e15]), 0.12)
    found = find_budgets(points, "nominal")
    assert list(found.flops) == [1e15, 1.2e15, 1.4e15]
    named = [replace(p, extra={"budget": p.extra["nominal"]}) for p in points]
    assert list(find_budgets(named).flops) == [1e15, 1.2e15, 1.4e15]
    dollars = [replace(p, extra={"budget": "100"}) for p in table(np.array([1e15, 1e16]), 0.0)]
    assert find_budgets(dollars).column is None
    for column, said, given in (
        ("nominl", "column nominl: the table has none, or it is empty; columns that may: nominal", points),
        ("flops", "column flops is compute itself and cannot name budgets; columns that may: nominal", points),
        ("budget", 'rows of the budget "100" reach from 1e\\+15 to 1e\\+16', dollars),
        ("budget", "column budget: 1 of 15 rows have none", [*named[:-1], points[-1]]),
    ):
        with pytest.raises(FitError, match=said) as error:
            fit(given, replicates=20, budget_column=column)
        assert "\n" not in str(error.value)


def test_budgets_in_other_spellings_are_the_same() -> None:
    points = table(np.array([1e15, 1.2e15, 1.4e15]), 0.0)
    spelled = [
        replace(p, extra={"budget": p.extra["nominal"] if i % 2 else f"{float(p.extra['nominal']):.0f}"})
        for i, p in enumerate(points)
    ]
    assert list(find_budgets(spelled).flops) == [1e15, 1.2e15, 1.4e15]


def test_fit_says_how_many_budgets_there_are_and_whether_the_table_is_an_isoflop_table() -> None:
    document = fit(table(np.geomspace(1e15, 1e17, 5), 0.05, seed=1), replicates=20).to_dict()
    assert document["budgets"] | {"spread": 0} == {
        "count": 5, "spread": 0, "source": "gaps", "column": None, "isoflop": True
    }  # fmt: skip
    assert 1 < document["budgets"]["spread"] < 1.11
    result = fit([row(c, 0.4 * c**0.5) for c in np.geomspace(1e15, 1e17, 9)], replicates=20)
    assert not result.to_dict()["budgets"]["isoflop"]
    assert Code.NO_ISOFLOP in {warned.code for warned in result.warnings}
