"""The measurements of a training run: losses, seconds by activity, play statistics, and the gauges of the monitor.

T unroll, E environments of an actor.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from playscale.rollout.episode import Episode
from playscale.scaling.gpu import GPUS
from playscale.tracking.monitor import count, gauge

if TYPE_CHECKING:
    from playscale.training.run_state import RunState


class NonFiniteError(RuntimeError):
    """The loss or its gradient became infinite or NaN. `record` describes the step and the data it saw."""

    monitored = True  # counted as an error of its own kind (trainer.py)

    def __init__(self, what: str, value: float, step: int, samples: int, games: list[str]) -> None:
        self.record = {"what": what, "value": str(value), "step": step, "samples": samples, "games": games}
        in_games = f", in a batch of games {', '.join(games)}" if games else ""
        super().__init__(
            f"{what} became {value} at step {step} ({samples:,} samples){in_games}; "
            "the last good state is kept: a lower learning rate or clip norm in another output directory may help"
        )


@dataclass
class LossMeter:
    """Sums since the last report (settled steps only).

    A step's loss and gradient norm stay on the device until `settle`, so that the device never waits for a step to be
    counted. Sums are added step by step, so they do not depend on how often they are settled.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    steps: int = 0
    _pending: list[tuple[int, torch.Tensor, list[int]]] = field(default_factory=list)

    def add(self, step: int, loss: torch.Tensor, grad_norm: torch.Tensor, game_ids: list[int]) -> None:
        """Add step number `step` (from 1): its loss and gradient norm (scalars on the device), and its games."""
        self._pending.append((step, torch.stack((loss.detach().float(), grad_norm.detach().float())), game_ids))

    @property
    def pending(self) -> int:
        return len(self._pending)

    def settle(self, samples_per_step: int, game_key: Callable[[int], str]) -> None:
        """Count the pending steps; NonFiniteError at the first that is not finite. `game_key`: a name by id."""
        if not self._pending:
            return
        values = torch.stack([value for _, value, _ in self._pending]).tolist()
        for (step, _, game_ids), (loss, grad_norm) in zip(self._pending, values, strict=True):
            for what, value in (("loss", loss), ("gradient norm", grad_norm)):
                if not math.isfinite(value):
                    games = [game_key(index) for index in game_ids]
                    raise NonFiniteError(what, value, step, step * samples_per_step, games)
            self.loss += loss
            self.grad_norm += grad_norm
            self.steps += 1
        self._pending.clear()

    def report(self) -> dict[str, float]:
        """Return means over the settled steps since the last report, of which there must be one, and reset the sums."""
        assert self.steps
        means = {"train_loss": self.loss / self.steps, "grad_norm": self.grad_norm / self.steps}
        self.loss, self.grad_norm, self.steps = 0.0, 0.0, 0
        return means


Activity = Literal["data", "step", "dev", "save"]


class PhaseTimer:
    """Wall seconds by activity: waiting for data, optimizer steps, dev loss, saving. Kept over restarts of a run."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = {"data": 0.0, "step": 0.0, "dev": 0.0, "save": 0.0, **(seconds or {})}
        self._reported = dict(self.seconds)

    @contextmanager
    def spent(self, activity: Activity) -> Iterator[None]:
        """Count the time inside as spent on `activity`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - begin

    @property
    def training(self) -> float:
        """Seconds of data and steps, which samples_per_second is computed from."""
        return self.seconds["data"] + self.seconds["step"]

    def since_last_call(self) -> dict[str, float]:
        """Return seconds by activity since the last call, or since the run was started or resumed."""
        since = {activity: seconds - self._reported[activity] for activity, seconds in self.seconds.items()}
        self._reported = dict(self.seconds)
        return since


FLOOR = 1e-4


@dataclass
class Moments:
    """Running moments of values: their count, mean, and sum of squared deviations from the mean."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add a batch of values (Chan, Golub and LeVeque 1979)."""
        count, mean = float(values.size), float(values.mean())
        gap, total = mean - self.mean, self.count + count
        self.squares += float(((values - mean) ** 2).sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total

    @property
    def spread(self) -> float:
        """Standard deviation of the values; 1 while all are equal."""
        return max(FLOOR, math.sqrt(self.squares / self.count)) if self.squares > 0 else 1.0


class DiscountedReturns:
    """Discounted sums of rewards up to each step of every environment, added to running moments.

    Rewards are divided by the spread of these, as VecNormalize of Stable-Baselines3 does, so that learning rates and
    costs mean the same in every game.
    """

    def __init__(self, discount: float, moments: Moments) -> None:
        self._discount, self._moments = discount, moments
        self._sums: dict[int, np.ndarray] = {}

    def add(self, actor: int, reward: np.ndarray, ended: np.ndarray, begins: np.ndarray) -> None:
        """Add the rewards of one actor's next unroll.

        Args:
            actor: Its number, which the one that takes the place of a dead actor keeps.
            reward: [T, E].
            ended: [T, E]; the episode ended with this action.
            begins: [E]; the unroll begins with the first frame of an episode.
        """
        sums = self._sums.get(actor, np.zeros(reward.shape[1])) * ~begins
        values = np.empty(reward.shape)
        for t in range(len(reward)):
            values[t] = sums = sums * self._discount + reward[t]
            sums = sums * ~ended[t]
        self._sums[actor] = sums
        self._moments.add(values)


RECENT = 100  # episodes that the mean return of training is taken over


class PlayStatistics:
    """The play of a run over all its restarts: counts, returns of the last episodes, moments of discounted rewards.

    `PlayStatistics(saved)` restores what to_dict() returned, which is JSON.
    """

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        saved = saved or {}
        self.interactions = int(saved.get("interactions", 0))
        self.episodes = int(saved.get("episodes", 0))
        self.returns: deque[float] = deque(saved.get("returns", []), RECENT)
        self.rewards = Moments(**saved.get("rewards", {}))

    def add(self, interactions: int, episodes: list[Episode]) -> None:
        self.interactions += interactions
        self.episodes += len(episodes)
        self.returns += [episode.score for episode in episodes]

    def to_dict(self) -> dict[str, Any]:
        return {
            "interactions": self.interactions,
            "episodes": self.episodes,
            "returns": list(self.returns),
            "rewards": vars(self.rewards).copy(),
        }

    @property
    def return_mean(self) -> float | None:
        """Mean over the last episodes; None before the first has ended."""
        return sum(self.returns) / len(self.returns) if self.returns else None


PEAK = "PLAYSCALE_PEAK_FLOPS"
GAUGES = {
    "train_loss": "train_loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "train_return": "train_return",
    "entropy": "policy_entropy_nats",
    "policy_lag": "policy_lag_updates",
    "policy_lag_max": "policy_lag_max_updates",
}
"""The gauge of the monitor for each metric that has one."""
ACTOR_SHARE = "actor_share_"


class MonitoredRun:
    """Passes a run's counts and metrics to the monitor, for all processes of its group."""

    def __init__(self, state: RunState, device: torch.device, flops_per_sample: int) -> None:
        self._state, self._device, self._flops_per_sample = state, device, flops_per_sample
        self._peak = peak_flops(device)
        self._interactions, self._episodes = state.play.interactions, state.play.episodes

    def add(self, samples: int) -> None:
        """Count `samples` trained on since the last call, and what was spent and played for them."""
        count("samples", samples)
        count("model_flops", self._flops_per_sample * samples)
        for activity, seconds in self._state.timer.since_last_call().items():
            count("training_seconds", seconds, activity)
        play = self._state.play
        count("environment_steps", play.interactions - self._interactions)
        count("episodes", play.episodes - self._episodes)
        self._interactions, self._episodes = play.interactions, play.episodes

    def show(self, metrics: Mapping[str, float], devices: int) -> None:
        """Set the gauges from a report's metrics, which are of `devices` devices together."""
        if self._peak:
            peak = self._peak * devices
            gauge("device_peak_flops_per_second", peak)
            rate = self._flops_per_sample * metrics["samples_per_second"]
            gauge("model_flops_utilization_ratio", rate / peak)
        for name, value in metrics.items():
            if name in GAUGES:
                gauge(GAUGES[name], value)
            elif name.startswith(ACTOR_SHARE):
                gauge("actor_time_ratio", value, name.removeprefix(ACTOR_SHARE))
        if self._device.type == "cuda":  # torch keeps these on the host: nothing waits for the device
            gauge("device_memory_bytes", torch.cuda.memory_allocated(self._device), "allocated")
            gauge("device_memory_bytes", torch.cuda.memory_reserved(self._device), "reserved")
            gauge("device_memory_bytes", torch.cuda.max_memory_allocated(self._device), "peak")


def peak_flops(device: torch.device) -> float | None:
    """Return the dense 16-bit peak FLOP/s: PLAYSCALE_PEAK_FLOPS, else from the data sheet of a known CUDA device.

    ValueError when the variable is no positive number.
    """
    if text := os.environ.get(PEAK):
        try:
            peak = float(text)
        except ValueError:
            peak = 0.0
        if not 0 < peak < float("inf"):
            raise ValueError(f"{PEAK}: {text!r} is no number of FLOP/s; give one such as 989e12, or unset it")
        return peak
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).lower().replace("-", " ").replace("geforce rtx ", "rtx").split()
    return next((GPUS[word].peak for word in words if word in GPUS), None)
