"""Many batches of episodes at once. A lane is a thread with environment workers of its own, playing batch after batch.

While one lane's environments step, another lane's agent thinks: that is the double buffering. On a CPU every core gets
a lane, and its forwards run on one torch thread; torch lets go of the interpreter lock, so lanes scale like processes
but share one copy of the weights. On a GPU two lanes share the device.

Which episodes form a batch depends on nothing but their number, so neither do the results (see agent.py).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from playscale.games.game import Game
from playscale.rollout.agent import Advance, Agent, play, play_scripted
from playscale.rollout.episode import Episode, Task
from playscale.rollout.evaluation import Settings
from playscale.rollout.workers import Workers

ROWS = {"cpu": 16, "cuda": 128}  # episodes in a batch; on a CPU the activations of more leave the cache
_REPORT_SECONDS = 0.5


class Entrant:
    """Whose episodes are played: an agent, loaded when its first batch starts; `load` None is the game's expert."""

    def __init__(self, name: str, load: Callable[[torch.device], Agent] | None, scratch: Path | None = None) -> None:
        self.name = name
        self.load = load
        self.scratch = scratch  # recordings go below it
        self.episodes: list[Episode] = []
        self.seconds = 0.0  # of all its batches
        self._agent: Agent | None = None
        self._lock = threading.Lock()

    def agent(self, device: torch.device) -> Agent:
        assert self.load is not None
        with self._lock:
            if self._agent is None:
                self._agent = self.load(device)
            return self._agent

    def tasks(self, settings: Settings) -> list[Task]:
        folders = [self.scratch and self.scratch / recording_name(index) for index in range(settings.episodes)]
        return [Task(index, settings.seed + index, folder) for index, folder in enumerate(folders)]

    def leave(self) -> None:
        self._agent = None


Batch = tuple[Entrant, list[Task]]


@dataclass(frozen=True)
class Report:
    """What a lane says of the batch it plays. `share`: how far its running episodes are, in episodes, at least."""

    lane: int
    entrant: Entrant
    steps: int
    share: float
    ended: list[Episode]
    seconds: float


@dataclass
class Tally:
    """How far everything is."""

    total: int
    played: int = 0
    steps: int = 0
    shares: dict[int, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def add(self, report: Report) -> None:
        report.entrant.episodes += report.ended
        report.entrant.seconds += report.seconds
        self.played += len(report.ended)
        self.steps += report.steps
        self.shares[report.lane] = report.share

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
    entrants: Sequence[Entrant],
    settings: Settings,
    *,
    workers: int,
    device: torch.device,
    on_report: Callable[[Entrant, Tally], None],
) -> Generator[Entrant]:
    """Play every entrant's episodes; yields each entrant when its last one has ended, episodes in order.

    The expert cannot be mixed with agents. Raises what a worker or an agent raised; no process outlives the generator.
    """
    if not entrants:
        return
    scripted = all(entrant.load is None for entrant in entrants)
    assert scripted or all(entrant.load is not None for entrant in entrants)
    waiting: queue.SimpleQueue[Batch] = queue.SimpleQueue()
    batches = [(e, batch) for e in entrants for batch in split_batches(e.tasks(settings), ROWS[device.type])]
    for item in batches:
        waiting.put(item)
    lanes = min(len(batches), workers, 2 if device.type == "cuda" and not scripted else os.cpu_count() or 1)
    shares = [workers * (lane + 1) // lanes - workers * lane // lanes for lane in range(lanes)]
    slots = max(len(batch) for _, batch in batches)
    reports: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()
    tally = Tally(total=len(entrants) * settings.episodes)
    with ExitStack() as stack:
        crews = [stack.enter_context(Workers(game, k, slots, settings.max_steps, scripted=scripted)) for k in shares]
        team = [Lane(k, crew, game.num_actions, settings, device, waiting, reports) for k, crew in enumerate(crews)]
        stack.enter_context(_running(team))
        while tally.played < tally.total:
            report = reports.get()
            if isinstance(report, BaseException):
                raise report
            tally.add(report)
            on_report(report.entrant, tally)
            if report.ended and len(report.entrant.episodes) == settings.episodes:
                report.entrant.episodes.sort(key=lambda episode: episode.index)
                report.entrant.leave()
                yield report.entrant


@dataclass
class Lane:
    """One thread and its workers."""

    number: int
    workers: Workers
    num_actions: int
    settings: Settings
    device: torch.device
    waiting: queue.SimpleQueue[Batch]
    reports: queue.SimpleQueue[Report | BaseException]

    def run(self) -> None:
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                while True:
                    entrant, tasks = self.waiting.get_nowait()
                    self._play(entrant, tasks)
        except queue.Empty:
            return
        except ValueError as error:
            self.reports.put(ValueError(f"{entrant.name}: {error}"))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that reads the reports
            self.reports.put(error)

    def _play(self, entrant: Entrant, tasks: list[Task]) -> None:
        began = said = time.monotonic()
        steps = length = 0
        left = len(tasks)
        for advance in self._advances(entrant, tasks):
            steps += advance.steps
            length += advance.steps // left
            left -= len(advance.ended)
            now = time.monotonic()
            if not advance.ended and now - said < _REPORT_SECONDS:
                continue
            share = left * min(1.0, length / self.settings.max_steps)
            seconds = now - began if not left else 0.0
            self.reports.put(Report(self.number, entrant, steps, share, advance.ended, seconds))
            said, steps = now, 0

    def _advances(self, entrant: Entrant, tasks: list[Task]) -> Iterator[Advance]:
        if entrant.load is None:
            return play_scripted(self.workers, tasks)
        agent = entrant.agent(self.device)
        return play(agent, self.workers, tasks, self.num_actions, self.settings, self.device)


@contextmanager
def _running(lanes: Sequence[Lane]) -> Iterator[None]:
    """The lanes' threads. They have ended when this is left: without their workers they cannot go on."""
    intra_op = torch.get_num_threads()
    threads = [threading.Thread(target=lane.run, name=f"lane {lane.number}") for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for lane in lanes:
            lane.workers.stop()
        for thread in threads:
            thread.join()
        torch.set_num_threads(intra_op)
