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
from playscale.processes.worker import WorkerError
from playscale.rollout.actor_pool import MAX_FAILURES, ActorPool
from playscale_benchmarks.tree import below

pytestmark = pytest.mark.usefixtures("forked_workers")

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
    """Return the next unroll of that actor, whatever the others deliver meanwhile."""
    while (unroll := actors.next()).actor != number:
        pass
    return unroll


def test_an_actor_plays_on_only_when_its_unroll_is_taken(playing):
    """So its next unroll is played with weights at least as new as those published when this one was taken."""
    policy, actors = playing
    kept, taken_at, version = {}, {}, 0
    while len(taken_at) < 2 or version < 12:
        version = actors.publish(policy)
        unroll = actors.next()
        if unroll.actor in taken_at:
            assert unroll.version >= taken_at[unroll.actor]
        else:
            assert unroll.frames["done"][0].all()
            kept[unroll.actor] = unroll, unroll.frames["symbol"].copy()
        taken_at[unroll.actor] = version
    assert not np.array_equal(kept[0][1], kept[1][1]), "each plays games of its own"
    for unroll, symbols in kept.values():
        np.testing.assert_array_equal(unroll.frames["symbol"], symbols, "a copy, which the actor no longer writes to")


@pytest.mark.parametrize("victim", ["actor", "worker"])
def test_killed_actor_is_replaced(playing, victim):
    policy, actors = playing
    restarts, version = actors.restarts, actors.publish(policy)
    symbols = unroll_of(actors, 0).frames["symbol"].copy()
    (actor, other), workers = actors.pids, below(actors.pids[0])
    assert len(workers) == 2
    os.kill(actor if victim == "actor" else workers[0], signal.SIGKILL)
    while not (unroll := unroll_of(actors, 0)).frames["done"][0].all() or actors.restarts == restarts:
        pass  # the one that it had delivered before
    assert actors.restarts == restarts + 1
    assert not np.array_equal(unroll.frames["symbol"], symbols), "a game may have been the cause"
    assert unroll.version == version
    assert all(gone(pid) for pid in (actor, *workers))
    assert actors.pids[0] != actor
    assert actors.pids[1] == other, "the other actor plays on"
    assert not unroll_of(actors, 0).frames["done"][0].all()


def test_actor_that_always_fails_ends_the_run(monkeypatch, caplog):
    toy_game.register(monkeypatch)
    before = below(os.getpid()), shared_memory()
    policy, made = make("recall-bug", actors=1)
    with made as actors:
        actors.publish(policy)
        with pytest.raises(WorkerError, match=r"ZeroDivisionError: planted in episode 0 \(seed \d+\) after 0 steps"):
            actors.next()
        assert actors.restarts == MAX_FAILURES - 1
    assert caplog.text.count("starting another in its place") == MAX_FAILURES - 1
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


@pytest.mark.slow
def test_actors_that_have_not_begun_leave_nothing(monkeypatch):
    toy_game.register(monkeypatch)
    before = shared_memory()
    with make()[1] as actors:
        assert actors.pids == []
    del actors
    assert shared_memory() == before
