"""The actors of a learner: backpressure, those that die, and that nothing is left of them. T unroll, E environments."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_game
from process_state import gone, shared_memory

from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.processes import WorkerError
from playscale.rollout.actor_pool import TRIES, ActorPool
from playscale_benchmarks.tree import below

T, E = 7, 4


def make(game="recall", actors=2, workers=1):
    """A policy, and actors of it that have not begun."""
    torch.manual_seed(0)
    policy = build_policy(replace(config_for_size(get_game(game), "10k", "lstm"), value_head=True))
    made = ActorPool(
        policy.config, actors=actors, workers=workers, environments=E, unroll=T, max_steps=90, device="cpu", seed=(1,)
    )
    return policy, made


@pytest.fixture(scope="module")
def playing():
    """Two actors of two workers each, that have begun; afterwards nothing of them is left."""
    before = shared_memory()
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        policy, made = make(workers=2)
    with made as actors:
        actors.publish(policy)
        yield policy, actors
        pids = [pid for actor in actors.pids for pid in (actor, *below(actor))]
    assert len(pids) == 6
    assert all(gone(pid, 0.1) for pid in pids)
    assert shared_memory()[1] == before[1]  # memory without a name goes with the last array, which a traceback may hold


def unroll_of(actors, number):
    """The next unroll of that actor; those of others are let go."""
    while (delivery := actors.next()).actor != number:
        actors.release(delivery.actor)
    return delivery


def test_an_actor_waits_until_its_unroll_was_taken(playing):
    """And so it is never more than the unroll that it is at behind the learner."""
    policy, actors = playing
    begun = {delivery.actor: delivery for delivery in (actors.next(), actors.next())}
    first = begun[1].unroll.frames["symbol"].copy()
    actors.release(1)
    held = begun[0]
    assert held.unroll.frames["done"][0].all()
    assert not np.array_equal(held.unroll.frames["symbol"], first), "each plays games of its own"
    before = {name: array.copy() for name, array in held.unroll.frames.items()}
    for _ in range(8):
        version = actors.publish(policy)
        delivery = actors.next()
        assert delivery.actor == 1, "the other one waits"
        assert version - delivery.filled.version <= 1, "begun when the version before was the newest"
        actors.release(1)
    for name, array in held.unroll.frames.items():
        np.testing.assert_array_equal(array, before[name])
    actors.release(0)
    delivery = unroll_of(actors, 0)
    assert delivery.filled.version == version
    assert not np.array_equal(delivery.unroll.frames["log_prob"], before["log_prob"])
    actors.release(0)


@pytest.mark.parametrize("victim", ["actor", "worker"])
def test_another_takes_the_place_of_one_that_is_killed(playing, victim):
    policy, actors = playing
    restarts, version = actors.restarts, actors.publish(policy)
    symbols = unroll_of(actors, 0).unroll.frames["symbol"].copy()
    (actor, other), workers = actors.pids, below(actors.pids[0])
    assert len(workers) == 2
    os.kill(actor if victim == "actor" else workers[0], signal.SIGKILL)
    actors.release(0)
    delivery = unroll_of(actors, 0)
    assert actors.restarts == restarts + 1
    assert delivery.unroll.frames["done"][0].all(), "its games begin anew"
    assert not np.array_equal(delivery.unroll.frames["symbol"], symbols), "a game may have been the cause"
    assert delivery.filled.version == version
    assert all(gone(pid) for pid in (actor, *workers))
    assert actors.pids[0] != actor
    assert actors.pids[1] == other, "the other actor plays on"
    actors.release(0)
    assert not unroll_of(actors, 0).unroll.frames["done"][0].all()
    actors.release(0)


def test_one_that_always_fails_is_given_up(monkeypatch, caplog):
    toy_game.register(monkeypatch)
    before = below(os.getpid()), shared_memory()
    policy, made = make("recall-bug", actors=1)
    with made as actors:
        actors.publish(policy)
        with pytest.raises(WorkerError, match=r"ZeroDivisionError: planted in episode 0 \(seed \d+\) after 0 steps"):
            actors.next()
        assert actors.restarts == TRIES - 1
    assert caplog.text.count("starting another in its place") == TRIES - 1
    del made, actors
    assert (below(os.getpid()), shared_memory()) == before


def test_an_error_of_the_user_is_raised_at_once(monkeypatch):
    toy_game.register(monkeypatch)
    policy, made = make("recall-user-error", actors=1)
    with made as actors:
        actors.publish(policy)
        with pytest.raises(ValueError, match="planted in episode 0"):
            actors.next()
        assert actors.restarts == 0


def test_actors_that_have_not_begun_leave_nothing(monkeypatch):
    toy_game.register(monkeypatch)
    before = shared_memory()
    with make()[1] as actors:
        assert actors.pids == []
    del actors
    assert shared_memory() == before
