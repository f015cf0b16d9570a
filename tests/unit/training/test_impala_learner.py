"""IMPALA's step on real actors' unrolls, against the same put together by hand. T unroll, B batch."""

from contextlib import closing

import numpy as np
import pytest
import torch
import toy_game
import toy_run

from playscale.rollout.unroll import RUNNING, TERMINATED
from playscale.training.distributed import Group
from playscale.training.impala import Impala
from playscale.training.losses import Costs, Trajectory, actor_critic_losses
from playscale.training.metrics import DiscountedReturns, Moments
from playscale.training.run_state import new_state

T, B = 20, 8
GAMMA = 0.9
SETTINGS = {
    "actors": 1, "workers": 1, "max_steps": 80, "discount": GAMMA, "rho_bar": 1.2, "c_bar": 0.8, "baseline_cost": 0.7,
    "entropy_cost": 0.02, "reward_scale": "running", "reward_clip": 1.5, "value_warmup": 0,
}  # fmt: skip


def make(**rl):
    """IMPALA with one actor, whose episodes are truncated after 80 steps or end by themselves."""
    config = toy_run.config(100, batch=B, unroll=T, clip_norm=1e9, seed=2, device="cpu", rl=SETTINGS | rl)
    return Impala(config, Group())


def expected_loss(state, unroll, rl, spread):
    """The loss of an unroll before the step; `spread`: of discounted rewards, the unroll's included."""
    tensors = {name: torch.from_numpy(array) for name, array in unroll.frames.items()}
    recurrent = {name: torch.from_numpy(array) for name, array in unroll.recurrent.items()}
    with torch.no_grad():
        logits, values, _ = state.policy(tensors, recurrent)
    reward = np.clip(unroll.rewards / spread, -rl.reward_clip, rl.reward_clip)
    ended, valid = unroll.frames["ended"][:T], unroll.frames["valid"][:T]
    discount = np.float32(GAMMA) * (valid & (ended != TERMINATED))
    trajectory = Trajectory(
        tensors["action"][:T], tensors["log_prob"][:T], torch.from_numpy(reward).float(),
        torch.from_numpy(discount.astype(np.float32)), tensors["valid"][:T],
    )  # fmt: skip
    losses = actor_critic_losses(logits[:T], values[:T], values[T], trajectory, None, rl.rho_bar, rl.c_bar)
    return losses.total(Costs(1.0, rl.baseline_cost, rl.entropy_cost, 0.0)).item()


def test_steps_are_as_put_together_by_hand(monkeypatch):
    """Losses, counts, and discounts by how the episodes ended."""
    toy_game.register(monkeypatch)
    state, interactions, episodes = new_state(toy_run.policy(), {}), 0, []
    moments = Moments()
    returns = DiscountedReturns(GAMMA, moments)
    method = make()
    with closing(method):
        method.begin(state)
        with method.batches() as batches:
            for _ in range(12):
                batch = next(batches)
                unroll, rl = batch.unroll, method.config.rl
                shapes = {tensor.shape[:2] for tensor in batch.tensors.values()}
                assert shapes == {(T + 1, B), (T, B)}
                valid, ended = unroll.frames["valid"][:T], unroll.frames["ended"][:T]
                over = ~unroll.frames["valid"][1:]
                np.testing.assert_array_equal(over & valid, ended != RUNNING)
                terminated = ended == TERMINATED
                assert terminated.sum() == sum(episode.terminated for episode in unroll.episodes)
                assert (over & valid & ~terminated).sum() == sum(not e.terminated for e in unroll.episodes)
                np.testing.assert_allclose(batch.tensors["discount"], np.float32(GAMMA) * (valid & ~terminated))
                interactions, episodes = interactions + valid.sum(), episodes + unroll.episodes
                returns.add(0, unroll.rewards, over, unroll.frames["done"][0])
                expected = expected_loss(state, unroll, rl, moments.spread)
                step = method.update(batch, 3e-3)
                assert step.loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
                assert step.grad_norm > 0
                assert state.play.rewards == moments
        assert (state.play.interactions, state.play.episodes) == (interactions, len(episodes))
        assert state.play.return_mean == pytest.approx(np.mean([episode.score for episode in episodes]))
        assert len({episode.terminated for episode in episodes}) == 2
        report = method.report()
    assert report["interactions"] == interactions
    # One unroll is read ahead and one is being played, while the learner takes the step on a third.
    assert 0 <= report["policy_lag"] <= report["policy_lag_max"] <= 3
    assert sum(share for name, share in report.items() if name.startswith("actor_share_")) == pytest.approx(1)
    assert report["reward_spread"] == state.play.rewards.spread != 1
    assert report["train_return"] == state.play.return_mean
    assert report["actor_restarts"] == 0


def test_costs_change_with_interactions(monkeypatch):
    toy_game.register(monkeypatch)
    method = make(value_warmup=1000, teacher_cost=0.8, teacher_half_life=500.0)
    method.state = new_state(toy_run.policy(), {})
    found = []
    for interactions in (0, 500, 999, 1000, 5000):
        method.state.play.interactions = interactions
        found.append(method._costs())
    assert [costs.policy for costs in found] == [0, 0, 0, 1, 1]
    assert [costs.teacher for costs in found] == pytest.approx([0.8, 0.4, 0.8 * 0.5**1.998, 0.2, 0.8 / 1024])
    assert {(costs.baseline, costs.entropy) for costs in found} == {(0.7, 0.02)}
