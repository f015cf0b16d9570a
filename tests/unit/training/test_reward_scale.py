"""The spread of rewards as it goes, against numpy over all of them at once; and the tally that keeps it."""

import json

import numpy as np
import pytest

from playscale.rollout.episode import Episode
from playscale.training.metrics import FLOOR, RECENT, DiscountedReturns, Moments, PlayStatistics


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_spread_is_numpys(offset):
    rng = np.random.default_rng(0)
    moments, seen = Moments(), np.empty(0)
    for _ in range(50):
        batch = offset + rng.normal(3, 2, size=(int(rng.integers(1, 20)), 4))
        moments.add(batch)
        seen = np.concatenate((seen, batch.ravel()))
        assert moments.count == seen.size
        assert moments.mean == pytest.approx(seen.mean())
        assert moments.spread == pytest.approx(seen.std(), rel=1e-6)


def test_before_anything_differs_rewards_stay_as_they_are():
    moments = Moments()
    assert moments.spread == 1
    moments.add(np.full((3, 2), 7.0))
    assert moments.spread == 1
    moments.add(np.array([7.0, 7.0 + 1e-9]))
    assert moments.spread == FLOOR, "and are never blown up beyond measure"


def test_discounted_sums_are_those_of_each_game_of_each_environment():
    rng = np.random.default_rng(1)
    discount, actors, T, E = 0.9, 3, 5, 4
    moments = Moments()
    sums = DiscountedReturns(discount, moments)
    rewards = rng.normal(size=(actors, 10 * T, E))
    over = rng.random((actors, 10 * T, E)) < 0.15
    for i in range(10):
        for actor in rng.permutation(actors):
            part = slice(i * T, (i + 1) * T)
            begins = over[actor, i * T - 1] if i else np.ones(E, bool)
            sums.add(actor, rewards[actor, part], over[actor, part], begins)
    expected = []
    for actor in range(actors):
        for e in range(E):
            begin = 0
            for t in range(10 * T):
                ages = t - np.arange(begin, t + 1)
                expected.append((discount**ages * rewards[actor, begin : t + 1, e]).sum())
                begin = t + 1 if over[actor, t, e] else begin
    assert moments.count == len(expected)
    assert moments.mean == pytest.approx(np.mean(expected))
    assert moments.spread == pytest.approx(np.std(expected))


def test_discounted_sums_begin_anew_when_another_actor_takes_the_place_of_a_dead_one():
    moments = Moments()
    sums = DiscountedReturns(0.5, moments)
    running = np.zeros((1, 2), bool)
    sums.add(0, np.full((1, 2), 8.0), running, np.ones(2, bool))
    sums.add(0, np.zeros((1, 2)), running, np.ones(2, bool))
    assert moments.mean == 4, "8 and 0: nothing of the 8 is carried into the other's episodes"


def episode(score):
    return Episode(0, 1, float(score), 10, True, {})


def test_a_tally_goes_through_json():
    tally = PlayStatistics()
    assert tally.return_mean is None
    tally.add(30, [])
    tally.add(40, [episode(score) for score in range(RECENT + 20)])
    tally.rewards.add(np.array([1.0, 2.0, 4.0]))
    again = PlayStatistics(json.loads(json.dumps(tally.to_dict())))
    assert again.to_dict() == tally.to_dict()
    assert (again.interactions, again.episodes) == (70, RECENT + 20)
    assert again.return_mean == np.mean(range(20, RECENT + 20)), "of the last episodes alone"
    for one in (tally, again):
        one.add(1, [episode(5)])
        one.rewards.add(np.array([3.0]))
    assert again.to_dict() == tally.to_dict()


def test_saved_moments_of_rewards_no_longer_change():
    tally = PlayStatistics()
    given = tally.to_dict()
    tally.add(5, [episode(1)])
    tally.rewards.add(np.array([1.0, 2.0]))
    assert given == PlayStatistics().to_dict()
