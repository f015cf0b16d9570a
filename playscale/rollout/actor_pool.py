"""The actors of a learner: processes that play with its newest weights and produce unrolls.

An actor waits until the learner has taken its unroll before it plays on, so that actors never run far ahead of the
learner. An actor that dies is replaced; the episodes that it was playing are lost, the unrolls it delivered are not.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import nn

from playscale.agents.layers import on_meta
from playscale.agents.policy import PolicyConfig, build_policy
from playscale.games.game import GAMES, get_game
from playscale.processes.worker import WorkerError, WorkerProcess, close_all, wait_for_any
from playscale.rollout.actor import ENTRY, GO, ActorSetup, UnrollStats
from playscale.rollout.shared_weights import SharedWeights
from playscale.rollout.unroll import Unroll, UnrollBuffer
from playscale.tracking.monitor import count

MAX_FAILURES = 3
"""Failures of an actor in a row, without an unroll in between, after which it is not replaced again."""

log = logging.getLogger(__name__)


class ActorPool:
    """The actors of one learner: `with ActorPool(...) as actors`, publish() weights, then next().

    No process outlives it.
    """

    def __init__(
        self,
        policy: PolicyConfig,
        *,
        actors: int,
        workers: int,
        environments: int,
        unroll: int,
        max_steps: int,
        device: str,
        seed: tuple[int, ...],
        folder: Path | None = None,
    ) -> None:
        """Allocate the shared memory; the processes start with the first publish().

        workers: environment processes of each actor. environments: environments of each actor. unroll: actions in an
        unroll. seed: fixes the episodes, but not the order in which the actors deliver. folder: where running games
        keep their files (see play_folder); by default the temporary directory.
        """
        self.restarts, self._stopped = 0, False
        with on_meta():
            like = build_policy(policy)
        state = like.initial_state(1, "cpu")
        columns = get_game(policy.game).columns
        with ExitStack() as stack:
            self._weights = SharedWeights(sum(p.numel() for p in like.parameters()))
            stack.callback(self._weights.close)
            self._buffers = []
            for _ in range(actors):
                self._buffers.append(UnrollBuffer(columns, state, unroll, environments))
                stack.callback(self._buffers[-1].close)
            self._setups = [
                ActorSetup(
                    policy, dict(GAMES), workers, environments, unroll, max_steps, device, (*seed, number),
                    buffer.fds, self._weights.fd, folder,
                )
                for number, buffer in enumerate(self._buffers)
            ]  # fmt: skip
            self._processes: list[WorkerProcess | None] = [None] * actors
            self._failures = [0] * actors
            self._ready: deque[tuple[int, UnrollStats]] = deque()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        close_all(process for process in self._processes if process is not None)
        self._stack.close()

    def stop(self) -> None:
        """Tell the actors to end, without waiting; a next() that is waiting raises WorkerError."""
        self._stopped = True
        for process in self._processes:
            if process is not None:
                process.stop()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process is not None]

    def publish(self, policy: nn.Module) -> int:
        """Make these the weights that the actors' next unrolls are played with; the first call starts the actors.

        Returns the version of the weights.
        """
        version = self._weights.publish(list(policy.parameters()))
        for number, process in enumerate(self._processes):
            if process is None:
                self._start(number)
        return version

    def unrolls(self) -> Iterator[Unroll]:
        """Yield unrolls for ever, as next() returns them."""
        while True:
            yield self.next()

    def next(self) -> Unroll:
        """Return the next complete unroll, in the order of completion, and let its actor play on.

        Raises:
            ValueError, OSError: What an actor raised.
            WorkerError: An actor failed MAX_FAILURES times in a row.
        """
        while not self._ready:
            ready = wait_for_any((process for process in self._processes if process is not None), "actors")
            for number, process in enumerate(self._processes):
                if process in ready:
                    self._receive(number, process)
        number, stats = self._ready.popleft()
        buffer = self._buffers[number]
        frames = {name: array.copy() for name, array in buffer.frames.items()}
        recurrent = {name: array.copy() for name, array in buffer.recurrent.items()}
        self._go_on(number)
        return Unroll(number, stats.version, frames, recurrent, stats.interactions, stats.episodes, stats.seconds)

    def _go_on(self, number: int) -> None:
        process = self._processes[number]
        assert process is not None
        try:
            process.send(GO)
        except WorkerError as error:
            self._replace(number, error)

    def _receive(self, number: int, process: WorkerProcess) -> None:
        try:
            stats: UnrollStats = process.receive()
        except WorkerError as error:
            self._replace(number, error)
            return
        self._failures[number] = 0
        self._ready.append((number, stats))

    def _replace(self, number: int, error: WorkerError) -> None:
        self._failures[number] += 1
        if self._stopped or self._failures[number] >= MAX_FAILURES:
            raise error
        log.warning("actor %d failed (%s): starting another in its place", number, str(error))  # no traceback kept
        process = self._processes[number]
        assert process is not None
        process.close()
        self.restarts += 1
        count("errors", label="actor")
        setup = self._setups[number]
        self._setups[number] = replace(setup, seed=(*setup.seed, self.restarts))  # else it would play the same episodes
        self._start(number)

    def _start(self, number: int) -> None:
        setup = self._setups[number]
        self._processes[number] = WorkerProcess(ENTRY, setup, (*setup.buffer_fds, setup.weights_fd))
        self._go_on(number)
