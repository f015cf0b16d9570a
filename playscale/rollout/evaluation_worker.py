"""The inside of a lane: a process with an agent and environment workers of its own, that plays batch after batch.

It answers a Batch with Reports, the last of them `over`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from playscale.games.game import GAMES, Game
from playscale.processes import Handler, follow, serve
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import Advance, Episode, Task
from playscale.rollout.evaluation import Settings

if TYPE_CHECKING:
    from playscale.rollout.agent import Agent

ENTRY = "playscale.rollout.evaluation_worker:main"

_REPORT_SECONDS = 0.5
_EXPERT_STEPS = 64  # the expert, who needs no agent's process, is asked for so many steps at most

Load = Callable[[str], "Agent"]


@dataclass(frozen=True)
class EvalWorkerSetup:
    """`device` as torch names it; `scripted`: the game's expert plays, in the workers. `parent` is a process id.

    `games` is the registry of the parent, which may know more games than are built in.
    """

    game: Game
    games: dict[str, str]
    workers: int
    slots: int
    settings: Settings
    device: str
    scripted: bool
    parent: int


class EpisodeBatch(NamedTuple):
    """Episodes that are played together. `load` makes the agent from a device's name; it is pickled."""

    entrant: str
    load: Load | None
    tasks: list[Task]


class EpisodeReport(NamedTuple):
    """What happened since the last report. `share`: how far the running episodes are, in episodes, at least."""

    entrant: str
    steps: int
    share: float
    ended: list[Episode]
    over: bool
    seconds: float  # of the whole batch so far


class EvalWorker:
    def __init__(self, setup: EvalWorkerSetup, workers: EnvPool) -> None:
        self._setup = setup
        self._workers = workers
        self._loaded: tuple[str, Agent] | None = None

    def handle(self, batch: EpisodeBatch) -> Iterator[EpisodeReport]:
        try:
            yield from self._reports(batch)
        except ValueError as error:
            raise ValueError(f"{batch.entrant}: {error}") from error

    def _reports(self, batch: EpisodeBatch) -> Iterator[EpisodeReport]:
        began = said = time.monotonic()
        steps = length = 0
        left = len(batch.tasks)
        for advance in self._play(batch):
            steps += advance.steps
            length += advance.steps // left
            left -= len(advance.ended)
            now = time.monotonic()
            if advance.ended or now - said > _REPORT_SECONDS:
                share = left * min(1.0, length / self._setup.settings.max_steps)
                yield EpisodeReport(batch.entrant, steps, share, advance.ended, not left, now - began)
                said, steps = now, 0

    def _play(self, batch: EpisodeBatch) -> Iterator[Advance]:
        if batch.load is None:
            return _play_scripted(self._workers, batch.tasks)
        from playscale.rollout.agent import play

        if self._loaded is None or self._loaded[0] != batch.entrant:
            self._loaded = (batch.entrant, batch.load(self._setup.device))
        agent, setup = self._loaded[1], self._setup
        return play(agent, self._workers, batch.tasks, setup.game.num_actions, setup.settings, setup.device)


def _play_scripted(workers: EnvPool, tasks: list[Task]) -> Iterator[Advance]:
    """As agent.play, with the game's expert, who acts in the workers."""
    workers.begin(dict(enumerate(tasks)))
    running = len(tasks)
    while running:
        answer = workers.step(_EXPERT_STEPS)
        ended = [Episode.of(tasks[slot], outcome) for slot, outcome in answer.ended]
        yield Advance(answer.steps, ended)
        running -= len(ended)


@contextmanager
def _lane(setup: EvalWorkerSetup) -> Iterator[Handler]:
    follow(setup.parent)
    GAMES.update(setup.games)
    with EnvPool(setup.game, setup.workers, setup.slots, setup.settings.max_steps, scripted=setup.scripted) as workers:
        if not setup.scripted:
            import torch

            torch.set_num_threads(1)  # lanes are the parallelism
        yield EvalWorker(setup, workers).handle


def main(fd: int) -> None:
    serve(fd, _lane)
