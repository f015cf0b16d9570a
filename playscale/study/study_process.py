"""The process that works in a study's directory: locked for others, and recorded for those who only look.

A lock cannot be looked at without taking it. The record OUT/progress/process says which process has it, so that a
study that runs can be told from one that was killed.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from playscale.scaling.numbers import duration
from playscale.storage.files import locked, read_json, write_json

RECORD = "progress/process"
QUIET = 300.0
"""Seconds without a change after which a study counts as not running, where its process cannot be looked at."""
SAME_START = 5.0  # seconds: the clock that a process's start is measured by may be set right meanwhile


@dataclass(frozen=True)
class StudyProcess:
    """A process that works in a study's directory, or did.

    Attributes:
        pid: Its number.
        host: The machine or container that the number belongs to.
        began: Unix time at which it started, since numbers are used again.
        out: The study's directory, or s3://BUCKET/PREFIX of a study whose process and log alone are here.
        command: The command that goes on with the study; "" where that is not known.
        ended: Unix time at which it ended by itself; None while it runs, and after a kill.
    """

    pid: int
    host: str
    began: float
    out: str = ""
    command: str = ""
    ended: float | None = None

    @property
    def runs(self) -> bool | None:
        """Tell whether it is alive; None of another machine's."""
        if self.ended is not None:
            return False
        if self.host != _host():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.began) < SAME_START
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


@contextmanager
def at_work(folder: Path, out: str = "", command: str = "") -> Iterator[None]:
    """Lock a study's directory while the block runs, and record this process there.

    Args:
        folder: The study's directory on this machine.
        out: Its directory as given, which may be in S3; by default `folder`.
        command: The command that goes on with the study; by default the one that an earlier process left.

    Raises:
        ValueError: Another process works there.
    """
    with locked(folder, "study"):
        earlier = read_process(folder)
        command = command or (earlier.command if earlier else "")
        own = StudyProcess(os.getpid(), _host(), psutil.Process().create_time(), out or str(folder), command)
        write_json(folder / RECORD, asdict(own))
        try:
            yield
        finally:
            with suppress(OSError):  # of a full disk; the process's end says the same
                write_json(folder / RECORD, asdict(replace(own, ended=time.time())))


def read_process(folder: Path) -> StudyProcess | None:
    """Return the process that works in a study's directory, or did; None where an earlier version left no record."""
    try:
        return StudyProcess(**read_json(folder / RECORD))
    except (OSError, ValueError, TypeError):
        return None


def seems_to_run(process: StudyProcess | None, changed: float | None) -> bool:
    """Tell whether a study runs: by its process, else by the unix time of its last change; None after its last step."""
    if process is not None and process.runs is not None:
        return process.runs
    return changed is not None and time.time() - changed < QUIET


def evidence(process: StudyProcess | None, changed: float | None) -> str:
    """Return what tells whether a study runs, where that needs to be said; "" for a process that is alive."""
    ago = "" if changed is None else f"{duration(time.time() - changed)} ago"
    if process is None or process.runs is None:
        return f"by its last change, {ago}" if ago else ""
    if process.runs:
        return ""
    if process.ended is not None:
        return f"it ended {duration(time.time() - process.ended)} ago"
    return f"its process {process.pid} is gone: it was killed; last change {ago}"


def _host() -> str:
    """Return a name of what process numbers count in: a container may share its machine's name."""
    numbers = ""
    with suppress(OSError):
        numbers = Path("/proc/self/ns/pid").readlink().name
    return json.dumps([socket.gethostname(), numbers])
