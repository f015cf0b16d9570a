"""Playing games beside its limits: environments alone, the policy's forward passes alone, and both.

    playscale bench rollout [--rounds 5] [--seconds 2]

The policies are untrained, with a head that prefers the keys of a wanderer, so that their games last as long as an
agent's. One run of theirs is recorded, actions and screens; then, in alternating rounds and on the same processors,

    environments  worker processes that replay those actions: no agent to wait for
    forward       one process a core that answers those screens, 32 at a time: no game, no drawing of actions
    rollout       the workers of `playscale evaluate` on the same episodes, recordings included

Where environments and forwards share the processors, no rollout can exceed 1 / (1 / environments + 1 / forward): that
is the roofline here. Where forwards have a processor of their own (a GPU), it is the slower of the two.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from playscale.games.game import Column, Env, Observation, Player, get_game
from playscale.processes.worker import Handler, WorkerProcess
from playscale.rollout.agent import Agent, play
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import EpisodeSpec
from playscale.rollout.evaluation import EvalSettings
from playscale.rollout.evaluation_pool import ROWS, EvalJob, EvalProgress, play_jobs
from playscale.rollout.evaluation_worker import Load
from playscale.rollout.references import evaluate_random

from .bench import Options, Row
from .rounds import alternate, row

GAME = "nethack"
SIZES = ("10k", "100k", "1M")
WORKERS = (1, 2, 4, 8)
SCALED = "100k"  # the size that is measured with every number of workers
KEYS = "hjklyubnHJKLYUBN.s<>o\x1b\r "
KEEN = 5.0  # added to the logits of KEYS, which are then more than nine of ten actions
STEPS = 400  # of an episode, at most
GROWTH = (10, 100, 1000)  # episodes of a whole evaluation
EVERY = 20  # steps between two screens that are kept


def run(options: Options) -> list[Row]:
    """Measure each size with two workers a core, one size with 1, 2, 4 and 8 workers, and more and more episodes."""
    cores = os.cpu_count() or 1
    plan = [(size, 2 * cores) for size in SIZES] + [(SCALED, count) for count in WORKERS if count != 2 * cores]
    return [_measure(size, workers, options) for size, workers in plan] + [_growth(count) for count in GROWTH]


def _measure(size: str, workers: int, options: Options) -> Row:
    """Measure the rollout beside its limit, with the three rates."""
    used = min(workers, os.cpu_count() or 1)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        played = _record(size, Path(folder))
        setup = ForwardSetup(played.load, played.screens)
        answering = [stack.enter_context(WorkerProcess(f"{__name__}:forward_worker", setup)) for _ in range(used)]
        _forward(answering, 0.2)  # to warm up
        rates = alternate(
            {
                "environments": partial(_environments, played, used, options.seconds),
                "forward": partial(_forward, answering, options.seconds),
                "rollout": partial(_rollout, played, workers, used, options.seconds),
            },
            options.rounds,
        )
    sides = list(zip(rates["environments"], rates["forward"], strict=True))
    slower = [rollout / min(both) for rollout, both in zip(rates["rollout"], sides, strict=True)]
    return row(
        f"rollout {size}, {workers} workers",
        "steps/s",
        rates["rollout"],
        [1 / (1 / environments + 1 / forward) for environments, forward in sides],
        dtype="float32",
        note=f"{statistics.median(slower):.2f} of the slower side",
        environments=statistics.median(rates["environments"]),
        forward=statistics.median(rates["forward"]),
        of_the_slower=slower,
        workers=workers,
        cores=used,
        rows=ROWS["cpu"],
    )


def _growth(episodes: int) -> Row:
    """Measure a whole evaluation of short episodes in its own process: rate and peak resident memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, here, below = pool.submit(_evaluation, episodes).result()
    note = f"{seconds:.1f} s, {here:.0f} MiB, at most {below:.0f} MiB in a process below"
    name = f"evaluation of {episodes} episodes"
    return row(name, "episodes/s", [episodes / seconds], note=note, self_mib=here, largest_child_mib=below)


def _evaluation(episodes: int) -> tuple[float, float, float]:
    """Return its seconds, and the peak resident memory (MiB) of this process and of its largest subprocess."""
    with TemporaryDirectory() as folder:
        begin = time.monotonic()
        evaluate_random(get_game(GAME), episodes, Path(folder), max_steps=20, workers=os.cpu_count() or 1)
        seconds = time.monotonic() - begin
    here, below = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return seconds, here, below  # ru_maxrss is in KiB


@dataclass(frozen=True)
class RecordedPlay:
    """A policy's episodes: the actions by seed, and batches of screens [rows, ...] that it saw."""

    load: Load
    actions: Mapping[int, list[int]]
    screens: list[dict[str, np.ndarray]]
    folder: Path

    def tasks(self, copies: int) -> list[EpisodeSpec]:
        """Return the episodes, repeated `copies` times: all workers play the same ones."""
        return [EpisodeSpec(i, seed, self.folder / f"e{i}") for i, seed in enumerate(list(self.actions) * copies)]


def load_policy(size: str, device: str) -> Agent:
    """Return an untrained policy that prefers KEYS."""
    import torch

    from playscale.agents.policy import build_policy
    from playscale.agents.sizing import config_for_size
    from playscale.games.nethack.rules import action_of

    torch.manual_seed(0)
    policy = build_policy(config_for_size(get_game(GAME), size, "lstm"), device).eval()
    with torch.no_grad():
        policy.head.bias[[action_of(key) for key in KEYS]] += KEEN
    return policy


def _record(size: str, folder: Path) -> RecordedPlay:
    import torch

    torch.set_num_threads(1)
    game, load, rows = get_game(GAME), partial(load_policy, size), ROWS["cpu"]
    tasks = [EpisodeSpec(i, i) for i in range(rows)]
    actions, screens = [], []
    with EnvPool(game, 1, rows, STEPS) as workers:
        for _ in play(load("cpu"), workers, tasks, game.num_actions, EvalSettings(rows, STEPS, 0, 1.0), "cpu"):
            actions.append(workers.arrays["action"].copy())
            if len(actions) % EVERY == 0:
                screens.append({name: workers.arrays[name].copy() for name in game.columns})
    taken = np.stack(actions, 1)
    return RecordedPlay(load, {task.seed: taken[task.index].tolist() for task in tasks}, screens, folder)


class Replayer:
    """A player that repeats recorded actions."""

    def __init__(self, actions: Mapping[int, list[int]]) -> None:
        self._actions = actions

    def reset(self, seed: int) -> None:
        self._next = iter(self._actions[seed])

    def act(self, observation: Observation) -> int:
        del observation
        return next(self._next)


@dataclass(frozen=True)
class Replayed:
    """The game, with a Replayer for its expert: as much of the game port as an environment worker asks for."""

    actions: Mapping[int, list[int]]
    columns: Mapping[str, Column]

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        return get_game(GAME).make_env(max_steps, record_dir, into)

    def make_expert(self) -> Player:
        return Replayer(self.actions)


def _environments(played: RecordedPlay, processes: int, seconds: float) -> float:
    """Return steps/s of worker processes that replay the episodes over and over; starting an episode is not counted."""
    tasks = played.tasks(processes)
    game: Any = Replayed(played.actions, get_game(GAME).columns)
    steps, spent = 0, 0.0
    with EnvPool(game, processes, len(tasks), STEPS, scripted=True) as workers:
        while spent < seconds:
            workers.begin(dict(enumerate(tasks)))
            begin, running = time.monotonic(), len(tasks)
            while running:
                answer = workers.step(STEPS)
                steps += answer.steps
                running -= len(answer.ended)
            spent += time.monotonic() - begin
    return steps / spent


@dataclass(frozen=True)
class ForwardSetup:
    load: Load
    screens: list[dict[str, np.ndarray]]


def _forward(answering: Sequence[WorkerProcess], seconds: float) -> float:
    """Return samples/s of these processes together, each with one thread."""
    for process in answering:
        process.send(seconds)
    return float(sum(process.receive() for process in answering))


@contextmanager
def forward_worker(setup: ForwardSetup) -> Iterator[Handler]:
    """Run in such a process: a message is a number of seconds, the reply the rate in samples/s."""
    import torch

    torch.set_num_threads(1)
    agent, rows = setup.load("cpu"), ROWS["cpu"]
    batches = [{name: torch.from_numpy(array)[None] for name, array in screen.items()} for screen in setup.screens]
    for batch in batches:
        batch["prev_action"] = torch.zeros((1, rows), dtype=torch.int64)
        batch["done"] = torch.zeros((1, rows), dtype=torch.bool)

    def rate(seconds: float) -> Iterator[float]:
        state, samples = agent.initial_state(rows), 0
        begin = time.monotonic()
        with torch.inference_mode():
            for batch in cycle(batches):
                state = agent(batch, state).state
                samples += rows
                spent = time.monotonic() - begin
                if spent > seconds:
                    break
        yield samples / spent

    yield rate


class TimeUpError(Exception):
    """The rollout has been measured for long enough."""


@dataclass
class StepCounter:
    """Steps that an evaluation worker reported after its first report, with times."""

    times: list[float] = field(default_factory=list)
    steps: int = 0

    @property
    def rate(self) -> float:
        return self.steps / (self.times[-1] - self.times[0])


def _rollout(played: RecordedPlay, workers: int, copies: int, seconds: float) -> float:
    """Return steps/s of all evaluation workers, from each one's first report on; each plays all the episodes."""
    counters: dict[str, StepCounter] = {}
    before = 0

    def note(job: EvalJob, progress: EvalProgress) -> None:
        nonlocal before
        fresh, before = progress.steps - before, progress.steps
        counter = counters.setdefault(job.name, StepCounter())
        counter.times.append(time.monotonic())
        counter.steps += fresh if len(counter.times) > 1 else 0
        if all(each.times[-1] - each.times[0] > seconds for each in counters.values()):
            raise TimeUpError

    jobs = [EvalJob(f"copy {i}", played.load, played.folder / f"copy{i}") for i in range(copies)]
    settings = EvalSettings(len(played.actions), STEPS, 0, 1.0)
    try:
        for _ in play_jobs(get_game(GAME), jobs, settings, workers=workers, device="cpu", on_report=note):
            pass
    except TimeUpError:
        pass
    return sum(counter.rate for counter in counters.values())
