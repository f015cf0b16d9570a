"""Returns at or below zero: the offset from which they are counted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from resources import PUBLISHED

from playscale.points import Point, read_points
from playscale.report.track_record import score, track
from playscale.scaling.cells import FitError, Reason, make_cells
from playscale.scaling.fit import Fit, fit
from playscale.scaling.warning import Code

BUDGETS = np.geomspace(1e13, 1e17, 8)


def table(offset: float, ceiling: float = np.inf, noise: float = 0.0, seed: int = 0) -> list[Point]:
    """Return points of R - offset = 1/(1/ceiling + 1/(20 (C/1e13)^0.35)) at sizes around 2e-3 C^0.5."""
    rng, points = np.random.default_rng(seed), []
    for flops in BUDGETS:
        for away in (-1.5, 0.0, 1.5):
            value = np.exp(-0.2 * away**2) / (1 / ceiling + 1 / (20 * (flops / 1e13) ** 0.35))
            value *= np.exp(noise * rng.standard_normal())
            params = 2e-3 * flops**0.5 * np.exp(away)
            more: dict[str, Any] = {"params": float(params), "samples": float(flops / 6 / params)}
            points.append(Point(flops=float(flops), return_mean=float(value + offset), **more))
    return points


def quick(points: list[Point], **more: Any) -> Fit:
    return fit(points, replicates=60, **more)


def test_offset_is_zero_where_all_returns_are_positive_and_the_given_one_where_one_is() -> None:
    cells, _ = make_cells(table(5.0), "return_mean")
    assert (cells.offset, cells.offset_fitted) == (0.0, False)
    cells, left_out = make_cells(table(-21.0), "return_mean", min_return=-21.0)
    assert (cells.offset, cells.offset_fitted, left_out) == (-21.0, False, [])


@pytest.mark.parametrize(("ceiling", "noise"), [(np.inf, 0.02), (300.0, 0.02), (np.inf, 0.1)])
def test_planted_offset_is_found_without_being_given(ceiling: float, noise: float) -> None:
    found = [make_cells(table(-40.0, ceiling, noise, seed), "return_mean")[0] for seed in range(20)]
    assert all(cells.offset_fitted and len(cells.cost) == 3 * len(BUDGETS) for cells in found)
    assert np.median([cells.offset for cells in found]) == pytest.approx(-40, abs=3)


def test_values_are_in_the_unit_of_the_game_everywhere() -> None:
    shifted, plain = (
        quick(table(offset, 300.0, 0.02), forecast_flops=[1e18], target_returns=[("human", 200 + offset)],
              min_return=offset, max_return=300 + offset).to_dict()
        for offset in (-40.0, 0.0)
    )  # fmt: skip

    def values(document: dict[str, Any]) -> list[float]:
        rows = document["forecasts"] + document["track_record"] + document["curves"]["return_mean"]
        names = ("value", "low", "high", "measured", "power_value")
        found = [row[name] for row in rows for name in names if name in row]
        found += [p["argmin_value"] for p in document["profiles"]]
        return found + [one["value"] for one in document["optima"] if one["value"] is not None]

    assert np.array(values(shifted)) + 40 == pytest.approx(np.array(values(plain)), rel=1e-6)
    (reached,), (expected,) = shifted["target_returns"], plain["target_returns"]
    assert reached["flops"] == pytest.approx(expected["flops"])
    assert shifted["laws"]["return_mean"]["offset"] == -40
    assert plain["laws"]["return_mean"]["offset"] == 0
    own, other = (score(track(document, "return_mean")) for document in (shifted, plain))
    assert own is not None
    assert other is not None
    assert own.error == pytest.approx(other.error)
    ceiling, same = (d["parametric"]["return_mean"]["parameters"]["R_max"]["value"] for d in (shifted, plain))
    assert ceiling + 40 == pytest.approx(same)


@pytest.mark.slow
def test_a_fitted_offset_is_said_with_how_to_give_it_and_no_return_vanishes() -> None:
    result = quick(table(-40.0, 300.0, 0.02))
    assert not [row for row in result.excluded if row.params is not None]
    (text,) = [w.text for w in result.warnings if w.code is Code.OFFSET_FITTED]
    assert "give it as --min-return" in text


def test_mean_returns_equal_to_the_smallest_stay() -> None:
    points = [Point(flops=c, params=c**0.5, samples=c**0.5, return_mean=r) for c, r in zip(
        BUDGETS.tolist(), (0.0, 0.0, 1.0, 4.0, 10.0, 30.0, 80.0, 150.0), strict=True)]  # fmt: skip
    for given in (None, 0.0):
        cells, left_out = make_cells(points, "return_mean", min_return=given)
        assert (len(cells.cost), left_out) == (8, [])
        assert -30 < cells.offset < 0
        assert cells.value(cells.cost) == pytest.approx([p.return_mean for p in points])


@pytest.mark.slow
def test_other_rows_of_a_table_take_the_offset_of_its_fit() -> None:
    points = table(-40.0)
    ahead = [Point(**{**p.__dict__, "split": "held-out"}) for p in points[-3:]]
    low = Point(**{**ahead[0].__dict__, "flops": 3e17, "return_mean": -90.0})
    result = quick([*points[:-3], *ahead, low], min_return=-100.0)
    assert [row.measured for row in result.held_out] == pytest.approx([points[-2].return_mean, -90.0])
    result = quick([*points[:-3], *ahead, low])
    assert len(result.held_out) == 1
    assert [row.flops for row in result.excluded if row.reason is Reason.RETURN_NOT_POSITIVE] == [3e17]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"min_return": -20.0}, "the smallest return of the game is given as -20, but the table has one of"),
        ({"min_return": float("nan")}, "the smallest return: nan is not a return"),
        ({"max_return": float("inf")}, "the largest return: inf is not a return"),
    ],
)
def test_a_bound_that_cannot_be_is_one_line(settings: dict[str, float], line: str) -> None:
    with pytest.raises(FitError, match=line) as error:
        quick(table(-40.0), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_no_negative_return_of_boxing_is_left_out_for_its_sign() -> None:
    result = quick(read_points(PUBLISHED / "atari_Boxing.csv"))
    assert Reason.RETURN_NOT_POSITIVE not in {row.reason for row in result.excluded}
    json.dumps(result.to_dict(), allow_nan=False)
