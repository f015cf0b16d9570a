"""Helper processes: a fresh interpreter at the other end of a socket.

A new interpreter is started for each, not a fork: no thread, lock or CUDA context of the parent gets into it, and
nothing of the parent's main module (a notebook, a pipeline's executor) runs again. It ends when its socket closes, so
it never outlives its parent, however that ends.

How many cores this process may use: in a container that is seldom how many the machine has.

Processes that do not outlive the one they work for.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_LEAVE_SECONDS = 5.0  # a process whose socket has closed leaves within a step or a second; after this it is killed

Handler = Callable[[Any], Iterable[Any]]


class WorkerError(RuntimeError):
    """A helper process failed, for no fault of the user's. `trace`: its traceback, if it had time for one."""

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace
        if trace:
            self.add_note(trace)


@dataclass(frozen=True)
class Failure:
    """The last thing a process says: what kind of error it is to the parent, one line, and the traceback."""

    kind: type[Exception]
    text: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        kind = next((kind for kind in (ValueError, OSError) if isinstance(error, kind)), WorkerError)
        known = isinstance(error, ValueError | OSError | WorkerError)
        notes = [] if isinstance(error, WorkerError) else getattr(error, "__notes__", [])
        text = " ".join([str(error) if known else f"{type(error).__name__}: {error}", *notes])
        return cls(kind, text, error.trace if isinstance(error, WorkerError) else traceback.format_exc())

    def exception(self) -> Exception:
        return WorkerError(self.text, self.trace) if self.kind is WorkerError else self.kind(self.text)


class WorkerProcess:
    """The parent's end: `with Child(...) as child`, then send() and receive().

    `entry` is "module:function" of what runs there: it is called with a file descriptor and passes it to serve().
    `setup` is the first message; the descriptors `fds` are inherited under the same numbers.
    """

    def __init__(self, entry: str, setup: Any, fds: Sequence[int] = ()) -> None:
        module, _, function = entry.partition(":")
        self._socket, theirs = socket.socketpair()
        self.connection = Connection(os.dup(self._socket.fileno()))
        code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import {function}; {function}({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *fds),
                process_group=0,  # Ctrl-C is for the parent, which then ends its children
            )
        try:
            self.connection.send_bytes(pickle.dumps(setup))
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
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except ConnectionError:
            raise self._lost() from None

    def receive(self) -> Any:
        """Its next reply. Raises the ValueError or OSError that it raised, or WorkerError for anything else."""
        try:
            reply = self.connection.recv()
        except (EOFError, ConnectionError):
            raise self._lost() from None
        if isinstance(reply, Failure):
            raise reply.exception()
        return reply

    def stop(self) -> None:
        """Tell it to leave, without waiting."""
        with suppress(OSError):  # it has left already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.stop()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.connection.close()
        self._socket.close()

    def _lost(self) -> WorkerError:
        try:
            code = self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerError(f"process {self.pid} no longer answers")
        if code >= 0:
            return WorkerError(f"process {self.pid} ended with exit code {code}")
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return WorkerError(f"process {self.pid} was killed by {signal.Signals(-code).name}{hint}")


def serve(fd: int, build: Callable[[Any], AbstractContextManager[Handler]]) -> None:
    """The child's end: build a handler from the setup, then answer every message with what it yields."""
    connection = Connection(fd)
    with suppress(EOFError, ConnectionError):  # the parent has closed the socket, or is gone
        setup = connection.recv_bytes()
        with _told(connection), build(pickle.loads(setup)) as handle:  # noqa: S301 - the parent's own message
            while True:
                try:
                    message = connection.recv()
                except (EOFError, ConnectionError):
                    return
                for reply in handle(message):
                    connection.send(reply)


@contextmanager
def _told(connection: Connection) -> Iterator[None]:
    """An error is told to the parent, whose business it is to say so; this process just ends."""
    try:
        yield
    except Exception as error:
        connection.send(Failure.of(error))
        raise SystemExit(1) from error


CGROUP = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds, or "max PERIOD"; cgroup v2


def usable_cores(limit: Path = CGROUP) -> int:
    """The cores this process is bound to, or its container's CPU limit where that is less; at least one.

    os.cpu_count() counts the node's: a pod limited to 4 of 96 cores would start 96 workers.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):
        return bound
    return bound if quota == "max" else max(1, min(bound, math.ceil(int(quota) / int(period))))


def follow(pid: int) -> None:
    """End this process at once when process `pid` ends, even by kill -9. For work that a rerun picks up."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
