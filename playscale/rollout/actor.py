"""An actor: a process with a copy of the policy, which fills its unroll buffer each time the learner lets it go on.

It answers GO with UnrollStats. T unroll, E environments, A actions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from playscale.agents.policy import PolicyConfig, build_policy
from playscale.config import TRAINING_SEED
from playscale.games.game import GAMES, get_game
from playscale.processes.worker import Handler
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import Episode, EpisodeSpec
from playscale.rollout.shared_weights import SharedWeights
from playscale.rollout.unroll import RUNNING, TERMINATED, TRUNCATED, UnrollBuffer

ENTRY = "playscale.rollout.actor:actor_worker"
GO = "go"
TRAINING_SEEDS = 2**30
"""Number of seeds, from TRAINING_SEED on, that training episodes are drawn from."""


@dataclass(frozen=True)
class ActorSetup:
    """Everything that an actor process needs.

    Attributes:
        games: The registry of games of the parent process, which may know more than are built in.
        seed: The actor's own seed; the seeds of its episodes and its actions follow from it.
        folder: Where running games keep their files; None is the temporary directory.
    """

    policy: PolicyConfig
    games: dict[str, str]
    workers: int
    environments: int
    unroll: int
    max_steps: int
    device: str
    seed: tuple[int, ...]
    buffer_fds: tuple[int, int]
    weights_fd: int
    folder: Path | None = None


class UnrollStats(NamedTuple):
    """The message that an unroll is complete: see the fields of the same names in Unroll.

    Of the seconds, `waiting` are those until the learner let the actor begin.
    """

    version: int
    interactions: int
    episodes: list[Episode]
    seconds: dict[str, float]


class Actor:
    """Plays the policy in its environments, one unroll after the other."""

    def __init__(self, setup: ActorSetup, environments: EnvPool) -> None:
        self._environments = environments
        self._policy = build_policy(setup.policy, setup.device).eval()
        state = self._policy.initial_state(setup.environments)
        columns = get_game(setup.policy.game).columns
        self._buffer = UnrollBuffer(columns, state, setup.unroll, setup.environments, setup.buffer_fds)
        self._weights = SharedWeights(sum(p.numel() for p in self._policy.parameters()), setup.weights_fd)
        self._version = -1
        self._steps, self._count, self._device = setup.unroll, setup.environments, setup.device
        self._no_action = setup.policy.num_actions
        self._seeds = np.random.default_rng(setup.seed)
        self._generator = torch.Generator(setup.device).manual_seed(int(self._seeds.integers(2**62)))
        self._tasks: dict[int, EpisodeSpec] = {}
        self._state = state
        self._first = np.ones(setup.environments, bool)  # the frame is the first of an episode
        self._over = np.zeros(setup.environments, bool)  # the frame is the last of an episode
        self._previous = np.full(setup.environments, self._no_action)
        self._begin(range(setup.environments))
        self._idle_since = time.perf_counter()

    def handle(self, message: str) -> Iterator[UnrollStats]:
        assert message == GO
        yield self._fill()

    @torch.inference_mode()
    def _fill(self) -> UnrollStats:
        begun = time.perf_counter()
        self._version = self._weights.load(self._policy, self._version)
        waited = begun - self._idle_since
        seconds = {"waiting": waited, "weights": time.perf_counter() - begun, "forward": 0.0, "environment": 0.0}
        frames = self._buffer.frames
        for name, array in self._buffer.recurrent.items():
            array[:] = self._state[name].cpu().numpy()
        episodes: list[Episode] = []
        interactions = 0
        for t in range(self._steps):
            self._write_observation(frames, t)
            begun = time.perf_counter()
            action, frames["log_prob"][t] = self._act()
            seconds["forward"] += time.perf_counter() - begun
            interactions += self._count - int(self._over.sum())
            begun = time.perf_counter()
            frames["action"][t] = action
            frames["ended"][t], ended = self._advance(action)
            frames["reward"][t] = self._environments.arrays["reward"] * frames["valid"][t]
            seconds["environment"] += time.perf_counter() - begun
            episodes += ended
        self._write_observation(frames, self._steps)
        self._idle_since = time.perf_counter()
        return UnrollStats(self._version, interactions, episodes, seconds)

    def _write_observation(self, frames: dict[str, np.ndarray], t: int) -> None:
        """Write what is known of frame t before its action."""
        for name, array in self._environments.observation.items():
            frames[name][t] = array
        frames["prev_action"][t], frames["done"][t], frames["valid"][t] = self._previous, self._first, ~self._over

    def _act(self) -> tuple[np.ndarray, np.ndarray]:
        """Return actions [E] drawn from the policy, and their log probabilities [E]."""
        batch = {name: self._tensor(array)[None] for name, array in self._environments.observation.items()}
        batch["prev_action"], batch["done"] = self._tensor(self._previous)[None], self._tensor(self._first)[None]
        output = self._policy(batch, self._state, [0] if self._first.any() else [])
        self._state = output.state
        log_policy = output.logits[0].float().log_softmax(-1)
        noise = torch.empty_like(log_policy).exponential_(generator=self._generator)
        action = (log_policy.exp() / noise).argmax(-1)
        return action.cpu().numpy(), log_policy.gather(1, action[:, None])[:, 0].cpu().numpy()

    def _advance(self, action: np.ndarray) -> tuple[np.ndarray, list[Episode]]:
        """Step the running episodes and start new ones where the last observation was written.

        Returns the column `ended` [E], and the episodes that ended.
        """
        restart = np.flatnonzero(self._over)
        self._environments.arrays["action"][:] = action
        outcomes = dict(self._environments.step().ended)
        self._begin(restart.tolist())
        self._first[:], self._over[:], self._previous[:] = False, False, action
        self._first[restart], self._previous[restart] = True, self._no_action
        ended = np.full(self._count, RUNNING, np.uint8)
        for slot, outcome in outcomes.items():
            self._over[slot] = True
            ended[slot] = TERMINATED if outcome.terminated else TRUNCATED
        return ended, [Episode.of(self._tasks[slot], outcome) for slot, outcome in outcomes.items()]

    def _begin(self, slots: range | list[int]) -> None:
        if slots:
            tasks = {slot: EpisodeSpec(0, TRAINING_SEED + int(self._seeds.integers(TRAINING_SEEDS))) for slot in slots}
            self._tasks |= tasks
            self._environments.begin(tasks)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


@contextmanager
def actor_worker(setup: ActorSetup) -> Iterator[Handler]:
    """Make the handler of an actor; see WorkerProcess."""
    GAMES.update(setup.games)
    torch.set_num_threads(1)  # parallelism comes from the number of actors
    game = get_game(setup.policy.game)
    with EnvPool(game, setup.workers, setup.environments, setup.max_steps, folder=setup.folder) as environments:
        yield Actor(setup, environments).handle
