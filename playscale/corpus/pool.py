"""Worker processes that may die at their work without harm to the rest."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from playscale.processes import follow

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


@dataclass(frozen=True)
class Failed:
    """In place of a result: the task raised ValueError, or its process crashed at it."""

    reason: str


def unordered(function: Callable[[Any], Any], tasks: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    """(i, function(tasks[i]) or Failed) as they are done, in `workers` spawned processes.

    A process whose task failed is replaced: what a decoder written in C does with damaged data may have harmed
    its memory. Any exception but ValueError (a full disk, say) is raised here. The processes end with the one
    that started them, however that one ends.
    """
    waiting = list(range(len(tasks)))[::-1]
    crew: dict[Any, _Worker] = {}
    try:
        while waiting or crew:
            while waiting and len(crew) < workers:
                worker = _Worker(function)
                crew[worker.connection] = worker
                worker.give(waiting.pop(), tasks)
            for connection in wait(list(crew)):
                worker = crew[connection]
                if not worker.ready():
                    continue
                index, result = worker.index, worker.result()
                if isinstance(result, Failed) or not waiting:
                    crew.pop(connection).stop()
                else:
                    worker.give(waiting.pop(), tasks)
                yield index, result
    finally:
        for worker in crew.values():
            worker.stop()


class _Worker:
    """One process, and the task that it has."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.index = -1
        self._started = False

    def give(self, index: int, tasks: Sequence[Any]) -> None:
        self.index = index
        with contextlib.suppress(BrokenPipeError):  # it died; result() says how
            self.connection.send(tasks[index])

    def ready(self) -> bool:
        """Whether what the process has to say is more than that it has started. OSError when it died before that."""
        if self._started:
            return True
        try:
            self._started = self.connection.recv()
        except EOFError as error:
            self.process.join()
            raise OSError(f"a worker process could not start (exit status {self.process.exitcode})") from error
        return False

    def result(self) -> Any:
        """The result, or Failed; raises what the task raised otherwise, and OSError when the process was killed."""
        try:
            result = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self.process.join()
            code = -(self.process.exitcode or 0)
            if code in CRASHES:
                return Failed(f"the decoder crashed on it ({signal.Signals(code).name})")
            raise OSError(f"a worker process was stopped (exit status {-code}); is there enough memory?") from error
        if isinstance(result, Exception):
            raise result
        return result

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _work(connection: Connection, function: Callable[[Any], Any], parent: int) -> None:
    follow(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it, and stops us
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders in C print there what we report as reasons
    try:
        connection.send(True)
        while True:
            task = connection.recv()
            result: Any
            try:
                result = function(task)
            except ValueError as error:
                result = Failed(str(error))
            except Exception as error:  # noqa: BLE001 - raised again in the parent
                result = error
            connection.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
