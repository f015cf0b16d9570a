"""The cost of a size that is off, and the best size when inference counts: planted laws and their closed forms."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from playscale.agents.flops import BACKWARD
from playscale.points import Point
from playscale.scaling.cells import FitError
from playscale.scaling.fit import Fit, fit
from playscale.scaling.inference_cost import FORWARD_SHARE, NONE_AFFORDED, no_inference
from playscale.scaling.lowest import lowest
from playscale.scaling.off_size import PROFILES
from playscale.scaling.surface import WHOLE

E, A, ALPHA, B, BETA = 1.69, 406.4, 0.34, 410.7, 0.28
AHEAD = 1e22


def loss(params: float, samples: float) -> float:
    return E + A / params**ALPHA + B / samples**BETA


def best(flops: float, inference: float = 0.0) -> float:
    """Return the size of least loss that pays 6 N D for training and 2 N for each sample of inference."""

    def value(log_params: float) -> float:
        params = np.exp(log_params)
        samples = (flops - 2 * params * inference) / 6 / params
        return loss(params, samples) if samples > 0 else 1e3 + log_params

    return float(np.exp(minimize_scalar(value, bounds=(np.log(1e7), np.log(1e12)), method="bounded").x))


@pytest.fixture(scope="module")
def result() -> Fit:
    rng, table = np.random.default_rng(0), []
    for flops in np.geomspace(1e18, 1e21, 6):
        for params in best(flops) * np.geomspace(0.1, 10, 7):
            value = loss(params, flops / 6 / params) * np.exp(0.002 * rng.standard_normal())
            table.append(
                Point(
                    flops=float(flops), params=float(params), samples=float(flops / 6 / params), dev_loss=float(value)
                )
            )
    return fit(table, [AHEAD], inference_samples=[1e12, 1e15], corpus_samples=[1e9], replicates=100)


def test_half_and_twice_the_best_size_lose_what_the_planted_law_says(result: Fit) -> None:
    size = best(AHEAD)
    whole = loss(size, AHEAD / 6 / size)
    found = {(row.method, row.factor): row for row in result.off_sizes}
    assert result.to_dict()["repetition"] == {}
    assert set(found) == {(method, factor) for method in (WHOLE, PROFILES) for factor in (0.5, 2.0)}
    for (method, factor), row in found.items():
        truth = loss(factor * size, AHEAD / 6 / size / factor) / whole - 1
        wider = 1 if method == WHOLE else 1.5  # a profile is no parabola, nor its curvature a power law
        assert row.worse_low / wider < truth < row.worse_high * wider
        assert row.worse == pytest.approx(truth, rel=0.5)
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.value < row.high
        forecast = result.forecasts[0]
        assert row.value == pytest.approx(forecast.value * (1 + row.worse))
        assert row.params == pytest.approx(factor * forecast.params)


def test_inference_makes_the_best_size_smaller_as_a_search_finds_it(result: Fit) -> None:
    row = result.inference[0]
    truth = best(AHEAD, 1e12)
    assert truth < 0.8 * best(AHEAD)
    assert row.params_low < truth < row.params_high
    assert row.params == pytest.approx(truth, rel=0.2)
    assert row.training_flops + row.inference_flops == pytest.approx(AHEAD)
    assert row.inference_flops == pytest.approx(2 * row.params * 1e12, rel=0.01)
    assert row.params * row.samples * 6 == pytest.approx(row.training_flops, rel=0.01)
    assert row.plain_params == pytest.approx(best(AHEAD), rel=0.3)
    assert row.plain_value is None or row.value < row.plain_value


def test_inference_that_no_size_can_afford_is_said(result: Fit) -> None:
    row = result.inference[1]
    assert row.reason == NONE_AFFORDED
    assert row.params is None
    assert row.plain_value is None


def test_what_was_asked_and_cannot_be_given_is_said(result: Fit) -> None:
    texts = [warned.text for warned in result.warnings]
    assert any(text.startswith("dev_loss: no best size on a limited corpus: no data of this table") for text in texts)
    assert not any("no best size with inference" in text for text in texts)
    (warned,) = no_inference(result.targets, [1e9], [])
    assert warned.text.startswith("dev_loss: no best size with inference: it takes a law of params and samples")
    assert no_inference(result.targets, [], []) == []


def test_draws_beyond_what_a_float_holds_are_no_warning_of_numpy() -> None:
    """Profiles are sharp at some budgets and blunt at others: their curvature at another budget is hardly known."""
    rng, table = np.random.default_rng(1), []
    for flops in 1e11 * 2 ** np.arange(5):
        sharp = rng.uniform(0.2, 9)
        for n in (1e4, 2e4, 3e4, 4e4, 9e4):
            value = flops**-0.1 * np.exp(sharp * np.log(n / 3e4) ** 2 + rng.normal(0, 0.02))
            table.append(Point(flops=flops, params=n, samples=flops / n / 6, dev_loss=value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = fit(table, [1e12], replicates=50).off_sizes
    assert {row.worse_high for row in rows if row.method == PROFILES} == {None}


def test_a_sample_of_inference_costs_the_forward_pass_of_the_agents_accounting() -> None:
    assert pytest.approx(1 / (1 + BACKWARD)) == FORWARD_SHARE


def test_the_least_of_many_curves_is_found_between_the_places() -> None:
    at = np.array([[0.1], [0.77], [-3.0], [5.0]])
    x, value = lowest(lambda places: (places - at) ** 2, 0.0, 1.0)
    assert x == pytest.approx([0.1, 0.77, 0, 1], abs=1e-3)
    assert value[:2] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["corpus_samples", "inference_samples"])
def test_numbers_of_samples_that_are_none_are_refused_in_one_line(name: str) -> None:
    table = [{"flops": 1e18, "params": 1e8, "samples": 1e9, "dev_loss": 2.0}]
    for bad in ([0.0], [-1.0], ["many"], 1e9):
        with pytest.raises(FitError, match=name):
            fit(table, **{name: bad})
