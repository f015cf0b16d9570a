"""Laws along the frontier, their backtest, and the choice among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import approx_fprime

from playscale.points import read_points
from playscale.scaling.backtest import PLAIN, Candidate, Frontier, Prediction, backtest, backtest_rows, scores
from playscale.scaling.cells import Target, make_cells
from playscale.scaling.choice import SATURATING_ALL, choose
from playscale.scaling.exclusion import FitError
from playscale.scaling.frontier import BROKEN, FORMS, POWER, SATURATING, Form, fit_law, parameters
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.powerlaw import fit_power_law

PAPER = Path(__file__).parents[2].parent / "shared" / "paper"


def frontier(cost: np.ndarray, target: Target = "dev_loss", first: float = 1e14, step: float = 2.0) -> Frontier:
    flops = first * step ** np.arange(len(cost))
    return Frontier(target, flops, cost, np.zeros(len(cost)))


def saturating(count: int, noise: float, rng: np.random.Generator, floor: float = 0.5) -> Frontier:
    flops = 1e14 * 2.0 ** np.arange(count)
    return frontier(np.log(floor + 2.0 * (flops / 1e14) ** -0.35) + noise * rng.standard_normal(count))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_derivatives_are_those_of_the_curve(form: Form) -> None:
    rng = np.random.default_rng(0)
    x, theta = rng.standard_normal(5), rng.standard_normal(form.size) * 0.5
    for i in range(5):
        numeric = approx_fprime(theta, lambda t, i=i: float(form.curve(t[None], x)[0][0, i]), 1e-7)
        assert form.curve(theta[None], x)[1][0, i] == pytest.approx(numeric, abs=1e-5)


def test_the_draws_of_a_line_are_the_t_prediction_interval() -> None:
    rng = np.random.default_rng(1)
    x = np.log(1e14 * 2.0 ** np.arange(6))
    cost = 3 - 0.2 * x + 0.05 * rng.standard_normal(6)
    law = fit_law(POWER, np.exp(x), cost, np.zeros(6), rng, 40_000)
    line = fit_power_law(x, cost)
    low, high = np.quantile(-law.draws[:, 1], [0.025, 0.975])  # type: ignore[index]
    assert (low, high) == pytest.approx((line.low, line.high), rel=0.02)
    ahead = x[-1] + 1.5
    predicted = law.predict(np.exp(np.array([ahead])), rng)
    assert predicted is not None
    sd = np.sqrt(np.sum(np.square(line.residuals)) / 4)
    half = stats.t.ppf(0.975, 4) * sd * np.sqrt(1 + 1 / 6 + (ahead - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    assert np.quantile(predicted, 0.975) - law.cost(np.exp(ahead))[0] == pytest.approx(half, rel=0.03)


def test_a_planted_floor_is_recovered_and_its_interval_covers() -> None:
    inside = {"E": 0, "gamma": 0, "A": 0}
    for seed in range(50):
        rng = np.random.default_rng(seed)
        data = saturating(10, 0.01, rng)
        law = fit_law(SATURATING, data.flops, data.cost, data.noise, rng, 100)
        found = parameters(law, "dev_loss")
        for name, truth in {"E": 0.5, "gamma": 0.35, "A": 2.0 * 1e14**0.35}.items():
            value, low, high = found[name]
            inside[name] += low <= truth <= high  # type: ignore[operator]
            assert low <= high  # type: ignore[operator]
            assert value > 0
    assert all(count >= 43 for count in inside.values()), inside


def test_a_bounded_return_and_a_broken_law_are_recovered() -> None:
    flops = 1e14 * 2.0 ** np.arange(12)
    rng = np.random.default_rng(0)
    returns = 1 / (1 / 500 + 1 / (20 * (flops / 1e14) ** 0.6))
    law = fit_law(SATURATING, flops, -np.log(returns), np.zeros(12), rng, 0)
    assert parameters(law, "return_mean")["R_max"][0] == pytest.approx(500, rel=1e-3)
    x = np.log(flops / 2e15)
    cost = -0.1 * x - 0.3 * np.log(10) / 4 * np.logaddexp(0, x / (np.log(10) / 4))
    found = parameters(fit_law(BROKEN, flops, cost, np.zeros(12), rng, 0), "dev_loss")
    assert found["gamma"][0] == pytest.approx(0.1, rel=1e-2)
    assert found["gamma_after"][0] == pytest.approx(0.4, rel=1e-2)
    assert found["C_break"][0] == pytest.approx(2e15, rel=2e-2)


def test_no_floor_is_reported_as_none_at_all() -> None:
    data = frontier(1 - 0.2 * np.log(2.0) * np.arange(8))
    law = fit_law(SATURATING, data.flops, data.cost, data.noise, np.random.default_rng(0), 0)
    assert parameters(law, "dev_loss")["E"][0] == pytest.approx(0, abs=1e-3)


def test_too_few_budgets_for_a_form_are_refused() -> None:
    data = frontier(np.zeros(3))
    with pytest.raises(FitError, match="needs at least 4 budgets; there are 3"):
        fit_law(SATURATING, data.flops, data.cost, data.noise, np.random.default_rng(0), 10)


def test_every_prediction_is_made_from_earlier_budgets_only() -> None:
    rng = np.random.default_rng(0)
    data = saturating(8, 0.01, rng)
    spoiled = Frontier("dev_loss", data.flops, np.where(np.arange(8) == 7, 9.0, data.cost), data.noise)
    honest = {(p.candidate, p.from_flops, p.flops): p.error for p in backtest(data, rng, 20)}
    changed = {(p.candidate, p.from_flops, p.flops): p.error for p in backtest(spoiled, rng, 20)}
    assert honest.keys() == changed.keys()
    for key, error in honest.items():
        assert key[1] < key[2]
        assert changed[key] == pytest.approx(error) or key[2] == data.flops[7]
    rows = backtest_rows("dev_loss", backtest(data, rng, 20))
    assert {row.form for row in rows} >= {"power", "saturating"}
    assert all(0 <= row.coverage <= 1 and row.median_log_error >= 0 and row.decades_ahead % 0.5 == 0 for row in rows)


def test_scores_compare_the_same_predictions_only() -> None:
    def made(form: Form, flops: float, error: float) -> Prediction:
        return Prediction(Candidate(form), 1.0, flops, error, -1, 1)

    found = scores([made(POWER, 2, 0.1), made(POWER, 4, 8.0), made(SATURATING, 2, 0.2)])
    assert found[PLAIN] == pytest.approx(0.101)
    assert found[SATURATING_ALL] == pytest.approx(0.201)
    assert scores([]) == {}


def test_the_planted_form_is_chosen_in_most_draws() -> None:
    def chosen(make: object, seed: int) -> str:
        rng = np.random.default_rng(seed)
        return choose(make(rng), rng, 20).name  # type: ignore[operator]

    floors = [chosen(lambda rng: saturating(10, 0.01, rng), seed) for seed in range(5)]
    assert sum(name.startswith("saturating") for name in floors) >= 4
    plain = 1 - 0.2 * np.log(2.0) * np.arange(10)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        choice = choose(frontier(plain + 0.01 * rng.standard_normal(10)), rng, 200)
        # A saturating law without a felt floor is a power law: what matters is what it forecasts.
        ahead = 1e14 * 2.0**13
        cost, low, high = choice.predict(np.array([ahead]), rng)
        assert cost[0] == pytest.approx(1 - 0.2 * np.log(2.0) * 13, abs=0.12)
        assert low is not None
        assert high is not None
        assert low[0] <= 1 - 0.2 * np.log(2.0) * 13 <= high[0]


@pytest.mark.parametrize(
    ("count", "name", "said"), [(3, "power", "needs 4 budgets"), (4, "saturating", "too few for a backtest")]
)
def test_with_few_budgets_the_default_is_stated(count: int, name: str, said: str) -> None:
    rng = np.random.default_rng(0)
    choice = choose(saturating(count, 0.01, rng), rng, 50)
    assert choice.name == name
    assert said in choice.why
    assert not choice.predictions


def test_two_budgets_have_a_law_without_an_interval_and_one_has_none() -> None:
    rng = np.random.default_rng(0)
    choice = choose(saturating(2, 0, rng), rng, 50)
    assert choice.predict(np.array([1e20]), rng)[1:] == (None, None)
    with pytest.raises(FitError, match="at least 2 budgets"):
        choose(saturating(1, 0, rng), rng, 50)


@pytest.mark.skipif(not PAPER.is_dir(), reason="the published tables are not beside this checkout")
def test_the_last_decade_of_nethack_is_forecast_where_a_power_law_fails() -> None:
    cells, _ = make_cells(read_points(PAPER / "nethack_isoflop.csv"), "dev_loss")
    profiles = fit_profiles(cells)
    whole = Frontier(
        "dev_loss", cells.budgets, np.array([p.argmin_cost for p in profiles]), np.array([p.noise for p in profiles])
    )
    for last, median, worst in ((1e18, 0.02, 0.04), (1e17, 0.08, 0.10)):
        count = int(np.sum(cells.budgets <= last))
        seen, rng = whole.upto(count), np.random.default_rng(0)
        choice = choose(seen, rng, 500)
        ahead, measured = cells.budgets[count:], whole.cost[count:]
        cost, low, high = choice.predict(ahead, rng)
        assert low is not None
        assert high is not None
        assert np.median(abs(measured - cost)) < median
        assert np.max(abs(measured - cost)) < worst
        assert np.mean((low <= measured) & (measured <= high)) >= 0.95
        plain = seen.fit(PLAIN, rng, 0)
        assert np.median(abs(measured - plain.cost(ahead))) > 0.3
