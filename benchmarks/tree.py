"""List, pause, resume and kill a process and its descendants (Linux: read from /proc)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def below(pid: int) -> list[int]:
    """Return the ids of the living descendants of process `pid`."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    result, look = [], [pid]
    while look:
        at = look.pop()
        children = [child for child, parent in parents.items() if parent == at]
        result += children
        look += children
    return sorted(result)


def hold(pid: int) -> None:
    """Pause a process and its descendants."""
    _send(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """Resume a paused process and its descendants."""
    _send(pid, signal.SIGCONT)


def end(pid: int) -> None:
    """Kill a process and its descendants."""
    _send(pid, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    for member in (pid, *below(pid)):
        with suppress(ProcessLookupError):
            os.kill(member, number)
