"""The inside of an environment worker: a process that steps its share of the slots, and imports no torch.

It answers one for one:
    list[(slot, Task)]  start these episodes, first observations into the slab    -> []
    int k               up to k steps in every running slot                       -> [(slot, Outcome)] of the ended
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playscale.games.game import Column, Game, Observation, Outcome
from playscale.rollout.child import Handler, serve
from playscale.rollout.episode import Task
from playscale.rollout.slab import Slab

ENTRY = "playscale.rollout.worker:main"

Ended = list[tuple[int, Outcome]]


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know. `scripted`: the game's own expert acts, here in the worker, instead of the slab."""

    game: Game
    columns: dict[str, Column]
    slots: int
    slab_fd: int
    max_steps: int
    scripted: bool


class Seat:
    """The episode that is running in one slot."""

    def __init__(self, setup: Setup, slab: Slab, slot: int, task: Task) -> None:
        self.task = task
        self.steps = 0
        self._columns = {name: slab.arrays[name][slot : slot + 1] for name in setup.game.columns}
        self._action = slab.arrays["action"][slot : slot + 1]
        self._player = setup.game.make_expert() if setup.scripted else None
        self._env = setup.game.make_env(setup.max_steps, task.record_dir)

    def start(self) -> None:
        if self._player is not None:
            self._player.reset(self.task.seed)
        self._show(self._env.reset(self.task.seed))

    def run(self, steps: int) -> Outcome | None:
        """Up to `steps` steps; the outcome when the episode ended on the way."""
        for _ in range(steps):
            action = int(self._action[0]) if self._player is None else self._player.act(self._observation)
            step = self._env.step(action)
            self.steps += 1
            if step.done:
                outcome = self._env.outcome()
                self._env.close()  # only now is its recording complete
                return outcome
            self._show(step.observation)
        return None

    def _show(self, observation: Observation) -> None:
        self._observation = observation
        for name, column in self._columns.items():
            column[0] = observation[name]


class Room:
    """The slots of this worker, and how its messages are answered."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._slab = Slab(setup.columns, setup.slots, setup.slab_fd)
        self._seats: dict[int, Seat] = {}

    def handle(self, message: int | list[tuple[int, Task]]) -> Iterator[Ended]:
        if isinstance(message, int):
            yield self._run(message)
            return
        for slot, task in message:
            seat = self._seats[slot] = Seat(self._setup, self._slab, slot, task)
            with _located(seat):
                seat.start()
        yield []

    def _run(self, steps: int) -> Ended:
        ended = []
        for slot, seat in self._seats.items():
            with _located(seat):
                outcome = seat.run(steps)
            if outcome is not None:
                ended.append((slot, outcome))
        for slot, _ in ended:
            del self._seats[slot]
        return ended


@contextmanager
def _located(seat: Seat) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"in episode {seat.task.index} (seed {seat.task.seed}) after {seat.steps} steps")
        raise


@contextmanager
def _room(setup: Setup) -> Iterator[Handler]:
    yield Room(setup).handle


def main(fd: int) -> None:
    serve(fd, _room)
