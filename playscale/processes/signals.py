"""The end of a process: by a signal, or with its parent; and standard streams that were closed at its start."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


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


STOPPED = "stopped by SIG"  # how the text of every Stopped begins


class Stopped(SystemExit):
    """SIGTERM or SIGINT asked this process to end. The exit code is 143 or 130; `advice` says what to do then."""

    def __init__(self, number: int, advice: str = "run the same command again to go on") -> None:
        super().__init__(128 + number)
        self.number, self.advice = number, advice

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}; {self.advice}"


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
