"""What training measures of itself from step to step, and the watch for numbers that are not finite.

Where the seconds of a run went, by part; the parts add up to the time watched.

Rewards in units of their own returns' spread, so that learning rates and costs mean the same in every game.

T unroll, E environments of an actor.

What a run by reinforcement learning has been through, over all its restarts.

What somebody who watches a run from outside is told of it, at each report.
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

    monitored = True  # counted as an error of its own kind (cells.py)

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
        """Note step number `step` (from 1): its loss and gradient norm (scalars on the device), and its games."""
        self._pending.append((step, torch.stack((loss.detach().float(), grad_norm.detach().float())), game_ids))

    @property
    def pending(self) -> int:
        return len(self._pending)

    def settle(self, samples_per_step: int, game_key: Callable[[int], str]) -> None:
        """Count the pending steps; NonFiniteError at the first bad one. `game_key`: a game's key by its id."""
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
        """Means over the settled steps since the last report; starts anew. There must have been one."""
        assert self.steps
        means = {"train_loss": self.loss / self.steps, "grad_norm": self.grad_norm / self.steps}
        self.loss, self.grad_norm, self.steps = 0.0, 0.0, 0
        return means


Part = Literal["data", "step", "dev", "save"]


class PhaseTimer:
    """Wall seconds by part: waiting for data, optimizer steps, dev loss, saving. Kept over restarts of a run."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = {"data": 0.0, "step": 0.0, "dev": 0.0, "save": 0.0, **(seconds or {})}
        self._told = dict(self.seconds)

    @contextmanager
    def spent(self, part: Part) -> Iterator[None]:
        """Count the time inside as spent on `part`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begin

    @property
    def training(self) -> float:
        """Seconds that samples_per_second is counted over: those of data and steps."""
        return self.seconds["data"] + self.seconds["step"]

    def untold(self) -> dict[str, float]:
        """Seconds by part since this was last asked, or since the run went on."""
        since = {part: seconds - self._told[part] for part, seconds in self.seconds.items()}
        self._told = dict(self.seconds)
        return since


FLOOR = 1e-4


@dataclass
class Moments:
    """Of values seen so far: how many, their mean, the sum of squared deviations from it."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Merge in a batch of values (Chan, Golub and LeVeque 1979)."""
        count, mean = float(values.size), float(values.mean())
        gap, total = mean - self.mean, self.count + count
        self.squares += float(((values - mean) ** 2).sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total

    @property
    def spread(self) -> float:
        """Their standard deviation; 1 before anything differs."""
        return max(FLOOR, math.sqrt(self.squares / self.count)) if self.squares > 0 else 1.0


class DiscountedSums:
    """The discounted sum of rewards up to each step of every environment: what the spread is taken of, as VecNormalize
    of Stable-Baselines3 does.
    """

    def __init__(self, discount: float, moments: Moments) -> None:
        self._discount, self._moments = discount, moments
        self._sums: dict[int, np.ndarray] = {}

    def add(self, actor: int, reward: np.ndarray, over: np.ndarray) -> None:
        """Rewards [T, E] of one actor's next unroll; over [T, E]: with this action an episode ended."""
        sums = self._sums.get(actor, np.zeros(reward.shape[1]))
        seen = np.empty(reward.shape)
        for t in range(len(reward)):
            seen[t] = sums = sums * self._discount + reward[t]
            sums = sums * ~over[t]
        self._sums[actor] = sums
        self._moments.add(seen)


RECENT = 100  # episodes that the mean return of training is taken over


class PlayStatistics:
    """Counts, the returns of the last episodes, the spread of rewards. `to_dict()` is JSON, from which it is made."""

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
        """Over the last episodes; None before the first has ended."""
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
"""Of what is reported: the gauge that shows it."""
ACTOR_SHARE = "actor_share_"


class MonitoredRun:
    """Of a stretch of a run, told by the group's first process for all of it."""

    def __init__(self, state: RunState, device: torch.device, flops_per_sample: int) -> None:
        self._state, self._device, self._flops_per_sample = state, device, flops_per_sample
        self._peak = peak_flops(device)
        self._interactions, self._episodes = state.tally.interactions, state.tally.episodes

    def add(self, samples: int) -> None:
        """So many samples were trained on since this was last said."""
        count("samples", samples)
        count("model_flops", self._flops_per_sample * samples)
        for part, seconds in self._state.watch.untold().items():
            count("training_seconds", seconds, part)
        tally = self._state.tally
        count("environment_steps", tally.interactions - self._interactions)
        count("episodes", tally.episodes - self._episodes)
        self._interactions, self._episodes = tally.interactions, tally.episodes

    def show(self, metrics: Mapping[str, float], devices: int) -> None:
        """What a report says, of so many devices together."""
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
        if self._device.type == "cuda":  # kept by torch on the host: the device is not asked
            gauge("device_memory_bytes", torch.cuda.memory_allocated(self._device), "allocated")
            gauge("device_memory_bytes", torch.cuda.memory_reserved(self._device), "reserved")
            gauge("device_memory_bytes", torch.cuda.max_memory_allocated(self._device), "peak")


def peak_flops(device: torch.device) -> float | None:
    """Dense 16-bit peak FLOP/s: as PLAYSCALE_PEAK_FLOPS says, else by the data sheet of a CUDA device that is known.

    ValueError when the variable is no positive number.
    """
    if asked := os.environ.get(PEAK):
        try:
            peak = float(asked)
        except ValueError:
            peak = 0.0
        if not 0 < peak < float("inf"):
            raise ValueError(f"{PEAK}: {asked!r} is no number of FLOP/s; give one such as 989e12, or unset it")
        return peak
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).lower().replace("-", " ").replace("geforce rtx ", "rtx").split()
    return next((GPUS[word].peak for word in words if word in GPUS), None)
