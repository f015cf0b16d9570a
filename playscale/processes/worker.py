"""Worker processes that end with their parent and pass exceptions back.

A worker is at the other end of a socket: a fresh interpreter, or inside a study a fork of a process that has only
imported (fork_server.py). It is no fork of its parent: no thread, lock or CUDA context of the parent gets into it, and
the parent's main module (a notebook, a pipeline's executor) does not run again. It ends when its socket closes, so it
never outlives its parent, however that ends.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playscale.processes.fork_server import Fork, fork
from playscale.processes.signals import STOP_SIGNALS, follow

_LEAVE_SECONDS = 5.0  # a worker whose socket has closed leaves within a step or a second; after this it is killed

log = logging.getLogger(__name__)

Handler = Callable[[Any], Iterable[Any]]
"""Answers one message with any number of replies."""


class WorkerError(RuntimeError):
    """A worker process failed, for no fault of the user's. `trace`: its traceback, if it had time for one."""

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace
        if trace:
            self.add_note(trace)


class WorkerDiedError(WorkerError):
    """A worker process ended without an exception. `exit_code`: minus the signal where one killed it."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True)
class _Failure:
    """The last reply of a worker that raised: the kind of exception for the parent, its text, the traceback."""

    kind: type[Exception]
    text: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        kind = next((kind for kind in (ValueError, OSError) if isinstance(error, kind)), WorkerError)
        known = isinstance(error, ValueError | OSError | WorkerError)
        notes = [] if isinstance(error, WorkerError) else getattr(error, "__notes__", [])
        text = " ".join([str(error) if known else f"{type(error).__name__}: {error}", *notes])
        return cls(kind, text, error.trace if isinstance(error, WorkerError) else traceback.format_exc())

    def exception(self) -> Exception:
        """Return what the parent raises; of another kind than WorkerError, its cause has the traceback."""
        failed = WorkerError(self.text, self.trace)
        if self.kind is WorkerError:
            return failed
        error = self.kind(self.text)
        error.__cause__ = failed
        return error


class WorkerProcess:
    """The parent's end of a worker: `with WorkerProcess(...) as worker`, then send() and receive().

    Args:
        entry: "module:function" of what runs there: a context manager that makes a Handler from the setup.
        setup: What the function is called with; pickled.
        fds: File descriptors that the worker inherits under the same numbers.
        graceful: When the parent dies, the worker finishes the message at hand and cleans up. By default it ends at
            once, which suits work that takes long and is done again by a rerun.
        quiet: Throw away what it writes to stderr.
    """

    def __init__(
        self, entry: str, setup: Any, fds: Sequence[int] = (), *, graceful: bool = False, quiet: bool = False
    ) -> None:
        self._socket, theirs = socket.socketpair()
        self.connection = Connection(os.dup(self._socket.fileno()))
        followed = None if graceful else os.getpid()
        code = f"""
import sys
sys.path[:] = {_import_path()!r}
from playscale.processes.worker import _serve
_serve({theirs.fileno()}, {entry!r}, {followed})
"""
        with theirs:
            self._process = _start(code, (theirs.fileno(), *fds), quiet)
        try:
            self._send(pickle.dumps(setup))
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
        """Send a message. Raises WorkerDiedError when the worker is no longer there."""
        self._send(pickle.dumps(message))

    def _send(self, message: bytes) -> None:
        try:
            self.connection.send_bytes(message)
        except ConnectionError:
            raise self._died() from None

    def receive(self) -> Any:
        """Return its next reply. Raises the ValueError or OSError that it raised, or WorkerError for anything else."""
        try:
            reply = self.connection.recv()
        except (EOFError, ConnectionError):
            raise self._died() from None
        if isinstance(reply, _Failure):
            raise reply.exception()
        return reply

    def stop(self) -> None:
        """Close the socket, after which the worker leaves, without waiting for it."""
        with suppress(OSError):  # it has left already
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End it at once, whatever it is doing, without waiting for it."""
        self._process.kill()

    def close(self, seconds: float = _LEAVE_SECONDS) -> None:
        """Stop it and wait until it has left; kill it after so many seconds."""
        self.stop()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.connection.close()
        self._socket.close()

    def _died(self) -> WorkerError:
        try:
            code = self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerError(f"worker process {self.pid} no longer answers")
        if code >= 0:
            return WorkerDiedError(f"worker process {self.pid} ended with exit code {code}", code)
        number = signal.Signals(-code)
        hint = f" ({HINTS[number]})" if number in HINTS else ""
        return WorkerDiedError(f"worker process {self.pid} was killed by {number.name}{hint}", code)


def _start(code: str, fds: Sequence[int], quiet: bool) -> subprocess.Popen[bytes] | Fork:
    """Run code in another process, in a group of its own: Ctrl-C is for the parent, which then ends its workers."""
    with Path(os.devnull).open("r+b", buffering=0) as null:
        streams = {0: null.fileno(), 1: null.fileno(), 2: null.fileno() if quiet else 2}
        forked = fork(["-c", code], streams | {fd: fd for fd in fds}, own_group=True)
    return forked or subprocess.Popen(
        [sys.executable, "-P", "-c", code],  # -P: see _import_path
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        pass_fds=fds,
        process_group=0,
    )


HINTS = {signal.SIGKILL: "out of memory?", signal.SIGBUS: "is a disk, TMPDIR or /dev/shm full?"}
"""Likely causes of signals that end a worker."""


SILENT_SECONDS = 30.0


def wait_for_any(workers: Iterable[WorkerProcess], kind: str) -> list[WorkerProcess]:
    """Wait until one of these workers answers, and return those that do. Every SILENT_SECONDS, log who does not.

    Args:
        workers: At least one, each of which owes an answer.
        kind: What they are called in the log.
    """
    by_connection: dict[Any, WorkerProcess] = {worker.connection: worker for worker in workers}
    assert by_connection
    silent = 0.0
    while not (ready := wait(by_connection, SILENT_SECONDS)):
        silent += SILENT_SECONDS
        pids = ", ".join(str(worker.pid) for worker in by_connection.values())
        log.warning("no answer for %.0f s from the %s with process id %s", silent, kind, pids)
    return [by_connection[connection] for connection in ready]


def close_all(workers: Iterable[WorkerProcess]) -> None:
    """Stop these workers together, and wait until all have left."""
    workers = list(workers)
    for worker in workers:
        worker.stop()
    deadline = time.monotonic() + _LEAVE_SECONDS
    for worker in workers:
        worker.close(max(0.0, deadline - time.monotonic()))


def run_tasks(
    function: Callable[[Any], Any], tasks: Sequence[Any], workers: int, *, quiet: bool = False
) -> Generator[tuple[int, Any]]:
    """Compute function(task) for every task, in up to `workers` worker processes.

    A worker whose task failed is replaced: what a decoder written in C does with damaged data may have harmed its
    memory. All workers end with the iterator.

    Args:
        function: A function of a module, called in the workers.
        tasks: Its arguments, begun in this order.
        workers: Processes at most.
        quiet: Throw away what the workers write to stderr.

    Yields:
        (i, function(tasks[i])) as tasks end. In place of a result stands the exception that the task raised
        (ValueError, OSError, or WorkerError for any other), or a WorkerDiedError when its process died at it.

    Raises:
        OSError: A worker process could not start.
    """
    waiting = deque(enumerate(tasks))
    running: dict[Any, tuple[WorkerProcess, int]] = {}  # by connection, each with the index of its task
    begun: set[int] = set()
    leaving: list[WorkerProcess] = []

    def give_task(worker: WorkerProcess) -> None:
        index, task = waiting.popleft()
        running[worker.connection] = worker, index
        worker.send(task)

    try:
        while waiting or running:
            while waiting and len(running) < workers:
                with _starting():
                    give_task(WorkerProcess("playscale.processes.worker:_task_worker", function, quiet=quiet))
            for connection in wait(list(running)):
                worker, index = running[connection]
                try:
                    reply = worker.receive()
                except (ValueError, OSError, WorkerError) as error:
                    if index not in begun:
                        with _starting():
                            raise
                    del running[connection]
                    worker.kill()
                    worker.close()
                    yield index, error
                    continue
                if index not in begun:
                    begun.add(index)
                    continue
                if waiting:
                    give_task(worker)
                else:
                    del running[connection]
                    worker.stop()
                    leaving.append(worker)
                yield index, reply
    finally:
        for worker, _ in running.values():
            worker.kill()
        close_all([*leaving, *(worker for worker, _ in running.values())])


@contextmanager
def _starting() -> Iterator[None]:
    """Raise an error of a worker that has not begun its first task as an OSError that says so."""
    try:
        yield
    except (ValueError, OSError, WorkerError) as error:
        raise OSError(f"a worker process could not start: {error}") from error


@contextmanager
def _task_worker(function: Callable[[Any], Any]) -> Iterator[Handler]:
    def answer(task: Any) -> Iterator[Any]:
        yield None  # begun: if the process dies from here on, the task is to blame
        yield function(task)

    yield answer


def _import_path() -> list[str]:
    """Return sys.path for a worker, with the working directory at its end.

    So that a user's own folder there called `playscale` does not hide the package of that name. The folder of this
    package comes before it: an editable installation may not be on sys.path at all.
    """
    here = [path for path in sys.path if Path(path).resolve() == Path.cwd()]
    elsewhere = [path for path in sys.path if path not in here]
    return list(dict.fromkeys([*elsewhere, str(Path(__file__).resolve().parents[2]), *here]))


def _serve(fd: int, entry: str, followed: int | None) -> None:
    """Run a worker: make its handler from the setup, then answer every message with what the handler yields."""
    for number in STOP_SIGNALS:  # sent to all processes of a job: they are for the parent, which then ends its workers
        signal.signal(number, signal.SIG_IGN)
    if followed is not None:
        follow(followed)
    connection = Connection(fd)
    with suppress(EOFError, ConnectionError):  # the parent has closed the socket, or is gone
        setup = connection.recv_bytes()
        with _reported(connection):
            module, _, function = entry.partition(":")
            build: Callable[[Any], AbstractContextManager[Handler]] = getattr(import_module(module), function)
            with build(pickle.loads(setup)) as handle:  # noqa: S301 - the parent's own message
                while True:
                    try:
                        message = connection.recv()
                    except (EOFError, ConnectionError):
                        return
                    for reply in handle(message):
                        connection.send(reply)


@contextmanager
def _reported(connection: Connection) -> Iterator[None]:
    """Send an exception to the parent, which raises it, and end this process."""
    try:
        yield
    except Exception as error:
        connection.send(_Failure.of(error))
        raise SystemExit(1) from error
