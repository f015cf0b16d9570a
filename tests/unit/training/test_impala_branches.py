"""A run of IMPALA with cooldown branches: the run and each branch learn from their own play, and keep their own scale.

T unroll, E environments of an actor.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import toy_game
import toy_run

from playscale.agents.checkpoint import load_checkpoint, save_checkpoint
from playscale.rollout.actor_pool import ActorPool
from playscale.training.impala import train_impala
from playscale.training.impala_learner import ImpalaLearner
from playscale.training.metrics import Moments
from playscale.training.run_state import RunState, latest

PER_STEP = toy_run.BATCH * toy_run.UNROLL
GAMMA = 0.9
STRETCHES = [15, 5, 30, 15]
"""Steps of the run to its first branch, of that branch, of the run to its second branch, of that branch."""


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        yield


@dataclass
class Stretch:
    """The steps of one learner. Of each step: the actor, whose weights it played with, rewards [T, E], whether an
    episode ended [T, E], the moments after the step.
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
    """A run of 20 and 60 steps with a branch before each: its directory and its stretches."""
    published, stretches = {}, []
    publish, init, step = ActorPool.publish, ImpalaLearner.__init__, ImpalaLearner.step

    def noted_publish(self, policy):
        version = publish(self, policy)
        published[version] = policy
        return version

    def noted_init(self, state, *rest):
        init(self, state, *rest)
        stretches.append(Stretch(state, replace(state.tally.rewards), [], [], [], [], []))

    def noted_step(self, batch, recurrent, rate):
        origin, stretch = self._experience.origins[0], stretches[-1]
        done = step(self, batch, recurrent, rate)
        stretch.actors.append(origin.actor)
        stretch.players.append(published[origin.filled.version])
        stretch.rewards.append(batch.tensors["reward"].numpy().copy())
        stretch.over.append(~batch.tensors["valid"][1:].numpy())
        stretch.after.append(replace(self._state.tally.rewards))
        return done

    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActorPool, "publish", noted_publish)
        patch.setattr(ImpalaLearner, "__init__", noted_init)
        patch.setattr(ImpalaLearner, "step", noted_step)
        train_impala(out, toy_run.config(20, 60, cooldown=0.25, rl={"discount": GAMMA}))
    assert [len(stretch.actors) for stretch in stretches] == STRETCHES
    return out, stretches


def discounted_sums(stretch):
    """The discounted sum of rewards up to each step, [steps, T, E]; zero before the stretch and after an episode."""
    sums, found = {}, []
    for actor, rewards, over in zip(stretch.actors, stretch.rewards, stretch.over, strict=True):
        for reward, ended in zip(rewards, over, strict=True):
            sums[actor] = GAMMA * sums.get(actor, 0.0) + reward
            found.append(sums[actor])
            sums[actor] = np.where(ended, 0.0, sums[actor])
    return np.array(found).reshape(len(stretch.rewards), *stretch.rewards[0].shape)


def test_each_state_learns_from_what_its_own_weights_played(trained):
    _, stretches = trained
    for stretch in stretches:
        assert all(policy is stretch.state.policy for policy in stretch.players)


def test_each_states_moments_are_of_the_unrolls_it_learned_from(trained):
    _, stretches = trained
    assert stretches[0].before == Moments()
    for stretch in stretches:
        expected = replace(stretch.before)
        for values, found in zip(discounted_sums(stretch), stretch.after, strict=True):
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
    train_impala(tmp_path / "out", asked, curves)
    divergence = curves.of("teacher_divergence"), curves.of("teacher_divergence_cooldown")
    assert [len(values) for values in divergence] == [45, 20]
    assert max(map(abs, divergence[0] + divergence[1])) < 1e-6
