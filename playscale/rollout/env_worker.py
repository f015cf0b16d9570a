"""An environment worker: a process that steps its share of an EnvPool's slots, and imports no torch.

It answers each message with one StepResult:
    list[(slot, EpisodeSpec)]  start these episodes, their first observations into the shared arrays
    int k                      up to k steps in every running slot
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from playscale.arrays import SharedArrays
from playscale.games.game import Column, Game, Outcome
from playscale.processes.worker import Handler
from playscale.rollout.episode import EpisodeSpec

ENTRY = "playscale.rollout.env_worker:env_worker"

_ANSWER_SECONDS = 0.25  # with more than one step to make it answers after so long, so that progress can be reported


class StepResult(NamedTuple):
    """The number of steps made in all slots together; slots and outcomes of the episodes that ended with them."""

    steps: int
    ended: list[tuple[int, Outcome]]


@dataclass(frozen=True)
class EnvWorkerSetup:
    """Setup of an environment worker.

    columns: of the shared arrays behind `arrays_fd`, each [slots, ...]; see EnvPool.arrays
    max_steps: an episode is truncated after so many steps
    scripted: the game's own expert acts, in the worker; the array `action` is not read
    folder: where running games keep their files; None is the temporary directory
    """

    game: Game
    columns: dict[str, Column]
    slots: int
    arrays_fd: int
    max_steps: int
    scripted: bool
    folder: Path | None


class EnvSlot:
    """The episode that is running in one slot. Items of a memoryview, unlike those of an array, are plain numbers."""

    def __init__(self, setup: EnvWorkerSetup, shared: SharedArrays, slot: int, spec: EpisodeSpec) -> None:
        self._spec = spec
        self._steps = 0
        self._score = 0
        self._action, self._reward = (shared.arrays[name][slot : slot + 1].data for name in ("action", "reward"))
        self._expert = setup.game.make_expert() if setup.scripted else None
        self._observation = {name: shared.arrays[name][slot] for name in setup.game.columns}
        self._env = setup.game.make_env(setup.max_steps, spec.record_dir, self._observation)

    def start(self) -> None:
        if self._expert is not None:
            self._expert.reset(self._spec.seed)
        self._env.reset(self._spec.seed)

    def step(self) -> Outcome | None:
        """Make one step; return the outcome if the episode ended with it."""
        step = self._env.step(self._action[0] if self._expert is None else self._expert.act(self._observation))
        self._steps += 1
        self._reward[0] = step.score - self._score - step.penalty  # type: ignore[call-overload] # floats
        self._score = step.score
        if not (step.terminated or step.truncated):
            return None
        outcome = self._env.outcome()
        self._env.close()  # only now is its recording complete
        return outcome

    def locate(self, error: Exception) -> None:
        """Add to an error in which episode and after how many steps it came."""
        error.add_note(f"in episode {self._spec.index} (seed {self._spec.seed}) after {self._steps} steps")


class EnvWorker:
    """The running episodes of this worker; answers its messages."""

    def __init__(self, setup: EnvWorkerSetup) -> None:
        self._setup = setup
        self._shared = SharedArrays(setup.columns, (setup.slots,), setup.arrays_fd)
        self._slots: dict[int, EnvSlot] = {}

    def handle(self, message: int | list[tuple[int, EpisodeSpec]]) -> Iterator[StepResult]:
        if isinstance(message, int):
            yield self._run(message)
            return
        for number, spec in message:
            slot = self._slots[number] = EnvSlot(self._setup, self._shared, number, spec)
            try:
                slot.start()
            except Exception as error:
                slot.locate(error)
                raise
        yield StepResult(0, [])

    def _run(self, rounds: int) -> StepResult:
        answer_by = time.monotonic() + _ANSWER_SECONDS
        steps, ended = 0, []
        for _ in range(rounds):
            for number, slot in list(self._slots.items()):
                try:
                    outcome = slot.step()
                except Exception as error:
                    slot.locate(error)
                    raise
                steps += 1
                if outcome is not None:
                    ended.append((number, outcome))
                    del self._slots[number]
            if time.monotonic() > answer_by:
                break
        return StepResult(steps, ended)


@contextmanager
def env_worker(setup: EnvWorkerSetup) -> Iterator[Handler]:
    """Make the handler of an environment worker; see WorkerProcess."""
    if setup.folder is not None:
        tempfile.tempdir = str(setup.folder)
    yield EnvWorker(setup).handle
