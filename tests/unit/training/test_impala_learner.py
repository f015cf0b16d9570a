"""IMPALA's step on real actors' unrolls, against the same put together by hand. T unroll, B batch."""

import numpy as np
import pytest
import torch
import toy_game
import toy_run

from playscale.config import Reinforcement
from playscale.rollout.actor_pool import ActorPool
from playscale.training.batches import batches
from playscale.training.distributed import Group
from playscale.training.experience import Experience
from playscale.training.impala_learner import ImpalaLearner
from playscale.training.losses import Costs, Trajectory, actor_critic_losses
from playscale.training.metrics import DiscountedSums, Moments
from playscale.training.run_state import new_state

CPU = torch.device("cpu")
T, B = 20, 8
GAMMA = 0.9
ASKED = Reinforcement(
    game="recall", discount=GAMMA, rho_bar=1.2, c_bar=0.8, baseline_cost=0.7, entropy_cost=0.02,
    reward_scale="running", reward_clip=1.5, value_warmup=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def actors_and_state():
    """One actor, whose games are truncated after 80 steps or end by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        state = new_state(toy_run.policy(), {})
        with ActorPool(
            state.policy.config, actors=1, workers=1, environments=B, unroll=T, max_steps=80, device="cpu", seed=(2,)
        ) as actors:
            yield actors, state


def expected_loss(state, arrays, asked, spread):
    """From the arrays of a batch [T + 1, B, ...], before the step; `spread`: of rewards, the batch's included."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    start = {name: tensors[f"state.{name}"][0] for name in ("hidden", "cell")}
    with torch.no_grad():
        logits, values, _ = state.policy(tensors, start)
    reward = np.clip(arrays["reward"] / spread, -asked.reward_clip, asked.reward_clip)
    seen = Trajectory(
        tensors["action"][:T], tensors["log_prob"][:T], torch.from_numpy(reward).float(), tensors["discount"],
        tensors["valid"][:T],
    )  # fmt: skip
    losses = actor_critic_losses(logits[:T], values[:T], values[T], seen, None, asked.rho_bar, asked.c_bar)
    return losses.total(Costs(1.0, asked.baseline_cost, asked.entropy_cost, 0.0)).item()


def test_steps_are_as_put_together_by_hand(actors_and_state):
    """Losses, what is counted, and what the discounts say of how episodes ended."""
    actors, state = actors_and_state
    experience = Experience(actors, GAMMA)
    learner = ImpalaLearner(state, ASKED, 1e9, actors, experience, None, CPU, "fp32", Group())
    stream, seen, episodes = experience.stream(), 0, []
    moments = Moments()
    sums = DiscountedSums(GAMMA, moments)
    for _ in range(12):
        arrays = next(stream)
        (batch,) = batches(iter([arrays]), CPU)
        assert {array.shape[:2] for name, array in arrays.items() if "state" not in name} == {(T + 1, B), (T, B)}
        filled = experience.origins[0].filled
        valid, over = arrays["valid"][:T], ~arrays["valid"][1:]
        terminated = valid & over & (arrays["discount"] == 0)
        truncated = valid & over & (arrays["discount"] > 0)
        assert terminated.sum() == sum(episode.terminated for episode in filled.episodes)
        assert truncated.sum() == sum(not episode.terminated for episode in filled.episodes)
        np.testing.assert_allclose(arrays["discount"], np.float32(GAMMA) * (valid & ~terminated))
        seen, episodes = seen + valid.sum(), episodes + filled.episodes
        sums.add(0, arrays["reward"], over)
        expected = expected_loss(state, arrays, ASKED, moments.spread)
        step = learner.step(batch, {}, 3e-3)
        assert step.loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert step.grad_norm > 0
        assert state.tally.rewards == moments
    assert (state.tally.interactions, state.tally.episodes) == (seen, len(episodes))
    assert state.tally.return_mean == pytest.approx(np.mean([episode.score for episode in episodes]))
    assert len({episode.terminated for episode in episodes}) == 2
    report = learner.report()
    assert report["interactions"] == seen
    # One actor, who begins the next unroll when this one was copied, while the learner takes the step on it.
    assert 0 <= report["policy_lag"] <= report["policy_lag_max"] <= 1
    assert sum(share for name, share in report.items() if name.startswith("actor_share_")) == pytest.approx(1)
    assert report["reward_spread"] == state.tally.rewards.spread != 1
    assert report["train_return"] == state.tally.return_mean
    assert report["actor_restarts"] == 0


def test_costs_change_with_interactions(monkeypatch):
    toy_game.register(monkeypatch)
    asked = ASKED.model_copy(update={"value_warmup": 1000, "teacher_cost": 0.8, "teacher_half_life": 500.0})
    learner = object.__new__(ImpalaLearner)
    learner._asked, learner._state = asked, new_state(toy_run.policy(), {})
    found = []
    for interactions in (0, 500, 999, 1000, 5000):
        learner._state.tally.interactions = interactions
        found.append(learner._costs())
    assert [costs.policy for costs in found] == [0, 0, 0, 1, 1]
    assert [costs.teacher for costs in found] == pytest.approx([0.8, 0.4, 0.8 * 0.5**1.998, 0.2, 0.8 / 1024])
    assert {(costs.baseline, costs.entropy) for costs in found} == {(0.7, 0.02)}
