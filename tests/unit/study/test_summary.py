"""The five lines at the end of a study."""

from dataclasses import replace

import pytest
from report_study import BUDGETS, HELD_OUT, make_fit, make_points

from playscale.study.summary import summary


@pytest.fixture(scope="module")
def study():
    nominal = (*BUDGETS, HELD_OUT)
    points = [
        replace(point, method="bc", flops=min(nominal, key=lambda budget: abs(budget - point.flops)))
        for point in make_points()
    ]
    return points, make_fit(points)


def lines(points, fit):
    return summary(points, fit, "out/report.html", "playscale study forecast")


def test_a_study_is_told_in_five_lines(study):
    told = lines(*study)
    assert [*told] == ["trained", "law", "forecast", "report", "next"]
    assert told["trained"] == (
        "25 agents by behavioural cloning, 5 sizes from 10.2k to 1.01M parameters, "
        "5 budgets from 3e+10 to 3e+12 FLOPs, 32 episodes each"
    )
    assert told["law"].startswith("with compute C the best dev_loss goes as C^")
    assert "the best agent's parameters as C^0." in told["law"]
    loss, reached = told["forecast"].split("; ")
    assert loss.startswith("dev_loss 1.")
    assert loss.endswith(": inside")
    assert "return_mean" in reached
    assert (told["report"], told["next"]) == ("out/report.html", "playscale study forecast")


def test_without_a_held_out_budget_the_forecast_is_one_that_is_not_trained(study):
    points = [point for point in study[0] if point.split == "fit"]
    assert "FLOPs, not trained" in lines(points, make_fit(points))["forecast"]


def test_a_study_that_has_no_laws_says_so(study):
    points, fit = study
    told = lines(points, fit | {"laws": {}, "held_out": [], "forecasts": []})
    assert told["law"] == told["forecast"] == "none: see the warnings above"


def test_each_method_has_its_laws(study):
    _, fit = study
    told = lines(study[0], {"methods": {"bc": fit, "impala": fit}, "failed": {}})
    assert told["law"].startswith("bc: with compute C")
    assert "; impala: with compute C" in told["law"]
