"""The inside of an environment worker: a process that steps its share of the slots, and imports no torch.

It is started by workers.py with one socket. The first message is a Setup; then it answers, one for one:
    list[(slot, Task)]  start these episodes, first observations into the slab    -> []
    int k               up to k steps in every running slot                       -> [(slot, Outcome)] of the ended
A Failure instead of an answer is the last thing it says. It ends when the socket closes: it never outlives its parent.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from playscale.games.game import Column, Game, Observation, Outcome
from playscale.rollout.episode import Task
from playscale.rollout.slab import Slab


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know. `scripted`: the game's own expert acts, here in the worker, instead of the slab."""

    game: Game
    columns: dict[str, Column]
    slots: int
    slab_fd: int
    max_steps: int
    scripted: bool


@dataclass(frozen=True)
class Failure:
    """Why a worker gave up: what kind of error it is to its user, one line, and the traceback."""

    kind: type[Exception]
    text: str
    trace: str


class Seat:
    """The episode that is running in one slot."""

    def __init__(self, setup: Setup, slab: Slab, slot: int, task: Task) -> None:
        self.task = task
        self.steps = 0
        self._columns = [array[slot : slot + 1] for name, array in slab.arrays.items() if name != "action"]
        self._names = [name for name in slab.arrays if name != "action"]
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
        for name, column in zip(self._names, self._columns, strict=True):
            column[0] = observation[name]


@contextmanager
def _located(seat: Seat) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"in episode {seat.task.index} (seed {seat.task.seed}) after {seat.steps} steps")
        raise


class Room:
    """The slots of this worker, and how its messages are answered."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._slab = Slab(setup.columns, setup.slots, setup.slab_fd)
        self._seats: dict[int, Seat] = {}

    def answer(self, message: int | list[tuple[int, Task]]) -> list[tuple[int, Outcome]]:
        if isinstance(message, int):
            return self._run(message)
        for slot, task in message:
            seat = self._seats[slot] = Seat(self._setup, self._slab, slot, task)
            with _located(seat):
                seat.start()
        return []

    def _run(self, steps: int) -> list[tuple[int, Outcome]]:
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
def _reported(connection: Connection) -> Iterator[None]:
    """An error inside is told to the parent, whose business it is to say so; this process just ends."""
    try:
        yield
    except Exception as error:
        kind = next((kind for kind in (ValueError, OSError) if isinstance(error, kind)), RuntimeError)
        text = " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
        connection.send(Failure(kind, text, traceback.format_exc()))
        raise SystemExit(1) from error


def serve(connection: Connection) -> None:
    """Answer messages until the socket closes (EOFError)."""
    first = connection.recv_bytes()
    with _reported(connection):
        room = Room(pickle.loads(first))  # noqa: S301 - the parent's own message
    while True:
        message = connection.recv()
        with _reported(connection):
            answer = room.answer(message)
        connection.send(answer)


def main(fd: int) -> None:
    try:
        serve(Connection(fd))
    except (EOFError, ConnectionError):
        return
