"""A pool of environment workers: processes that step S slots for one caller, which sees all slots as arrays.

S slots, one episode in each; slot s is stepped by process s % processes. Observations and actions lie in shared memory;
the sockets carry only which workers are to step and which episodes have ended.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from playscale.arrays import SharedArrays
from playscale.games.game import Column, Game
from playscale.processes.worker import WorkerDiedError, WorkerProcess, close_all
from playscale.rollout.env_worker import ENTRY, EnvWorkerSetup, StepResult
from playscale.rollout.episode import EpisodeSpec

PLAYING = ".playing"
"""Name of the play_folder in a directory of results."""
_PROBE = 2**20  # bytes; a level of NetHack takes 30 kB


class EnvPool:
    """Environment workers and the arrays they share: `with EnvPool(...) as env_pool`, begin() and then step().

    Args:
        game: The game to play.
        processes: Number of worker processes, at most one a slot.
        slots: Number of episodes that run at the same time.
        max_steps: An episode is truncated after so many steps.
        scripted: The game's own expert acts, in the workers, instead of the caller.
        folder: Where running games keep their files (see play_folder); by default the temporary directory.
    """

    def __init__(
        self,
        game: Game,
        processes: int,
        slots: int,
        max_steps: int,
        *,
        scripted: bool = False,
        folder: Path | None = None,
    ) -> None:
        assert processes >= 1
        assert slots >= 1
        columns = {**game.columns, "action": Column((), "int64"), "reward": Column((), "float32")}
        self._folder = folder
        self._running: set[int] = set()
        self._observed = list(game.columns)
        self._arrays = SharedArrays(columns, (slots,))
        self._workers: list[WorkerProcess] = []
        setup = EnvWorkerSetup(game, columns, slots, self._arrays.fd, max_steps, scripted, folder)
        try:
            for _ in range(min(processes, slots)):
                self._workers.append(WorkerProcess(ENTRY, setup, (self._arrays.fd,), graceful=True))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        close_all(self._workers)
        self._arrays.close()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every column of the game, `action` int64, and `reward` float32 of the last step, each [S, ...]."""
        return self._arrays.arrays

    @property
    def observation(self) -> dict[str, np.ndarray]:
        """Every column of the game, [S, ...]: the current observations."""
        return {name: self.arrays[name] for name in self._observed}

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    def begin(self, specs: Mapping[int, EpisodeSpec]) -> None:
        """Start these episodes in their slots, which must be free; on return their first observations are there."""
        assert not self._running & specs.keys(), "the episodes before have not ended"
        self._running |= specs.keys()
        count = len(self._workers)
        shares: list[list[tuple[int, EpisodeSpec]]] = [[] for _ in range(count)]
        for slot, spec in specs.items():
            shares[slot % count].append((slot, spec))
        self._exchange(shares)

    def step(self, steps: int = 1) -> StepResult:
        """Make one step (the expert: up to `steps`) in every running slot; slots whose episodes ended become free.

        Returns:
            The number of steps made, and the outcomes of the episodes that ended, in order of slots.

        Raises:
            ValueError: An environment raised it.
            OSError: An environment raised it.
            WorkerError: A worker failed in any other way.
        """
        count = len(self._workers)
        busy = {slot % count for slot in self._running}
        results = self._exchange([steps if worker in busy else None for worker in range(count)])
        ended = sorted(item for result in results for item in result.ended)
        self._running -= {slot for slot, _ in ended}
        return StepResult(sum(result.steps for result in results), ended)

    def _exchange(self, messages: Sequence[Any]) -> list[StepResult]:
        busy = [(worker, message) for worker, message in zip(self._workers, messages, strict=True) if message]
        try:
            for worker, message in busy:
                worker.send(message)
            return [worker.receive() for worker, _ in busy]
        except WorkerDiedError as error:
            check_disk(self._folder, error)
            raise


@contextmanager
def play_folder(folder: Path) -> Iterator[Path]:
    """Make an empty folder for the files of running games, and remove it at the end.

    It belongs into the directory of the results: what cleans the temporary directory does not know that a game is
    running. Where that knows no symbolic links, which nle needs (SMB), another one in the temporary directory is
    yielded. What a killed process left there is removed first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        link = folder / "link"
        try:
            link.symlink_to(folder)
        except OSError:
            with tempfile.TemporaryDirectory(prefix="playscale-games-") as other:
                yield Path(other).resolve()
        else:
            link.unlink()
            yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_disk(folder: Path | None, died: WorkerDiedError) -> None:
    """Raise an OSError if games cannot write their files: at a full disk NetHack aborts without a word."""
    place = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"{place}: a game could not write its files: {error.strerror} ({died})") from error
