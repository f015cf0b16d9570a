"""A run of IMPALA with cooldown branches: the run and each branch learn from their own play, and keep their own scale.

T unroll, E environments of an actor.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import toy_run

from playscale.agents.checkpoint import load_checkpoint, save_checkpoint
from playscale.rollout.actor_pool import ActorPool
from playscale.training.impala import Impala
from playscale.training.metrics import Moments
from playscale.training.run_state import RunState, latest
from playscale.training.trainer import train

pytestmark = pytest.mark.usefixtures("registered", "forked_workers")
PER_STEP = toy_run.BATCH * toy_run.UNROLL
GAMMA = 0.9
SEGMENTS = [15, 5, 30, 15]
"""Steps of the run to its first branch, of that branch, of the run to its second branch, of that branch."""


@dataclass
class Trained:
    """The steps of one segment. For each step: the actor, the policy it played with, rewards [T, E], whether an episode
    ended [T, E], and the moments after the step.
    """

    state: RunState
    before: Moments
    actors: list
    players: list
    rewards: list
    over: list
    after: list


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 20 and 60 steps with a branch before each: its directory and its segments."""
    published, segments = {}, []
    publish, begin, update = ActorPool.publish, Impala.begin, Impala.update

    def noted_publish(self, policy):
        version = publish(self, policy)
        published[version] = policy
        return version

    def noted_begin(self, state):
        begin(self, state)
        segments.append(Trained(state, replace(state.play.rewards), [], [], [], [], []))

    def noted_update(self, batch, rate):
        segment = segments[-1]
        done = update(self, batch, rate)
        segment.actors.append(batch.unroll.actor)
        segment.players.append(published[batch.unroll.version])
        segment.rewards.append(batch.tensors["reward"].numpy().copy())
        segment.over.append(~batch.tensors["valid"][1:].numpy())
        segment.after.append(replace(self.state.play.rewards))
        return done

    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActorPool, "publish", noted_publish)
        patch.setattr(Impala, "begin", noted_begin)
        patch.setattr(Impala, "update", noted_update)
        train(toy_run.config(20, 60, cooldown=0.25, rl={"discount": GAMMA}), out)
    assert [len(segment.actors) for segment in segments] == SEGMENTS
    return out, segments


def discounted_sums(segment):
    """The discounted sum of rewards up to each step, [steps, T, E]; zero before the segment and after an episode."""
    sums, found = {}, []
    for actor, rewards, over in zip(segment.actors, segment.rewards, segment.over, strict=True):
        for reward, ended in zip(rewards, over, strict=True):
            sums[actor] = GAMMA * sums.get(actor, 0.0) + reward
            found.append(sums[actor])
            sums[actor] = np.where(ended, 0.0, sums[actor])
    return np.array(found).reshape(len(segment.rewards), *segment.rewards[0].shape)


def test_each_state_learns_from_what_its_own_weights_played(trained):
    _, segments = trained
    for segment in segments:
        assert all(policy is segment.state.policy for policy in segment.players)


def test_each_states_moments_are_of_the_unrolls_it_learned_from(trained):
    _, segments = trained
    assert segments[0].before == Moments()
    for segment in segments:
        expected = replace(segment.before)
        for values, found in zip(discounted_sums(segment), segment.after, strict=True):
            expected.add(values)
            assert (found.count, found.mean) == (expected.count, pytest.approx(expected.mean))
            assert found.spread == pytest.approx(expected.spread)


def test_a_branch_leaves_the_moments_of_the_run_as_they_were(trained):
    out, (first, branch, second, _) = trained
    assert branch.state is not first.state
    assert second.state is first.state
    assert branch.before == second.before == first.after[-1]
    assert branch.after[-1] != branch.before
    saved = load_checkpoint(latest(out / "resume")).meta
    assert saved["step"] == 45
    assert saved["tally"]["rewards"] == vars(second.after[-1])
    assert saved["tally"]["rewards"]["count"] == 45 * PER_STEP


def test_the_teacher_remembers_the_games_through_the_branches(tmp_path):
    """Steps too small to change anything leave the policy as its teacher, which has nothing to object to."""
    teacher = tmp_path / "teacher"
    save_checkpoint(teacher, toy_run.policy(seed=4, value_head=False), {})
    asked = toy_run.config(
        20, 60, method="kickstart", cooldown=0.25, learning_rate=1e-15, rl={"teacher": str(teacher)}
    )  # fmt: skip
    curves = toy_run.Curves()
    train(asked, tmp_path / "out", tracker=curves)
    divergence = curves.of("teacher_divergence"), curves.of("teacher_divergence_cooldown")
    assert [len(values) for values in divergence] == [45, 20]
    assert max(map(abs, divergence[0] + divergence[1])) < 1e-6
