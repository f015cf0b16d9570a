"""IMPALA's optimizer step: forward over an unroll, V-trace, the actor-critic's losses, update, new weights for actors.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from playscale.config import Reinforcement
from playscale.rollout.actor_pool import ActorPool
from playscale.training.batches import Batch
from playscale.training.distributed import Group
from playscale.training.experience import STATE, Experience
from playscale.training.losses import Costs, Losses, Trajectory, actor_critic_losses
from playscale.training.optimization import OptimizerStep, Updates, autocast
from playscale.training.run_state import RunState
from playscale.training.teacher import Teacher


class ImpalaLearner(Updates):
    """Learns from the actors of its process, and hands them the weights after each step."""

    def __init__(
        self,
        state: RunState,
        asked: Reinforcement,
        clip_norm: float,
        actors: ActorPool,
        experience: Experience,
        teacher: Teacher | None,
        device: torch.device,
        precision: str,
        group: Group,
    ) -> None:
        super().__init__(state.policy, state.optimizer, clip_norm, device, precision, group)
        self._state, self._asked, self._teacher = state, asked, teacher
        self._actors, self._experience = actors, experience
        self._losses: list[Tensor] = []
        self._lags: list[int] = []
        self._seconds: Counter[str] = Counter()
        self._version = actors.publish(state.policy)
        experience.begin(state.tally.rewards, self._version)

    def step(self, batch: Batch, recurrent: dict[str, Tensor], rate: float) -> OptimizerStep:
        """One step on an unroll of T + 1 frames, which brings its own recurrent state; the loss is the group's mean."""
        origin = self._experience.take()
        tensors = batch.tensors
        start = {name.removeprefix(STATE): value[0] for name, value in tensors.items() if name.startswith(STATE)}
        with autocast(self.device, self.precision):
            logits, values, _ = self.forward(tensors, start, batch.resets)
        teacher = None if self._teacher is None else self._teacher.logits(batch, origin.actor)
        values = values.float()
        losses = actor_critic_losses(
            logits[:-1].float(), values[:-1], values[-1], self._seen(tensors), teacher,
            self._asked.rho_bar, self._asked.c_bar,
        )  # fmt: skip
        loss = losses.total(self._costs())
        grad_norm = self.update(loss, rate)
        self._lags.append(self._version - origin.filled.version)
        self._seconds.update(origin.filled.seconds)
        for interactions, episodes in self.group.all((origin.filled.interactions, origin.filled.episodes)):
            self._state.tally.add(interactions, episodes)
        self._losses.append(torch.stack(losses).detach())
        self._version = self._actors.publish(self._state.policy)
        return OptimizerStep(self.group.mean(loss.detach()), grad_norm, recurrent)

    def _seen(self, tensors: dict[str, Tensor]) -> Trajectory:
        """Rewards scaled and clipped as asked; the group's processes use the mean of their spreads."""
        reward = tensors["reward"]
        if self._asked.reward_scale == "running":
            spread = torch.tensor(self._state.tally.rewards.spread, device=self.device)
            reward = reward / self.group.mean(spread)
        if self._asked.reward_clip is not None:
            reward = reward.clamp(-self._asked.reward_clip, self._asked.reward_clip)
        action, log_prob, valid = (tensors[name][:-1] for name in ("action", "log_prob", "valid"))
        return Trajectory(action, log_prob, reward, tensors["discount"], valid)

    def _costs(self) -> Costs:
        asked, interactions = self._asked, self._state.tally.interactions
        return Costs(
            policy=float(interactions >= asked.value_warmup),
            baseline=asked.baseline_cost,
            entropy=asked.entropy_cost,
            teacher=asked.teacher_cost * 0.5 ** (interactions / asked.teacher_half_life),
        )

    def report(self) -> dict[str, float]:
        """Means over the steps since the last report; the recent episodes' mean return once one has ended."""
        tally = self._state.tally
        losses = dict(zip(Losses._fields, torch.stack(self._losses).mean(0).tolist(), strict=True))
        metrics = {
            "policy_loss": losses["policy"],
            "baseline_loss": losses["baseline"],
            "entropy": losses["entropy"],
            "policy_lag": sum(self._lags) / len(self._lags),
            "policy_lag_max": float(max(self._lags)),
            "interactions": float(tally.interactions),
            "episodes": float(tally.episodes),
            "reward_spread": tally.rewards.spread,
            "actor_restarts": float(self._actors.restarts),
        }
        spent = sum(self._seconds.values())
        metrics |= {f"actor_share_{part}": seconds / spent for part, seconds in self._seconds.items()}
        if self._teacher is not None:
            metrics |= {"teacher_divergence": losses["teacher"], "teacher_cost": self._costs().teacher}
        if tally.return_mean is not None:
            metrics["train_return"] = tally.return_mean
        self._losses, self._lags, self._seconds = [], [], Counter()
        return metrics
