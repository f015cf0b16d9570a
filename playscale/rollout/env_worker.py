"""The inside of an environment worker: a process that steps its share of the slots, and imports no torch.

It answers one for one:
    list[(slot, Task)]  start these episodes, first observations into the slab
    int k               up to k steps in every running slot
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from playscale.games.game import Column, Game, Outcome
from playscale.processes import Handler, serve
from playscale.rollout.episode import Task
from playscale.rollout.shared_arrays import SharedArrays

ENTRY = "playscale.rollout.env_worker:main"

_ANSWER_SECONDS = 0.25  # with k > 1 steps to do it answers after so long, so that its parent is never deaf for long


class StepResult(NamedTuple):
    """How many steps were made in all slots together, and how the episodes went that ended with them, by slot."""

    steps: int
    ended: list[tuple[int, Outcome]]


@dataclass(frozen=True)
class EnvWorkerSetup:
    """What a worker needs to know. `scripted`: the game's own expert acts, here in the worker, instead of the slab."""

    game: Game
    columns: dict[str, Column]
    slots: int
    slab_fd: int
    max_steps: int
    scripted: bool


class EnvSlot:
    """The episode that is running in one slot. Items of a memoryview, unlike those of an array, are plain numbers."""

    def __init__(self, setup: EnvWorkerSetup, slab: SharedArrays, slot: int, task: Task) -> None:
        self.task = task
        self.steps = 0
        self._score = 0
        self._action, self._reward = (slab.arrays[name][slot : slot + 1].data for name in ("action", "reward"))
        self._player = setup.game.make_expert() if setup.scripted else None
        self._screen = {name: slab.arrays[name][slot] for name in setup.game.columns}
        self._env = setup.game.make_env(setup.max_steps, task.record_dir, self._screen)

    def start(self) -> None:
        if self._player is not None:
            self._player.reset(self.task.seed)
        self._env.reset(self.task.seed)

    def step(self) -> Outcome | None:
        """One step; the outcome when the episode ended with it."""
        step = self._env.step(self._action[0] if self._player is None else self._player.act(self._screen))
        self.steps += 1
        self._reward[0] = step.score - self._score - step.penalty  # type: ignore[call-overload] # floats
        self._score = step.score
        if not (step.terminated or step.truncated):
            return None
        outcome = self._env.outcome()
        self._env.close()  # only now is its recording complete
        return outcome

    def locate(self, error: Exception) -> None:
        error.add_note(f"in episode {self.task.index} (seed {self.task.seed}) after {self.steps} steps")


class EnvWorker:
    """The slots of this worker, and how its messages are answered."""

    def __init__(self, setup: EnvWorkerSetup) -> None:
        self._setup = setup
        self._slab = SharedArrays(setup.columns, setup.slots, setup.slab_fd)
        self._seats: dict[int, EnvSlot] = {}

    def handle(self, message: int | list[tuple[int, Task]]) -> Iterator[StepResult]:
        if isinstance(message, int):
            yield self._run(message)
            return
        for slot, task in message:
            seat = self._seats[slot] = EnvSlot(self._setup, self._slab, slot, task)
            try:
                seat.start()
            except Exception as error:
                seat.locate(error)
                raise
        yield StepResult(0, [])

    def _run(self, rounds: int) -> StepResult:
        answer_by = time.monotonic() + _ANSWER_SECONDS
        steps, ended = 0, []
        for _ in range(rounds):
            for slot, seat in list(self._seats.items()):
                try:
                    outcome = seat.step()
                except Exception as error:
                    seat.locate(error)
                    raise
                steps += 1
                if outcome is not None:
                    ended.append((slot, outcome))
                    del self._seats[slot]
            if time.monotonic() > answer_by:
                break
        return StepResult(steps, ended)


@contextmanager
def _room(setup: EnvWorkerSetup) -> Iterator[Handler]:
    yield EnvWorker(setup).handle


def main(fd: int) -> None:
    serve(fd, _room)
