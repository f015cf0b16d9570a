"""What an actor writes into its unrolls, against the games replayed by hand. T unroll, E environments."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import toy_game
from toy_game import Recall, RecallEnv

from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.config import TRAINING_SEED
from playscale.rollout.actor import GO, Actor, ActorSetup
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.shared_weights import SharedWeights
from playscale.rollout.unroll import RUNNING, TERMINATED, TRUNCATED, UnrollBuffer

pytestmark = pytest.mark.usefixtures("forked_workers")

T, E = 13, 4
MAX_STEPS = 80  # recall takes 60 to 100
NONE = Recall.num_actions


class Noted(EnvPool):
    """Workers that note the seeds of the games they are given, by slot."""

    def begin(self, tasks):
        self.seeds = getattr(self, "seeds", [[] for _ in range(E)])
        for slot, task in tasks.items():
            self.seeds[slot].append(task.seed)
        super().begin(tasks)


@dataclass
class Played:
    """frames and state: of each unroll, copied when it was full; filled: what was said of each."""

    policy: torch.nn.Module
    frames: list
    states: list
    filled: list
    seeds: list

    def joined(self, name):
        """A column over all unrolls, [N * T, E, ...]: without the frame that an unroll shares with the next."""
        return np.concatenate([frames[name][:-1] for frames in self.frames])


def play(core, unrolls, processes=2):
    torch.manual_seed(5)
    config = replace(config_for_size(Recall(), "10k", core), value_head=True)
    policy = build_policy(config).eval()
    unroll = UnrollBuffer(Recall.columns, policy.initial_state(1), T, E)
    weights = SharedWeights(sum(p.numel() for p in policy.parameters()))
    weights.publish(list(policy.parameters()))
    setup = ActorSetup(config, {}, processes, E, T, MAX_STEPS, "cpu", (3, 0, 1), unroll.fds, weights.fd)
    frames, states, filled = [], [], []
    with Noted(Recall(), processes, E, MAX_STEPS) as workers:
        actor = Actor(setup, workers)
        for _ in range(unrolls):
            filled += actor.handle(GO)
            frames.append({name: array.copy() for name, array in unroll.frames.items()})
            states.append({name: torch.from_numpy(array.copy()) for name, array in unroll.recurrent.items()})
    unroll.close()
    weights.close()
    return Played(policy, frames, states, filled, workers.seeds)


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def played(request):
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        yield play(request.param, 24)


def test_an_unroll_begins_with_the_last_frame_of_the_one_before(played):
    before_the_action = ("symbol", "prev_action", "done", "valid")
    for one, other in zip(played.frames, played.frames[1:], strict=False):
        for name in before_the_action:
            np.testing.assert_array_equal(one[name][-1], other[name][0])
    assert played.frames[0]["done"][0].all()


def test_the_frames_are_those_of_the_games_played_again(played):
    """From each game's seed and the recorded actions: what was shown, rewarded, and how it ended."""
    column = {name: played.joined(name) for name in played.frames[0]}
    ends = []
    for e in range(E):
        seeds, env, over, previous = iter(played.seeds[e]), None, True, NONE
        for t in range(len(column["done"])):
            begins = over and (env is None or not column["valid"][t - 1, e])
            assert column["done"][t, e] == begins
            if begins:
                env, over, previous = RecallEnv(MAX_STEPS, None), False, NONE
                shown = env.reset(next(seeds))
            assert column["valid"][t, e] == (not over)
            assert column["symbol"][t, e] == shown["symbol"]
            assert column["prev_action"][t, e] == previous
            if over:  # the last observation: nothing comes of it
                assert (column["reward"][t, e], column["ended"][t, e]) == (0, RUNNING)
                continue
            score, previous = env.score, column["action"][t, e]
            step = env.step(previous)
            shown, over = step.observation, step.done
            assert column["reward"][t, e] == step.score - score
            expected = TERMINATED if step.terminated else TRUNCATED if step.truncated else RUNNING
            assert column["ended"][t, e] == expected
            ends += [expected] * over
    assert column["reward"].sum() > 0
    assert (ends.count(TERMINATED) > 1, ends.count(TRUNCATED) > 1) == (True, True)


def test_log_prob_and_state_are_those_of_the_policy_over_the_unroll(played):
    """From the state before it, all at once, as the learner will: to the last digits of float32."""
    for i, (frames, state) in enumerate(zip(played.frames, played.states, strict=True)):
        batch = {name: torch.from_numpy(frames[name][:-1]) for name in ("symbol", "prev_action", "done", "action")}
        with torch.no_grad():
            logits, _, after = played.policy(batch, state)
        log_prob = logits.log_softmax(-1).gather(-1, batch["action"][..., None]).squeeze(-1)
        np.testing.assert_allclose(log_prob.numpy(), frames["log_prob"][:-1], atol=2e-5)
        if i + 1 < len(played.states):
            for name, value in played.states[i + 1].items():
                torch.testing.assert_close(value, after[name], atol=2e-5, rtol=1e-4)


def test_figures_of_an_unroll_add_up(played):
    """Interactions are the actions taken; the episodes are those that ended in it, with the scores they were paid."""
    paid, count, seeds = np.zeros(E), 0, [list(column) for column in played.seeds]
    for frames, filled in zip(played.frames, played.filled, strict=True):
        assert filled.version == 0
        assert filled.interactions == frames["valid"][:-1].sum()
        found = []
        for t in range(T):
            paid = paid * ~frames["done"][t] + frames["reward"][t]
            over = np.flatnonzero(frames["ended"][t])
            found += [(seeds[e].pop(0), paid[e], frames["ended"][t, e] == TERMINATED) for e in over]
        said = [(episode.seed, episode.score, episode.terminated) for episode in filled.episodes]
        assert sorted(said) == sorted(found)
        assert all(episode.length <= MAX_STEPS for episode in filled.episodes)
        count += len(found)
    assert count > 2 * E
    assert all(filled.seconds.keys() == played.filled[0].seconds.keys() for filled in played.filled)
    assert sum(played.filled[0].seconds.values()) > 0


def test_games_of_training_are_none_of_evaluation(played):
    seeds = [seed for column in played.seeds for seed in column]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= TRAINING_SEED


def test_an_actor_draws_from_its_policy(played):
    """The actions taken are as frequent as the policy says: each is drawn once with its probability."""
    taken, expected, variance = np.zeros(NONE), np.zeros(NONE), np.zeros(NONE)
    for frames, state in zip(played.frames, played.states, strict=True):
        batch = {name: torch.from_numpy(frames[name][:-1]) for name in ("symbol", "prev_action", "done")}
        with torch.no_grad():
            chances = played.policy(batch, state).logits.softmax(-1).numpy()
        taken += np.bincount(frames["action"][:-1].ravel(), minlength=NONE)
        expected += chances.sum((0, 1))
        variance += (chances * (1 - chances)).sum((0, 1))
    assert (np.abs(taken - expected) < 4 * np.sqrt(variance) + 1).all()
