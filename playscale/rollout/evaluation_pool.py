"""Many batches of episodes at once, each in a lane (lane.py).

While one lane's environments step, another lane's agent thinks: that is the double buffering. On a CPU every core gets
a lane, whose forwards run on one torch thread; threads of one process did not scale (the forward of a small policy is a
hundred short operations, each of which wants the interpreter lock). On a GPU two lanes share the device.

Which episodes form a batch depends on nothing but their number, so neither do the results (see agent.py).
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from playscale.games.game import GAMES, Game
from playscale.processes import WorkerProcess, usable_cores
from playscale.rollout.episode import Episode, Task
from playscale.rollout.evaluation import Settings
from playscale.rollout.evaluation_worker import ENTRY, EpisodeBatch, EpisodeReport, EvalWorkerSetup, Load
from playscale.tracking.monitor import count
from playscale.tracking.tracker import Spent, not_timed

ROWS = {"cpu": 32, "cuda": 128}  # episodes in a batch


@dataclass
class EvalJob:
    """Whose episodes are played; `load` None is the game's expert. `seconds`: of all its batches together."""

    name: str
    load: Load | None
    recordings: Path
    episodes: list[Episode] = field(default_factory=list)
    seconds: float = 0.0

    def tasks(self, settings: Settings) -> list[Task]:
        return [
            Task(index, settings.seed + index, self.recordings / recording_name(index))
            for index in range(settings.episodes)
        ]


@dataclass
class EvalProgress:
    """How far everything is."""

    total: int
    played: int = 0
    steps: int = 0
    shares: dict[int, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def add(self, lane: int, report: EpisodeReport) -> None:
        self.played += len(report.ended)
        self.steps += report.steps
        self.shares[lane] = report.share
        count("environment_steps", report.steps)
        count("episodes", len(report.ended))

    @property
    def fraction(self) -> float:
        return min(1.0, (self.played + sum(self.shares.values())) / self.total)

    @property
    def steps_per_second(self) -> float:
        return self.steps / max(time.monotonic() - self.started, 1e-9)


def recording_name(index: int) -> str:
    return f"episode-{index:05d}"


def split_batches(tasks: Sequence[Task], rows: int) -> list[list[Task]]:
    """As few batches of at most `rows` episodes as it takes, of nearly equal sizes."""
    count = -(-len(tasks) // rows)
    return [list(tasks[len(tasks) * k // count : len(tasks) * (k + 1) // count]) for k in range(count)]


def play_entrants(
    game: Game,
    entrants: Sequence[EvalJob],
    settings: Settings,
    *,
    workers: int,
    device: str,
    on_report: Callable[[EvalJob, EvalProgress], None],
    spent: Spent = not_timed,
) -> Generator[EvalJob]:
    """Play every entrant's episodes; yields each entrant when its last one has ended, episodes in order.

    Either the expert plays or agents do. Raises what a lane raised (see child.py); no process outlives the generator.
    """
    if not entrants:
        return
    scripted = entrants[0].load is None
    assert all((entrant.load is None) == scripted for entrant in entrants)
    by_name = {entrant.name: entrant for entrant in entrants}
    kind = device.partition(":")[0]
    waiting = deque(
        EpisodeBatch(e.name, e.load, tasks) for e in entrants for tasks in split_batches(e.tasks(settings), ROWS[kind])
    )
    slots = max(len(batch.tasks) for batch in waiting)
    tally = EvalProgress(len(entrants) * settings.episodes)
    with ExitStack() as stack:
        lanes: dict[Any, WorkerProcess] = {}
        with spent("starting"):
            for share in _shares(workers, len(waiting), 2 if kind == "cuda" else usable_cores()):
                setup = EvalWorkerSetup(game, GAMES, share, slots, settings, device, scripted, os.getpid())
                lane = stack.enter_context(WorkerProcess(ENTRY, setup))
                lane.send(waiting.popleft())
                lanes[lane.connection] = lane
            stack.callback(_stop_all, lanes.values())  # before each is waited for
            wait(lanes)
        stack.enter_context(spent("play"))
        while tally.played < tally.total:
            for ready in wait(lanes):
                lane = lanes[ready]
                report = lane.receive()
                entrant = by_name[report.entrant]
                entrant.episodes += report.ended
                tally.add(lane.pid, report)
                if report.over:
                    entrant.seconds += report.seconds
                    if waiting:
                        lane.send(waiting.popleft())
                on_report(entrant, tally)
                if report.over and len(entrant.episodes) == settings.episodes:
                    entrant.episodes.sort(key=lambda episode: episode.index)
                    yield entrant


def _stop_all(lanes: Iterable[WorkerProcess]) -> None:
    for lane in lanes:
        lane.stop()


def _shares(workers: int, batches: int, most: int) -> list[int]:
    """How many workers each lane gets."""
    lanes = min(workers, batches, most)
    return [workers * (lane + 1) // lanes - workers * lane // lanes for lane in range(lanes)]
