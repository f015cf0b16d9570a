"""Laws along the frontier, their backtest, and the choice among them."""

from __future__ import annotations

import numpy as np
import pytest
from resources import PUBLISHED
from scipy import stats
from scipy.optimize import approx_fprime

from playscale.points import Point, read_points
from playscale.scaling.backtest import (
    BREAKING,
    CANDIDATES,
    LEVELLING,
    PLAIN,
    Backtest,
    CandidateLaw,
    Frontier,
    Rolling,
    backtest,
    backtest_rows,
    candidates,
)
from playscale.scaling.cells import FitError, Target, make_cells
from playscale.scaling.choice import LARGEST_RETURN, RECORD_FROM, choose, decide
from playscale.scaling.frontier import BROKEN, FORMS, POWER, SATURATING, Form, fit_law, fit_laws, limited, parameters
from playscale.scaling.isoflop import fit_profiles
from playscale.scaling.powerlaw import fit_power_law


def frontier(cost: np.ndarray, target: Target = "dev_loss", first: float = 1e14, step: float = 2.0) -> Frontier:
    flops = first * step ** np.arange(len(cost))
    return Frontier(target, flops, cost, np.zeros(len(cost)))


def saturating(count: int, noise: float, rng: np.random.Generator, floor: float = 0.5) -> Frontier:
    flops = 1e14 * 2.0 ** np.arange(count)
    return frontier(np.log(floor + 2.0 * (flops / 1e14) ** -0.35) + noise * rng.standard_normal(count))


@pytest.mark.parametrize("form", [*FORMS, limited("bounded", -1.0)], ids=lambda form: form.name)
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
            value, low, high, _ = found[name]
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


def test_a_known_ceiling_is_kept_and_the_rest_recovered() -> None:
    flops = 1e14 * 2.0 ** np.arange(10)
    returns = 1 / (1 / 500 + 1 / (20 * (flops / 1e14) ** 0.6))
    form = limited("bounded by the game", -np.log(500.0))
    law = fit_law(form, flops, -np.log(returns), np.zeros(10), np.random.default_rng(0), 0)
    found = parameters(law, "return_mean")
    assert set(found) == {"A", "gamma"}
    assert found["gamma"][0] == pytest.approx(0.6, rel=1e-3)
    assert np.exp(-law.cost(1e60)) == pytest.approx(500, rel=1e-3)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_many_subsets_at_once_are_fitted_as_one_at_a_time(form: Form) -> None:
    data = saturating(14, 0.01, np.random.default_rng(4))
    seen = np.array([[i < count for i in range(14)] for count in (9, 11, 14)])
    together = fit_laws(form, data.flops, data.cost, data.noise, seen, np.random.default_rng(0), 0)
    for law, mask in zip(together, seen, strict=True):
        alone = fit_law(form, data.flops[mask], data.cost[mask], data.noise[mask], np.random.default_rng(0), 0)
        assert law.rss == pytest.approx(alone.rss, rel=1e-3)
        assert law.cost(data.flops) == pytest.approx(alone.cost(data.flops), abs=2e-3)
        assert (law.first, law.last, law.degrees) == (alone.first, alone.last, alone.degrees)


def test_every_prediction_is_made_from_earlier_budgets_only() -> None:
    rng = np.random.default_rng(0)
    data = saturating(8, 0.01, rng)
    spoiled = Frontier("dev_loss", data.flops, np.where(np.arange(8) == 7, 9.0, data.cost), data.noise)
    honest, changed = (
        {(p.name, p.from_flops, p.flops): p.error for p in backtest(one, CANDIDATES, rng, 20).predictions()}
        for one in (data, spoiled)
    )
    assert honest.keys() == changed.keys()
    for key, error in honest.items():
        assert key[1] < key[2]
        assert changed[key] == pytest.approx(error) or key[2] == data.flops[7]
    rows = backtest_rows("dev_loss", backtest(data, CANDIDATES, rng, 20).predictions())
    assert {row.form for row in rows} >= {"power", "saturating"}
    assert all(0 <= row.coverage <= 1 and row.median_log_error >= 0 and row.decades_ahead % 0.5 == 0 for row in rows)


def test_a_choice_at_a_budget_knows_nothing_of_those_beyond() -> None:
    data = saturating(12, 0.02, np.random.default_rng(1))
    spoiled = Frontier("dev_loss", data.flops, np.where(np.arange(12) < 8, data.cost, 5.0), data.noise)
    tested = [backtest(one, CANDIDATES, np.random.default_rng(0), 20) for one in (data, spoiled)]
    first, second = (decide(one, 8) for one in tested)
    assert (first.chosen, first.sharing, first.widening, first.why) == (
        second.chosen, second.sharing, second.widening, second.why,
    )  # fmt: skip


def test_the_track_record_is_made_from_four_budgets_on_beside_the_power_law() -> None:
    data = saturating(9, 0.02, np.random.default_rng(2))
    record = choose(data, np.random.default_rng(0), 20).record
    assert {r.own.from_flops for r in record} == set(data.flops[RECORD_FROM - 1 : -1])
    assert len(record) == 5 + 4 + 3 + 2 + 1
    for row in record:
        assert row.plain is not None
        assert (row.plain.from_flops, row.plain.flops) == (row.own.from_flops, row.own.flops)
        assert row.own.low <= 0 <= row.own.high


def test_scores_compare_the_same_predictions_only() -> None:
    data = frontier(np.zeros(6))

    def rolling(candidate: CandidateLaw, errors: dict[tuple[int, int], float]) -> Rolling:
        one = Rolling(data, candidate, {}, {})
        table = np.full((7, 6), np.nan)
        for place, error in errors.items():
            table[place] = error
        one.__dict__["error"] = table
        return one

    made = {
        PLAIN: rolling(PLAIN, {(3, 4): 0.1, (3, 5): 8.0}),
        LEVELLING: rolling(LEVELLING, {(3, 4): -0.2}),
        BREAKING: rolling(BREAKING, {}),
    }
    tested = Backtest(data, made, (3,))
    found = tested.scores(6, list(made))
    assert found == {PLAIN: pytest.approx(0.101), LEVELLING: pytest.approx(0.201)}
    assert tested.scores(4, list(made)) == {}
    assert tested.shared(6, [PLAIN, LEVELLING], 0) == 1


def test_laws_without_a_backtest_are_not_among_those_that_were_chosen_from() -> None:
    data = saturating(9, 0.01, np.random.default_rng(0))
    tested = backtest(data, CANDIDATES, np.random.default_rng(1), 20)
    assert len(tested.rolling[BREAKING].predictions(9)) == 1  # it takes 8 budgets
    assert "chosen among 4 laws" in decide(tested, 9).why


def test_a_known_limit_is_a_candidate() -> None:
    limits = [("the expert's return", 100.0)]
    flops = 1e14 * 2.0 ** np.arange(12)
    returns = 1 / (1 / 100 + 1 / (4 * (flops / 1e14) ** 0.5))
    rng = np.random.default_rng(0)
    data = Frontier("return_mean", flops, -np.log(returns) + 0.03 * rng.standard_normal(12), np.zeros(12))
    assert candidates(data) == CANDIDATES
    assert "bounded by the expert's return" in [c.name("return_mean") for c in candidates(data, limits)]
    choice = choose(data, rng, 50, limits=limits)
    assert choice.name == "bounded by the expert's return"
    assert np.exp(-choice.predict(np.array([1e30]), rng)[0][0]) == pytest.approx(100, rel=1e-2)


@pytest.mark.parametrize(
    ("count", "name", "said"),
    [
        (3, "power", "a law that levels off needs 4 budgets"),
        (4, "saturating", "4 budgets leave too few forecasts to compare laws by"),
        (5, "saturating", "5 budgets leave too few forecasts to compare laws by"),
    ],
)
def test_with_few_budgets_the_default_is_stated(count: int, name: str, said: str) -> None:
    rng = np.random.default_rng(0)
    choice = choose(saturating(count, 0.01, rng), rng, 50)
    assert choice.name == name
    assert said in choice.why


def test_power_law_that_five_budgets_refute_shares_no_interval() -> None:
    rng = np.random.default_rng(0)
    choice = choose(saturating(5, 1e-4, rng), rng, 50)
    assert choice.name == "saturating"
    assert "the power law is refuted" in choice.why
    assert len(choice.laws) == 1


def test_interval_stays_below_the_largest_return_of_the_game() -> None:
    flops, rng = np.array([1e13, 1e14, 1e15, 1e16]), np.random.default_rng(0)
    data = Frontier("return_mean", flops, -np.log([4.0, 8.0, 13.0, 18.0]), np.zeros(4))
    choice = choose(data, rng, 100, limits=[(LARGEST_RETURN, 20.0)])
    assert choice.name == "bounded by the largest return"
    cost, low, _ = choice.predict(np.array([1e17, 1e30]), rng)
    assert low is not None
    assert np.exp(-low) == pytest.approx([20, 20], rel=0.1)
    assert np.all(np.exp(-low) <= 20.0 + 1e-9)
    assert np.all(np.exp(-cost) < 20.0 + 1e-9)


def two_edges(beyond: float) -> Frontier:
    """Return six budgets of a planted law, at the last two of which all sizes are `beyond` times too large."""
    points = []
    for i, flops in enumerate(10.0 ** np.arange(17, 23)):
        best = 5e7 * (flops / 1e17) ** 0.47
        for size in best * np.array([0.4, 1.0, 2.5]) * (beyond if i > 3 else 1.0):
            loss = 1.7 + 1063 * flops**-0.159 * np.exp(0.03 * np.log(size / best) ** 2)
            points.append(Point(flops=flops, params=size, samples=flops / 6 / size, dev_loss=loss))
    cells, _ = make_cells(points, "dev_loss")
    profiles = fit_profiles(cells)
    cost, noise = (np.array([getattr(p, name) for p in profiles]) for name in ("argmin_cost", "noise"))
    return Frontier("dev_loss", cells.budgets, cost, noise, tuple(profiles))


def test_best_cells_at_the_edge_of_the_last_budgets_bound_the_law_and_do_not_draw_it() -> None:
    truth, at = 1.7 + 1063 * 1e23**-0.159, np.array([1e23])
    edges, inside = two_edges(beyond=40.0), two_edges(beyond=1.0)
    assert edges.bound.tolist() == [False] * 4 + [True] * 2
    assert not inside.bound.any()
    for data in (edges, inside):
        value = float(np.exp(choose(data, np.random.default_rng(0), 50).law.cost(at))[0])
        assert value == pytest.approx(truth, rel=0.01)
    drawn = edges.fit(CandidateLaw(SATURATING, source="no bounds"), np.random.default_rng(0), 0)
    assert float(np.exp(drawn.cost(at))[0]) > 1.05 * truth


def test_no_law_has_a_floor_above_what_was_measured() -> None:
    flops = 10.0 ** np.arange(13, 19)
    cost = np.log([3.0, 2.0, 1.6, 1.5, 1.7, 1.4])
    law = fit_law(SATURATING, flops, cost, np.zeros(6), np.random.default_rng(0), 0)
    assert law.theta[0] <= cost.min() + 0.01


def test_laws_that_differ_nowhere_are_not_compared() -> None:
    data = saturating(12, 0.01, np.random.default_rng(0))
    tested = backtest(data, CANDIDATES, np.random.default_rng(0), 20)
    assert tested.ratio(LEVELLING, LEVELLING, 12) == (1.0, 0)
    ratio, count = tested.ratio(LEVELLING, PLAIN, 12)
    assert ratio < 1
    assert count > 10


def test_two_budgets_have_a_law_without_an_interval_and_one_has_none() -> None:
    rng = np.random.default_rng(0)
    choice = choose(saturating(2, 0, rng), rng, 50)
    assert choice.predict(np.array([1e20]), rng)[1:] == (None, None)
    with pytest.raises(FitError, match="at least 2 budgets"):
        choose(saturating(1, 0, rng), rng, 50)


def test_the_last_decade_of_nethack_is_forecast_where_a_power_law_fails() -> None:
    cells, _ = make_cells(read_points(PUBLISHED / "nethack_isoflop.csv"), "dev_loss")
    profiles = fit_profiles(cells)
    whole = Frontier(
        "dev_loss", cells.budgets, np.array([p.argmin_cost for p in profiles]), np.array([p.noise for p in profiles]),
        tuple(profiles),
    )  # fmt: skip
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
