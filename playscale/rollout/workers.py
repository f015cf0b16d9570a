"""Environment workers: processes that step S slots for one caller, who sees all slots as arrays.

S slots, one episode in each; slot s lives in process s % processes. Observations and actions lie in shared memory; the
sockets carry only who is to step and who has ended.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from playscale.games.game import Column, Game, Outcome
from playscale.rollout.episode import Task
from playscale.rollout.slab import Slab
from playscale.rollout.worker import Failure, Setup

_LEAVE_SECONDS = 5.0  # a worker whose socket has closed needs milliseconds to leave; after this it is killed


class Workers:
    """A set of worker processes. Made and closed by its user: `with Workers(...) as workers`.

    A new interpreter is started for each, not a fork: no thread or lock of the caller gets into it, and nothing of the
    caller's main module (a notebook, a pipeline's executor) runs again.
    """

    def __init__(self, game: Game, processes: int, slots: int, max_steps: int, *, scripted: bool = False) -> None:
        assert processes >= 1
        assert slots >= 1
        columns = {**game.columns, "action": Column((), "int64")}
        self._slab = Slab(columns, slots)
        self._live: set[int] = set()
        self._members: list[_Member] = []
        try:
            for _ in range(min(processes, slots)):
                self._members.append(_start(self._slab.fd))
            setup = Setup(game, columns, slots, self._slab.fd, max_steps, scripted)
            for member in self._members:
                member.connection.send_bytes(pickle.dumps(setup))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The slots: every column of the game and `action` i64, each [S, ...]."""
        return self._slab.arrays

    @property
    def pids(self) -> list[int]:
        return [member.process.pid for member in self._members]

    def begin(self, tasks: Sequence[Task]) -> None:
        """Start task i in slot i; when this returns the first observations are there."""
        assert not self._live, "the episodes before have not ended"
        self._live = set(range(len(tasks)))
        count = len(self._members)
        self._exchange([list(enumerate(tasks))[member::count] for member in range(count)])

    def step(self, steps: int = 1) -> list[tuple[int, Outcome]]:
        """One action (the expert: up to `steps`) in every running slot; those that ended leave, in order of slots.

        Raises ValueError or OSError when an environment did, RuntimeError when a worker failed in any other way.
        """
        count = len(self._members)
        busy = {slot % count for slot in self._live}
        ended = sorted(self._exchange([steps if member in busy else None for member in range(count)]))
        self._live -= {slot for slot, _ in ended}
        return ended

    def stop(self) -> None:
        """Make the processes leave. May be called from another thread: a step that is waiting there raises."""
        for member in self._members:
            with suppress(OSError):  # it has left already
                member.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the processes and give everything back."""
        self.stop()
        members, self._members = self._members, []
        for member in members:
            try:
                member.process.wait(_LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            member.connection.close()
            member.socket.close()
        self._slab.close()

    def _exchange(self, messages: Sequence[Any]) -> list[tuple[int, Outcome]]:
        asked = [(member, message) for member, message in zip(self._members, messages, strict=True) if message]
        for member, message in asked:
            _send(member, message)
        return [ended for member, _ in asked for ended in _receive(member)]


class _Member(NamedTuple):
    process: subprocess.Popen
    socket: socket.socket
    connection: Connection  # over a duplicate of the socket


def _start(slab_fd: int) -> _Member:
    ours, theirs = socket.socketpair()
    code = f"import sys; sys.path[:] = {sys.path!r}; from playscale.rollout.worker import main; main({theirs.fileno()})"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), slab_fd),
            process_group=0,  # Ctrl-C is for the parent, which then closes its workers
        )
    return _Member(process, ours, Connection(os.dup(ours.fileno())))


def _send(member: _Member, message: Any) -> None:
    try:
        member.connection.send(message)
    except ConnectionError:
        raise _lost(member.process) from None


def _receive(member: _Member) -> list[tuple[int, Outcome]]:
    try:
        answer = member.connection.recv()
    except (EOFError, ConnectionError):
        raise _lost(member.process) from None
    if isinstance(answer, Failure):
        if answer.kind is RuntimeError:
            raise RuntimeError(f"environment worker failed: {answer.text}\n{answer.trace}")
        raise answer.kind(answer.text)
    return answer


def _lost(process: subprocess.Popen) -> RuntimeError:
    try:
        code = process.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        return RuntimeError(f"environment worker {process.pid} no longer answers")
    if code >= 0:
        return RuntimeError(f"environment worker {process.pid} ended with exit code {code}")
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return RuntimeError(f"environment worker {process.pid} was killed by {signal.Signals(-code).name}{hint}")
