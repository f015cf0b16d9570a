"""Worker processes that end with their parent, the signals that end a command, and the cores that it may use.

A worker is a fresh interpreter at the other end of a socket, not a fork: no thread, lock or CUDA context of the parent
gets into it, and the parent's main module (a notebook, a pipeline's executor) does not run again. It ends when its
socket closes, so it never outlives its parent, however that ends.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
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
        return WorkerError(self.text, self.trace) if self.kind is WorkerError else self.kind(self.text)


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
from playscale.processes import _serve
_serve({theirs.fileno()}, {entry!r}, {followed})
"""
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],  # -P: see _import_path
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if quiet else None,
                pass_fds=(theirs.fileno(), *fds),
                process_group=0,  # Ctrl-C is for the parent, which then ends its workers
            )
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
                    give_task(WorkerProcess("playscale.processes:_task_worker", function, quiet=quiet))
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
    return list(dict.fromkeys([*elsewhere, str(Path(__file__).resolve().parents[1]), *here]))


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


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores this process is bound to, or the CPU limit of its control groups where that is less.

    os.cpu_count() counts the node's: a pod limited to 4 of 96 cores would start 96 workers.

    Args:
        root: Root of the file system that holds /proc and /sys.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([bound, *_cpu_limits(root)])))


def _cpu_limits(root: Path) -> Iterator[float]:
    """Yield the limits, in cores, of the control groups (version 1 and 2) around this process."""
    unified = cpu = "/"
    with suppress(OSError):
        for line in filter(
            None, (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        ):
            _, controllers, path = line.split(":", 2)
            if not controllers:
                unified = path
            elif "cpu" in controllers.split(","):
                cpu = path
    for folder in _groups(root / "sys/fs/cgroup", unified):
        with suppress(OSError, ValueError):  # no such file, or "max PERIOD"
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            yield int(quota) / int(period)
    for folder in _groups(root / "sys/fs/cgroup/cpu", cpu):
        with suppress(OSError, ValueError):
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
            if int(quota) > 0:  # -1: no limit
                yield int(quota) / int(period)


def _groups(mount: Path, path: str) -> list[Path]:
    """Return the folders of a control group and of those around it.

    In a container the process's own group may be at the mount, and its path one of the host, which is not there.
    """
    parts = [part for part in path.split("/") if part]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


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

    threading.Thread(target=wait, name="follow", daemon=True).start()


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME_SECONDS = 1.0  # `timeout` and batch systems signal a process and then its group: that is one signal


class Stopped(SystemExit):
    """SIGTERM or SIGINT asked this process to end. The exit code is 143 or 130."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}; run the same command again to go on"


@dataclass
class _StopRequest:
    """The signal that asked this process to end, and when; `held`: it waits for the end of a stop_held()."""

    number: int | None = None
    at: float = 0.0
    held: bool = False


_request = _StopRequest()


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped in the main thread when SIGTERM or SIGINT arrives inside; a second one ends the process at once.

    A signal that the parent has made this process ignore (nohup, a shell's background job) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_stop_signal)
    try:
        yield
    finally:
        if _request.number is None:  # else the handlers stay, for a second signal
            for number, handler in before.items():
                signal.signal(number, handler)


def stop_signal() -> int | None:
    """Return the signal that has asked this process to end."""
    return _request.number


@contextmanager
def stop_held() -> Iterator[None]:
    """Hold Stopped back until the end of the block, or until the block has saved its state and raises it itself."""
    _request.held = True
    try:
        yield
    finally:
        _request.held = False
    if _request.number is not None:
        raise Stopped(_request.number)


def _on_stop_signal(number: int, frame: object) -> None:
    del frame
    now = time.monotonic()
    if _request.number is not None:
        if now - _request.at > _SAME_SECONDS:
            os._exit(128 + number)
        return
    _request.number, _request.at = number, now
    if not _request.held:
        raise Stopped(number)
    text = f"playscale: {signal.Signals(number).name}: saving, then ending; a second signal ends at once\n"
    with suppress(OSError):
        os.write(2, text.encode())  # sys.stderr may be in the middle of another line


def fill_standard_descriptors() -> None:
    """Open /dev/null where a standard stream is closed: else the next file or socket would become that stream."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            assert fd == number
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False, encoding="utf-8"))
