"""The processes below one (Linux: read from /proc), and a whole tree of them held still."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def below(pid: int) -> list[int]:
    """The processes that `pid` started, and those that these started, by id; those that have ended are left out."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    found, look = [], [pid]
    while look:
        at = look.pop()
        children = [child for child, parent in parents.items() if parent == at]
        found += children
        look += children
    return sorted(found)


def hold(pid: int) -> None:
    """Stop a process and all below it where they are."""
    _send(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """Let a tree that is held go on."""
    _send(pid, signal.SIGCONT)


def end(pid: int) -> None:
    """Kill a process and all below it."""
    _send(pid, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    for member in (pid, *below(pid)):
        with suppress(ProcessLookupError):
            os.kill(member, number)
