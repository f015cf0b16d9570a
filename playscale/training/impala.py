"""IMPALA: a policy learns from its own play (Espeholt et al., arXiv 1802.01561).

Actors play in processes of their own with weights a few updates old; the learner corrects for that with V-trace. With
a teacher the run is kickstarted (Schmitt et al., arXiv 1803.03835).

T unroll, B batch (the environments of one actor), A actions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from playscale.agents.checkpoint import load_policy
from playscale.agents.device import autocast
from playscale.agents.flops import forward_flops
from playscale.agents.policy import Policy, PolicyConfig, build_policy, restrict
from playscale.agents.sizing import config_for_size
from playscale.config import TRAINING_SEED, Reinforcement, TrainConfig
from playscale.games.game import Game, get_game
from playscale.processes.cores import usable_cores
from playscale.rollout.actor import TRAINING_SEEDS
from playscale.rollout.actor_pool import ActorPool
from playscale.rollout.env_pool import PLAYING, play_folder
from playscale.rollout.episode import SeedRanges
from playscale.training.batches import ActorBatch, actor_batches
from playscale.training.distributed import Group
from playscale.training.losses import Costs, Losses, Trajectory, actor_critic_losses
from playscale.training.method import CellUsage, Method
from playscale.training.metrics import DiscountedReturns
from playscale.training.optimization import OptimizerStep
from playscale.training.run_state import RunState


@dataclass(frozen=True)
class TeacherCheckpoint:
    """A teacher, limited to the actions of the game that is played.

    Attributes:
        training_flops: Training compute of the teacher; 0 where its checkpoint does not say.
        train_seeds: Seeds of the games that it may have learned from.
    """

    uri: str
    policy: Policy
    training_flops: float
    train_seeds: SeedRanges

    @classmethod
    def load(cls, uri: str, game: Game) -> TeacherCheckpoint:
        """Raises ValueError when there is no checkpoint, or it is damaged or of a game without these actions."""
        policy, checkpoint = load_policy(uri)
        point = checkpoint.meta.get("point") or {}
        flops, policy = float(point.get("flops") or 0), restrict(policy, game)
        return cls(uri, policy, flops, checkpoint.train_seeds)

    @cached_property
    def forward_flops(self) -> int:
        return forward_flops(self.policy)

    def as_student(self, game: Game, config: TrainConfig) -> Policy:
        """Return a copy with a value head, to go on training; ValueError when the config has another size or core."""
        student = restrict(self.policy, game, value_head=True)
        if student.config.size != config.size or student.config.core != config.core:
            raise ValueError(
                f"{self.uri}: a teacher of size {student.config.size} ({student.config.core}); a run that starts "
                f"from it has that size and core, not {config.size} ({config.core}); or start from scratch"
            )
        return student


class Teacher:
    """The frozen teacher, which sees every unroll and keeps a recurrent state for each actor's episodes."""

    def __init__(self, policy: Policy, device: torch.device, precision: str) -> None:
        self._policy = policy.to(device).eval()
        self._device, self._precision = device, precision
        self._states: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def logits(self, batch: ActorBatch) -> Tensor:
        """Return [T, B, A] for all frames of the unroll but the last, which is the first of the actor's next one."""
        frames = {name: value[:-1] for name, value in batch.tensors.items()}
        steps, environments = frames["done"].shape
        state = self._states.get(batch.unroll.actor) or self._policy.initial_state(environments, self._device)
        with autocast(self._device, self._precision):
            output = self._policy(frames, state, [step for step in batch.resets if step < steps])
        self._states[batch.unroll.actor] = output.state
        return output.logits.float()


class Impala(Method):
    """Learns from actors of its own, which start with the first begin() and play on until close().

    Raises:
        ValueError: There is no such game or teacher, or the teacher does not fit.
    """

    reports = 200  # more than for cloning: returns are noisier than losses

    def __init__(self, config: TrainConfig, group: Group, out: Path | None = None) -> None:
        """The files of running games lie in `out`, by default in the temporary directory."""
        super().__init__(config, group)
        assert config.rl is not None
        self._out = out
        self._rl: Reinforcement = config.rl
        self._game = get_game(self._rl.game)
        self.optimizer_name = self._rl.optimizer
        self.policy_config = policy_config(config, self._game)
        self.train_seeds = ((TRAINING_SEED, TRAINING_SEED + TRAINING_SEEDS - 1),)
        self._checkpoint = TeacherCheckpoint.load(self._rl.teacher, self._game) if self._rl.teacher else None
        if self._checkpoint is not None:
            self.train_seeds = (*self._checkpoint.train_seeds, *self.train_seeds)
            if self._rl.start == "teacher":
                self.policy_config = self._checkpoint.as_student(self._game, config).config
        self._actors: ActorPool | None = None
        self._teacher: Teacher | None = None
        self._resources = ExitStack()

    def initial_policy(self) -> Policy:
        if self._checkpoint is not None and self._rl.start == "teacher":
            return self._checkpoint.as_student(self._game, self.config).to(self.device).train()
        return build_policy(self.policy_config, self.device)

    def begin(self, state: RunState) -> None:
        """Train this state from now on: its weights go to the actors, and unrolls of another state are left out."""
        if self._actors is None:
            self._start_actors(state.step)
        assert self._actors is not None
        another = getattr(self, "state", None) is not state
        super().begin(state)
        self._losses: list[Tensor] = []
        self._lags: list[int] = []
        self._seconds: Counter[str] = Counter()
        self._version = self._actors.publish(state.policy)
        if another:
            self._first_version = self._version
            self._returns = DiscountedReturns(self._rl.discount, state.play.rewards)

    def _start_actors(self, step: int) -> None:
        actors, workers = actor_counts(self._rl, self.device, self.group)
        folder = None
        if self._out is not None:
            folder = self._resources.enter_context(play_folder(self._out / f"{PLAYING}-{self.group.rank}"))
        self._actors = self._resources.enter_context(
            ActorPool(
                self.policy_config,
                actors=actors,
                workers=workers,
                environments=self.config.batch // self.group.size,
                unroll=self.config.unroll,
                max_steps=self._rl.max_steps,
                device=str(self.device),
                seed=(self.config.seed, self.group.rank, step),
                folder=folder,
            )
        )
        ahead = actor_batches(self._actors.unrolls(), self._rl.discount, self.device)
        self._ahead = self._resources.enter_context(closing(ahead))
        self._resources.callback(self._actors.stop)  # first: the thread that reads ahead waits for actors
        if self._checkpoint is not None and self._rl.teacher_cost:
            self._teacher = Teacher(self._checkpoint.policy, self.device, self.precision)

    def batches(self) -> AbstractContextManager[Iterator[ActorBatch]]:
        return nullcontext(self._own_batches())

    def _own_batches(self) -> Iterator[ActorBatch]:
        """Yield the unrolls that were played with weights of the state in training.

        The teacher also sees the others, because the episodes go on after them.
        """
        for batch in self._ahead:
            if batch.unroll.version >= self._first_version:
                yield batch
            elif self._teacher is not None:
                self._teacher.logits(batch)

    def update(self, batch: ActorBatch, rate: float) -> OptimizerStep:  # type: ignore[override] # of its own batches
        assert self._actors is not None
        unroll = batch.unroll
        self._returns.add(unroll.actor, unroll.rewards, unroll.episode_ended, unroll.frames["done"][0])
        output = self.optimizer.forward(batch.tensors, batch.recurrent, batch.resets)
        teacher = None if self._teacher is None else self._teacher.logits(batch)
        assert output.value is not None
        logits, values = output.logits[:-1].float(), output.value.float()
        losses = actor_critic_losses(
            logits, values[:-1], values[-1], self._trajectory(batch), teacher, self._rl.rho_bar, self._rl.c_bar
        )
        step = self.optimizer.step(losses.total(self._costs()), rate)
        self._losses.append(torch.stack(losses).detach())
        self._lags.append(self._version - unroll.version)
        self._seconds.update(unroll.seconds)
        for interactions, episodes in self.group.all((unroll.interactions, unroll.episodes)):
            self.state.play.add(interactions, episodes)
        self._version = self._actors.publish(self.state.policy)
        return step

    def _trajectory(self, batch: ActorBatch) -> Trajectory:
        """Return the actions taken and their rewards, scaled and clipped; a group scales by the mean of its spreads."""
        reward = batch.tensors["reward"]
        if self._rl.reward_scale == "running":
            spread = torch.tensor(self.state.play.rewards.spread, device=self.device)
            reward = reward / self.group.mean(spread)
        if self._rl.reward_clip is not None:
            reward = reward.clamp(-self._rl.reward_clip, self._rl.reward_clip)
        action, log_prob, valid = (batch.tensors[name][:-1] for name in ("action", "log_prob", "valid"))
        return Trajectory(action, log_prob, reward, batch.tensors["discount"], valid)

    def _costs(self) -> Costs:
        interactions = self.state.play.interactions
        return Costs(
            policy=float(interactions >= self._rl.value_warmup),
            baseline=self._rl.baseline_cost,
            entropy=self._rl.entropy_cost,
            teacher=self._rl.teacher_cost * 0.5 ** (interactions / self._rl.teacher_half_life),
        )

    def report(self) -> dict[str, float]:
        """Return means over the steps since the last report, and the mean return of the last episodes, if any ended."""
        assert self._actors is not None
        play = self.state.play
        losses = dict(zip(Losses._fields, torch.stack(self._losses).mean(0).tolist(), strict=True))
        metrics = {
            "policy_loss": losses["policy"],
            "baseline_loss": losses["baseline"],
            "entropy": losses["entropy"],
            "policy_lag": sum(self._lags) / len(self._lags),
            "policy_lag_max": float(max(self._lags)),
            "interactions": float(play.interactions),
            "episodes": float(play.episodes),
            "reward_spread": play.rewards.spread,
            "actor_restarts": float(self._actors.restarts),
        }
        total = sum(self._seconds.values())
        metrics |= {f"actor_share_{part}": seconds / total for part, seconds in self._seconds.items()}
        if self._teacher is not None:
            metrics |= {"teacher_divergence": losses["teacher"], "teacher_cost": self._costs().teacher}
        if play.return_mean is not None:
            metrics["train_return"] = play.return_mean
        self._losses, self._lags, self._seconds = [], [], Counter()
        return metrics

    def usage(self, state: RunState) -> CellUsage:
        """Return interactions, and the compute beside the learner's.

        That is acting (a forward pass per frame), the teacher (its training and its forward passes here), and the total
        of learner and teacher.
        """
        frames, teacher = state.step * self.config.samples_per_step, 0.0
        if self._checkpoint is not None:
            forward = frames * self._checkpoint.forward_flops if self._rl.teacher_cost else 0
            teacher = forward + self._checkpoint.training_flops
        acting = frames * forward_flops(self.policy_config)
        extra = {
            "flops_acting": float(acting),
            "flops_teacher": teacher,
            "flops_total": 3.0 * acting + teacher,
            "episodes_trained": float(state.play.episodes),
        }
        if state.play.return_mean is not None:
            extra["train_return"] = state.play.return_mean
        return CellUsage(state.play.interactions, extra)

    def close(self) -> None:
        self._resources.close()


def policy_config(config: TrainConfig, game: Game) -> PolicyConfig:
    """Return the policy of the config's size, with a value head."""
    return replace(config_for_size(game, config.size, config.core), value_head=True)


def actor_counts(rl: Reinforcement, device: torch.device, group: Group) -> tuple[int, int]:
    """Return the number of actors of this process, and of environment processes for each actor.

    While one actor's environments step, another's policy computes, so there are two at least. On a CPU there is one for
    each core but the learner's; actors share a GPU, and the cores are for environments.
    """
    cores = max(1, usable_cores() // group.size)
    actors = rl.actors or (2 if device.type == "cuda" else max(2, cores - 1))
    workers = rl.workers or (cores if device.type == "cuda" else actors)
    return actors, max(1, workers // actors)
