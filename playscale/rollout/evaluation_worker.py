"""An evaluation worker: a process with an agent and environment workers of its own, which plays batch after batch.

It answers an EpisodeBatch with EpisodeReports, the last of them `over`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from playscale.games.game import GAMES, Game
from playscale.processes.worker import Handler
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import Advance, Episode, EpisodeSpec
from playscale.rollout.evaluation import EvalSettings

if TYPE_CHECKING:
    from playscale.rollout.agent import Agent

ENTRY = "playscale.rollout.evaluation_worker:evaluation_worker"

_REPORT_SECONDS = 0.5
_EXPERT_STEPS = 64  # made at most before the environment workers answer: the expert acts there, without this process

Load = Callable[[str], "Agent"]


@dataclass(frozen=True)
class EvalWorkerSetup:
    """Setup of an evaluation worker.

    games: registry of the parent, which may know more games than are built in
    workers: number of its environment workers
    slots: largest number of episodes in a batch
    device: as torch names it
    scripted: the game's expert plays, in the environment workers
    folder: where running games keep their files; None is the temporary directory
    """

    game: Game
    games: dict[str, str]
    workers: int
    slots: int
    settings: EvalSettings
    device: str
    scripted: bool
    folder: Path | None


class EpisodeBatch(NamedTuple):
    """Episodes of one job that are played together. `load` makes the agent from a device's name; it is pickled."""

    job: str
    load: Load | None
    specs: list[EpisodeSpec]


class EpisodeReport(NamedTuple):
    """The steps made and the episodes that ended since the last report.

    running: the part of the running episodes that is played, in episodes, at least
    over: the batch has ended
    seconds: wall time of the whole batch so far
    """

    job: str
    steps: int
    running: float
    ended: list[Episode]
    over: bool
    seconds: float


class EvalWorker:
    """Plays batches; keeps the agent of the last one."""

    def __init__(self, setup: EvalWorkerSetup, env_pool: EnvPool) -> None:
        self._setup = setup
        self._env_pool = env_pool
        self._loaded: tuple[str, Agent] | None = None

    def handle(self, batch: EpisodeBatch) -> Iterator[EpisodeReport]:
        try:
            yield from self._reports(batch)
        except ValueError as error:
            raise ValueError(f"{batch.job}: {error}") from error

    def _reports(self, batch: EpisodeBatch) -> Iterator[EpisodeReport]:
        began = reported = time.monotonic()
        steps = length = 0
        left = len(batch.specs)
        for advance in self._play(batch):
            steps += advance.steps
            length += advance.steps // left
            left -= len(advance.ended)
            now = time.monotonic()
            if advance.ended or now - reported > _REPORT_SECONDS:
                running = left * min(1.0, length / self._setup.settings.max_steps)
                yield EpisodeReport(batch.job, steps, running, advance.ended, not left, now - began)
                reported, steps = now, 0

    def _play(self, batch: EpisodeBatch) -> Iterator[Advance]:
        if batch.load is None:
            return _play_scripted(self._env_pool, batch.specs)
        from playscale.rollout.agent import play

        if self._loaded is None or self._loaded[0] != batch.job:
            self._loaded = (batch.job, batch.load(self._setup.device))
        agent, setup = self._loaded[1], self._setup
        return play(agent, self._env_pool, batch.specs, setup.game.num_actions, setup.settings, setup.device)


def _play_scripted(env_pool: EnvPool, specs: list[EpisodeSpec]) -> Iterator[Advance]:
    """Play as agent.play does, with the game's expert, which acts in the environment workers."""
    env_pool.begin(dict(enumerate(specs)))
    running = len(specs)
    while running:
        result = env_pool.step(_EXPERT_STEPS)
        ended = [Episode.of(specs[slot], outcome) for slot, outcome in result.ended]
        yield Advance(result.steps, ended)
        running -= len(ended)


@contextmanager
def evaluation_worker(setup: EvalWorkerSetup) -> Iterator[Handler]:
    """Make the handler of an evaluation worker; see WorkerProcess."""
    GAMES.update(setup.games)
    steps = setup.settings.max_steps
    with EnvPool(
        setup.game, setup.workers, setup.slots, steps, scripted=setup.scripted, folder=setup.folder
    ) as env_pool:
        if not setup.scripted:
            import torch

            torch.set_num_threads(1)  # several evaluation workers use the cores
        yield EvalWorker(setup, env_pool).handle
