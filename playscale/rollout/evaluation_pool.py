"""Play many batches of episodes at once, each in an evaluation worker (evaluation_worker.py).

While the environments of one worker step, the agent of another computes: that is the double buffering. On a CPU every
core gets an evaluation worker, whose forwards run on one torch thread; threads of one process did not scale (the
forward of a small policy is a hundred short operations, each of which needs the interpreter lock). On a GPU two of them
share the device.

Which episodes form a batch depends on nothing but their number, so neither do the results (see agent.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from playscale.games.game import GAMES, Game
from playscale.processes.cores import usable_cores
from playscale.processes.worker import WorkerProcess, close_all, wait_for_any
from playscale.rollout.episode import Episode, EpisodeSpec
from playscale.rollout.evaluation import EvalSettings
from playscale.rollout.evaluation_worker import ENTRY, EpisodeBatch, EpisodeReport, EvalWorkerSetup, Load
from playscale.tracking.monitor import count
from playscale.tracking.tracker import Spent, not_timed

KIND = "evaluation workers"  # in the log
ROWS = {"cpu": 32, "cuda": 128}  # episodes in a batch


@dataclass
class EvalJob:
    """The episodes of one agent.

    name: identifies the job; in progress texts and messages of errors
    load: makes the agent from a device's name; None is the game's expert
    recordings: directory that gets the recordings of all episodes
    episodes: those that have ended
    seconds: wall time of its batches, summed
    """

    name: str
    load: Load | None
    recordings: Path
    episodes: list[Episode] = field(default_factory=list)
    seconds: float = 0.0

    def specs(self, settings: EvalSettings) -> list[EpisodeSpec]:
        return [
            EpisodeSpec(index, settings.seed + index, self.recordings / recording_name(index))
            for index in range(settings.episodes)
        ]


@dataclass
class EvalProgress:
    """Progress of all jobs together.

    total, played: episodes
    running: the part of their episodes that running batches have played, in episodes, by the worker's process id
    """

    total: int
    played: int = 0
    steps: int = 0
    running: dict[int, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def add(self, pid: int, report: EpisodeReport) -> None:
        self.played += len(report.ended)
        self.steps += report.steps
        self.running[pid] = report.running
        count("environment_steps", report.steps)
        count("episodes", len(report.ended))

    @property
    def fraction(self) -> float:
        return min(1.0, (self.played + sum(self.running.values())) / self.total)

    @property
    def steps_per_second(self) -> float:
        return self.steps / max(time.monotonic() - self.started, 1e-9)


def recording_name(index: int) -> str:
    return f"episode-{index:05d}"


def split_batches(specs: Sequence[EpisodeSpec], rows: int) -> list[list[EpisodeSpec]]:
    """Split episodes into as few batches of at most `rows` as possible, of nearly equal sizes."""
    count = -(-len(specs) // rows)
    return [list(specs[len(specs) * k // count : len(specs) * (k + 1) // count]) for k in range(count)]


def play_jobs(
    game: Game,
    jobs: Sequence[EvalJob],
    settings: EvalSettings,
    *,
    workers: int,
    device: str,
    on_report: Callable[[EvalJob, EvalProgress], None],
    spent: Spent = not_timed,
    folder: Path | None = None,
) -> Generator[EvalJob]:
    """Play the episodes of every job; either the expert plays all of them or agents do.

    No process outlives the generator.

    Args:
        game: The game to play.
        jobs: What is to be played, in this order.
        settings: Number of episodes, their seeds, step limit and temperature.
        workers: Number of environment workers, shared out among the evaluation workers.
        device: As torch names it.
        on_report: Called with every report of a batch.
        spent: Times the seconds until the first report as `starting`, those after it as `play`.
        folder: Where running games keep their files (see play_folder); by default the temporary directory.

    Yields:
        Each job when its last episode has ended, its episodes in order.

    Raises:
        ValueError: An agent or an environment raised it.
        OSError: An agent or an environment raised it.
        WorkerError: A worker failed in any other way.
    """
    if not jobs:
        return
    scripted = jobs[0].load is None
    assert all((job.load is None) == scripted for job in jobs)
    by_name = {job.name: job for job in jobs}
    kind = device.partition(":")[0]
    waiting = deque(
        EpisodeBatch(job.name, job.load, specs)
        for job in jobs
        for specs in split_batches(job.specs(settings), ROWS[kind])
    )
    slots = max(len(batch.specs) for batch in waiting)
    progress = EvalProgress(len(jobs) * settings.episodes)
    eval_workers: list[WorkerProcess] = []
    with ExitStack() as stack:
        stack.callback(lambda: close_all(eval_workers))
        with spent("starting"):
            most = min(len(waiting), 2 if kind == "cuda" else usable_cores())
            for env_workers in _env_workers_of_each(workers, most):
                setup = EvalWorkerSetup(game, GAMES, env_workers, slots, settings, device, scripted, folder)
                eval_workers.append(WorkerProcess(ENTRY, setup))
                eval_workers[-1].send(waiting.popleft())
            wait_for_any(eval_workers, KIND)
        stack.enter_context(spent("play"))
        playing = list(eval_workers)
        while progress.played < progress.total:
            for worker in wait_for_any(playing, KIND):
                report = worker.receive()
                job = by_name[report.job]
                job.episodes += report.ended
                progress.add(worker.pid, report)
                if report.over:
                    job.seconds += report.seconds
                    if waiting:
                        worker.send(waiting.popleft())
                    else:
                        playing.remove(worker)
                on_report(job, progress)
                if report.over and len(job.episodes) == settings.episodes:
                    job.episodes.sort(key=lambda episode: episode.index)
                    yield job


def _env_workers_of_each(env_workers: int, most: int) -> list[int]:
    """Return how many environment workers each of at most `most` evaluation workers gets."""
    n = min(env_workers, most)
    return [env_workers * (k + 1) // n - env_workers * k // n for k in range(n)]
