"""Returns by way of the dev loss: planted laws, what the candidates know, and where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from playscale.points import Point
from playscale.scaling.backtest import THROUGH_LOSS, TWO_STEPS, Frontier, backtest, candidates
from playscale.scaling.choice import choose, loss_steps
from playscale.scaling.document import document
from playscale.scaling.fit import fit
from playscale.scaling.frontier import parameters
from playscale.scaling.target_fit import steps_of
from playscale.scaling.two_step import TwoStepLaw

FLOPS = 1e14 * 3.0 ** np.arange(9)
DRAWS = 40


def loss_of(flops: np.ndarray) -> np.ndarray:
    return np.log(0.3 + 1.5 * (flops / 1e14) ** -0.35)


def return_of(log_loss: np.ndarray) -> np.ndarray:
    """A power of the loss: as that levels off, so does the return, which a law along compute has to find anew."""
    return -np.log(50.0) + 3.0 * log_loss


def frontiers(noise: float, seed: int, flops: np.ndarray = FLOPS) -> tuple[Frontier, Frontier]:
    """The frontiers of the dev loss and of the return, whose noise is four times as large."""
    rng = np.random.default_rng(seed)
    off = rng.standard_normal((2, len(flops)))
    none, loss = np.zeros(len(flops)), loss_of(flops)
    return (
        Frontier("dev_loss", flops, loss + noise * off[0], none),
        Frontier("return_mean", flops, return_of(loss) + 4 * noise * off[1], none),
    )


def with_loss(noise: float, seed: int, flops: np.ndarray = FLOPS) -> Frontier:
    rng = np.random.default_rng(seed)
    loss, ret = frontiers(noise, seed, flops)
    return replace(ret, loss=steps_of(choose(loss, rng, DRAWS), ret.flops, rng, DRAWS))


def test_return_that_follows_the_loss_is_forecast_far_ahead() -> None:
    rng, ahead = np.random.default_rng(0), np.array([1e20])
    law = with_loss(1e-4, 0).fit(TWO_STEPS[0], rng, DRAWS)
    assert isinstance(law, TwoStepLaw)
    assert law.cost(ahead) == pytest.approx(return_of(loss_of(ahead)), abs=0.02)
    named = parameters(law.law, "return_mean")
    assert (named["A"].value, named["gamma"].value) == pytest.approx((50.0, 3.0), rel=0.01)
    assert (law.first, law.last) == (FLOPS[0], FLOPS[-1])


def test_intervals_hold_what_is_uncertain_in_the_loss_and_in_the_return_of_it() -> None:
    ahead, inside, widths = FLOPS[-1:] * 27, [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        law = with_loss(0.01, seed).fit(TWO_STEPS[0], rng, DRAWS)
        drawn = law.predict(ahead, rng)
        assert drawn is not None
        low, high = np.quantile(drawn, [0.025, 0.975])
        measured = return_of(loss_of(ahead))[0] + 0.04 * np.random.default_rng([seed, 1]).standard_normal()
        inside.append(low <= measured <= high)
        widths.append(high - low)
    assert sum(inside) >= 10
    assert np.median(widths) > 4 * 0.04  # the noise of a return alone


def test_backtest_chooses_two_steps_where_they_forecast_far_better_and_only_there() -> None:
    rng, flops = np.random.default_rng(0), 1e14 * 2.0 ** np.arange(14)
    follows = with_loss(0.001, 1, flops)
    noise = 0.004 * rng.standard_normal(14)
    own_way = replace(
        with_loss(0.05, 1, flops), cost=np.logaddexp(-np.log(900), -np.log(5 * (flops / 1e14) ** 0.5)) + noise
    )
    for frontier, through in ((follows, True), (own_way, False)):
        choice = choose(frontier, rng, DRAWS)
        assert (THROUGH_LOSS in choice.name) == through, choice.why
        assert {c.name("return_mean") for c in TWO_STEPS} <= {p.name for p in choice.predictions}


def test_an_origin_knows_nothing_of_later_budgets() -> None:
    rng = np.random.default_rng(0)
    whole = with_loss(0.01, 3)
    assert whole.loss is not None
    later = np.arange(len(FLOPS)) >= 6
    spoilt = replace(whole, cost=whole.cost + later, loss=replace(whole.loss, cost=whole.loss.cost + later))
    costs = [backtest(one, TWO_STEPS, rng, 0).rolling[TWO_STEPS[0]].laws[5].cost(FLOPS) for one in (whole, spoilt)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)


def test_without_a_loss_at_every_budget_no_law_goes_by_way_of_it() -> None:
    rng = np.random.default_rng(0)
    loss, ret = frontiers(0.01, 0)
    assert not set(TWO_STEPS) & set(candidates(ret))
    few = choose(loss.upto(7), rng, DRAWS)
    assert steps_of(few, ret.flops, rng, DRAWS) is None
    every_second = steps_of(choose(loss, rng, DRAWS), FLOPS[::2] * 1.01, rng, DRAWS)  # a run was left out of some
    assert every_second is not None
    assert every_second.cost == pytest.approx(loss.cost[::2])
    assert max(every_second.laws) == 5
    assert loss_steps(replace(few, tested=None)) is None


def test_the_document_has_their_backtest_and_the_parameters_of_the_one_chosen() -> None:
    points = [
        Point(flops=c, params=n, samples=c / 6 / n, dev_loss=loss, return_mean=float(50 / loss**3))
        for c in FLOPS[:6].tolist()
        for n in (np.sqrt(c / 60) * np.array([0.3, 1.0, 3.0])).tolist()
        for loss in [float(np.exp(loss_of(np.array(c)) + 0.02 * np.log(n / np.sqrt(c / 60)) ** 2))]
    ]
    result = fit(points, replicates=20)
    forms = {row["form"] for row in document(result)["backtest"] if row["target"] == "return_mean"}
    assert {"power, through dev loss", "bounded, through dev loss"} <= forms
    target = result.targets["return_mean"]
    assert target.choice.tested is not None
    law = target.choice.tested.frontier.fit(TWO_STEPS[1], np.random.default_rng(0), 20)
    chosen = replace(target, choice=replace(target.choice, law=law, name="bounded, through dev loss"))
    written = document(replace(result, targets=result.targets | {"return_mean": chosen}))["laws"]["return_mean"]
    assert set(written["parameters"]) == {"A", "gamma", "R_max"}
    assert written["parameters"]["gamma"]["value"] == pytest.approx(3.0, rel=0.02)
