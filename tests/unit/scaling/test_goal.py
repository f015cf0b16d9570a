"""The compute at which a return is reached, and what compute costs on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from playscale.cli.console import _target_returns
from playscale.points import Point
from playscale.report.evidence import Evidence
from playscale.report.headline import goals
from playscale.scaling.cells import FitError
from playscale.scaling.fit import Fit, fit
from playscale.scaling.goal import reach
from playscale.scaling.gpu import GPUS, hardware
from playscale.scaling.numbers import budget

BUDGETS = np.geomspace(1e13, 1e16, 10)


def study(ceiling: float, noise: float = 0.02, seed: int = 0, **settings: object) -> Fit:
    """R = 1 / (1/ceiling + 1/(10 (C/1e13)^0.5)) at the best size 2e-3 C^0.5, worse by a parabola beside it."""
    rng, table = np.random.default_rng(seed), []
    for flops in BUDGETS:
        for away in (-2.0, -1.0, 0.0, 1.0, 2.0):
            params = 2e-3 * flops**0.5 * np.exp(away)
            value = 1 / (1 / ceiling + 1 / (10 * (flops / 1e13) ** 0.5)) * np.exp(-0.05 * away**2)
            value *= np.exp(noise * rng.standard_normal())
            point = Point(
                flops=float(flops), params=float(params), samples=float(flops / 6 / params), return_mean=float(value)
            )
            table.append(point)
    return fit(table, replicates=100, **settings)  # type: ignore[arg-type]


def where(value: float, ceiling: float) -> float:
    """The planted law's own compute at a return."""
    return float(1e13 * ((1 / (1 / value - 1 / ceiling)) / 10) ** 2)


@pytest.mark.slow
def test_the_compute_of_a_return_lies_in_its_interval_and_is_recommended_a_size() -> None:
    inside = []
    for seed in range(20):
        goal, seen = study(2000, seed=seed, target_returns=[("human", 600.0), ("", 50.0)]).target_returns
        truth = where(600, 2000)
        assert goal.flops is not None
        assert goal.low is not None
        inside.append(goal.low <= truth and (goal.high is None or truth <= goal.high))
        assert goal.params == pytest.approx(2e-3 * goal.flops**0.5, rel=0.5)
        assert "human" in goal.text
        assert "times the largest fitted budget" in goal.text
        assert seen.flops == pytest.approx(where(50, 2000), rel=0.3)
        assert "times the largest" not in seen.text
    assert np.mean(inside) >= 0.9


@pytest.mark.slow
def test_a_return_below_that_of_the_smallest_budget_is_reached_there_and_has_no_lower_end() -> None:
    result = study(2000, noise=0.1)
    forecaster = result.targets["return_mean"].forecaster
    first, last = forecaster.choice.law.first, forecaster.choice.law.last
    returns = [forecaster.value(float(cost)) for cost in forecaster.choice.law.cost(np.array([first, last]))]
    sought = [0.05 * returns[0], 0.98 * returns[0], 1.02 * returns[0], 1.02 * returns[1]]
    low, near, above, far = (reach("", value, forecaster, np.random.default_rng(0)) for value in sought)
    text = f" is reached at the smallest budget fitted, {first:.2g} FLOPs"
    assert low.text.endswith(text)
    assert near.text.endswith(f"{text} (95 %: at {near.high:.2g} or less)")
    assert "(95 %: no lower end to " in above.text
    assert [goal.at_smallest for goal in (low, near, above, far)] == [True, True, False, False]
    assert {(goal.low, goal.params_low, goal.samples_low) for goal in (low, near, above)} == {(None, None, None)}
    assert far.flops is not None
    assert far.low is not None
    assert far.low < last < far.flops
    fit = result.to_dict() | {"target_returns": [goal.__dict__ for goal in (low, near, above)]}
    assert [*_target_returns(fit).columns[2].cells] == [
        f"at the smallest budget fitted, {first:.2g}",
        f"at the smallest budget fitted, {first:.2g} (95 %: up to {near.high:.2g})",
        f"{above.flops:.2g} (no end to {above.high:.2g})",
    ]
    page = goals(Evidence.of(fit, result.points))
    assert f">at the smallest budget fitted, <b>{budget(first)}</b></td>" in page
    assert f"<small> no lower end to {budget(above.high)}</small>" in page


def test_a_return_above_the_ceiling_is_not_reached_and_says_so() -> None:
    (goal,) = study(100, target_returns=[("human", 1000.0)]).target_returns
    assert (goal.flops, goal.params) == (None, None)
    assert "not reached under this law, which gives" in goal.text
    assert "a power law without a ceiling would reach it at" in goal.text


@pytest.mark.slow
def test_the_experts_return_is_a_goal_and_a_bound() -> None:
    result = study(300, expert_return=300.0)
    assert [goal.name for goal in result.target_returns] == ["the expert"]
    assert any("expert" in row.form for row in result.backtest)
    assert not any("expert" in row.form for row in study(300, expert_return=20.0).backtest)  # already surpassed


def test_a_target_return_without_a_logarithm_is_refused_before_anything_is_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("playscale.scaling.fit.fit_targets", None)
    with pytest.raises(FitError, match="x: a return of -1 has no logarithm; give one above zero"):
        study(300, target_returns=[("x", -1.0)])


def test_hours_and_energy_are_flops_over_the_reached_rate() -> None:
    h100 = hardware("H100", 0.5)
    assert h100.hours(989e12 * 0.5 * 3600) == pytest.approx(1)
    assert h100.energy(989e12 * 0.5 * 3600 * 10) == pytest.approx(7.0)
    row = study(300, forecast_flops=[1e18], hardware=h100).to_dict()["forecasts"][0]
    assert row["gpu_hours"] == pytest.approx(1e18 / (989e12 * 0.5) / 3600)
    assert study(300, forecast_flops=[1e18]).to_dict()["forecasts"][0]["gpu_hours"] is None


def test_an_unknown_gpu_or_an_impossible_utilisation_is_one_line() -> None:
    with pytest.raises(ValueError, match=f"known are {', '.join(GPUS)}"):
        hardware("h900", 0.3)
    for share in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match="share of the peak"):
            hardware("h100", share)
