from dataclasses import replace

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.backtest import Prediction
from playscale.scaling.choice import Record
from playscale.scaling.fit import Fit, fit
from playscale.scaling.verdict import Answer, Verdict, judge
from playscale.scaling.warning import Code


def table(budgets: int, factors: list[float], curvature: float = 0.05) -> Fit:
    """Losses with their minimum at N = sqrt(C) / 1000, at sizes that are these factors of it, and a seventh off."""
    points = []
    for i, flops in enumerate(1e13 * 4.0 ** np.arange(budgets)):
        for factor in factors:
            params = factor * flops**0.5 / 1e3 * (1.15 if i % 2 else 1.0)
            away = np.log(params / flops**0.5 * 1e3)
            loss = (0.5 + 3 * (flops / 1e13) ** -0.15) * np.exp(curvature * away**2)
            points.append(Point(flops=flops, params=params, samples=flops / 6 / params, dev_loss=loss))
    return fit(points, [1e18], replicates=40)


FIVE = [0.2, 0.5, 1.0, 2.0, 5.0]


@pytest.mark.parametrize(
    ("budgets", "factors", "level", "ground"),
    [
        (9, FIVE, Answer.YES, "9 of 9 budgets have their best size between the smallest and the largest trained"),
        (9, [0.5, 1.0, 2.0], Answer.WITH_CARE, "3 at a typical budget"),
        (4, FIVE, Answer.WITH_CARE, "no track record"),
        (9, [1.5, 3.0, 6.0, 12.0], Answer.NO, "0 of 9 budgets"),
        (9, [1.0, 2.0], Answer.WITH_CARE, "no isoFLOP table: 0 of 9 budgets have 3 sizes or more"),
    ],
)
def test_a_table_carries_a_forecast_as_far_as_its_weakest_ground(
    budgets: int, factors: list[float], level: Answer, ground: str
) -> None:
    result = table(budgets, factors)
    verdict = result.verdicts["dev_loss"]
    assert any(ground in own.text for own in verdict.grounds), verdict
    assert verdict.level is level
    assert result.to_dict()["verdicts"]["dev_loss"]["level"] == verdict.level.text


def test_a_size_outside_those_trained_is_recommended_as_not_measured() -> None:
    (forecast,) = table(5, FIVE).forecasts
    assert forecast.params is not None
    assert forecast.params > 5 * 2.56e15**0.5 / 1e3
    assert forecast.params_note == "not measured: sizes from 632 to 253k were trained"


def test_profiles_that_curve_the_wrong_way_recommend_nothing() -> None:
    result = table(6, FIVE, curvature=-0.05)
    (forecast,) = result.forecasts
    assert forecast.params is forecast.samples is forecast.params_note is None
    laws = result.to_dict()["power_laws"]
    assert not any(law["used"] for law in laws if law["quantity"] in {"params", "samples"})


@pytest.mark.parametrize(
    ("error", "count", "inside", "level"),
    [
        (3.1, 5, True, Answer.NO),
        (2.5, 5, True, Answer.WITH_CARE),
        (3.1, 4, True, Answer.WITH_CARE),
        (1.1, 5, False, Answer.NO),
    ],
)
def test_past_forecasts_that_missed_by_a_factor_3_in_the_median_carry_none(
    error: float, count: int, inside: bool, level: Answer
) -> None:
    assert _judged(error, count, inside).level is level


def test_the_verdict_says_that_forecasts_as_far_ahead_mostly_failed() -> None:
    first = _judged(1.1, 5, False).grounds[0]
    assert first.level is Answer.WITH_CARE
    assert first.text.startswith("0 of 5 past forecasts 1 to 2 decades ahead, the furthest tested, inside their 95 %")
    assert "past forecasts 1 to 2" not in _judged(1.1, 5, True).grounds[0].text


def test_misses_of_returns_say_from_where_these_are_counted() -> None:
    result = table(9, FIVE).targets["dev_loss"]
    own = Prediction("power", 1e13, 1e14, 0.1, -1.0, 1.0)
    record = replace(result.choice, record=(Record(own, None),))
    for offset, said in ((-21.0, " of the return above \N{MINUS SIGN}21.0"), (0.0, "")):
        found = judge(replace(result, choice=record, cells=replace(result.cells, offset=offset)), [])
        assert [ground.text for ground in found.grounds if ground.text.endswith(f"median miss 11%{said}")]


def _judged(error: float, count: int, inside: bool) -> Verdict:
    """Judge a good table with past forecasts 1.5 decades ahead off by a factor, at a forecast further ahead."""
    result = table(9, FIVE).targets["dev_loss"]
    half = 2.0 if inside else 0.01
    own = Prediction("power", 1e13, 10**14.5, float(np.log(error)), -half, half)
    choice = replace(result.choice, record=(Record(own, None),) * count)
    return judge(replace(result, choice=choice), [], [1e20])


def test_a_scatter_is_told_why_it_is_no_isoflop_table_and_has_no_track_record() -> None:
    points = [
        Point(flops=6 * n * d, params=n, samples=d, dev_loss=0.5 + 9 * n**-0.3 + 9 * d**-0.3)
        for n, d in np.exp(np.random.default_rng(0).uniform(np.log([1e4, 1e6]), np.log([1e6, 1e8]), (60, 2)))
    ]
    result = fit(points, replicates=40)
    assert not result.budgets["isoflop"]
    (warned,) = (w.text for w in result.warnings if w.code is Code.NO_ISOFLOP)
    texts = [ground.text for ground in result.verdicts["dev_loss"].grounds]
    for text in (warned, texts[0]):
        assert "no isoFLOP table: its runs are at no separate budgets" in text
    assert any(text.startswith("no track record: it is of the best cells of budgets") for text in texts)


@pytest.mark.parametrize("sizes", [5, 2])
def test_values_that_are_all_equal_recommend_no_size(sizes: int) -> None:
    points = [
        Point(flops=c, params=n, samples=c / 6 / n, dev_loss=2.5)
        for c in 1e13 * 4.0 ** np.arange(6)
        for n in np.geomspace(1e3, 1e5, sizes)
    ]
    result = fit(points, [1e18], replicates=20)
    (forecast,) = result.forecasts
    assert forecast.params is forecast.samples is None
    assert result.verdicts["dev_loss"].level is Answer.NO
