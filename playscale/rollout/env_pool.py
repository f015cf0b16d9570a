"""Environment workers: processes that step S slots for one caller, who sees all slots as arrays.

S slots, one episode in each; slot s lives in process s % processes. Observations and actions lie in shared memory; the
sockets carry only who is to step and who has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from playscale.games.game import Column, Game
from playscale.processes import WorkerProcess
from playscale.rollout.env_worker import ENTRY, EnvWorkerSetup, StepResult
from playscale.rollout.episode import Task
from playscale.rollout.shared_arrays import SharedArrays


class EnvPool:
    """A set of worker processes. Made and closed by its user: `with Workers(...) as workers`."""

    def __init__(self, game: Game, processes: int, slots: int, max_steps: int, *, scripted: bool = False) -> None:
        assert processes >= 1
        assert slots >= 1
        columns = {**game.columns, "action": Column((), "int64"), "reward": Column((), "float32")}
        self._running: set[int] = set()
        self._shown = list(game.columns)
        with ExitStack() as stack:
            self._slab = SharedArrays(columns, slots)
            stack.callback(self._slab.close)
            setup = EnvWorkerSetup(game, columns, slots, self._slab.fd, max_steps, scripted)
            self._children = [
                stack.enter_context(WorkerProcess(ENTRY, setup, (self._slab.fd,))) for _ in range(min(processes, slots))
            ]
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for child in self._children:
            child.stop()  # all at once, so that they leave at the same time
        self._stack.close()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The slots: every column of the game, `action` i64, and `reward` f32 of the last step, each [S, ...]."""
        return self._slab.arrays

    @property
    def observation(self) -> dict[str, np.ndarray]:
        """What the games show in the slots: every column of the game, [S, ...]."""
        return {name: self.arrays[name] for name in self._shown}

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def begin(self, tasks: Mapping[int, Task]) -> None:
        """Start these tasks in their slots, which must be free; when this returns the first observations are there."""
        assert not self._running & tasks.keys(), "the episodes before have not ended"
        self._running |= tasks.keys()
        count = len(self._children)
        shares: list[list[tuple[int, Task]]] = [[] for _ in range(count)]
        for slot, task in tasks.items():
            shares[slot % count].append((slot, task))
        self._exchange(shares)

    def step(self, steps: int = 1) -> StepResult:
        """One action (the expert: up to `steps`) in every running slot; those that ended leave, in order of slots.

        Raises ValueError or OSError when an environment did, WorkerError when a worker failed in any other way.
        """
        count = len(self._children)
        busy = {slot % count for slot in self._running}
        answers = self._exchange([steps if member in busy else None for member in range(count)])
        ended = sorted(item for answer in answers for item in answer.ended)
        self._running -= {slot for slot, _ in ended}
        return StepResult(sum(answer.steps for answer in answers), ended)

    def _exchange(self, messages: Sequence[Any]) -> list[StepResult]:
        asked = [(child, message) for child, message in zip(self._children, messages, strict=True) if message]
        for child, message in asked:
            child.send(message)
        return [child.receive() for child, _ in asked]
