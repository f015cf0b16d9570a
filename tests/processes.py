"""Which processes there are below one, and what they share: read from /proc."""

import time
from pathlib import Path


def below(pid):
    """The processes that `pid` started, and those that these started, in order of their ids; zombies left out."""
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


def shared_memory():
    """What this process holds of the package's unnamed memory, and the names in /dev/shm but for semaphores."""
    held = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            held.append(str(path.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    named = (path.name for path in Path("/dev/shm").iterdir())  # noqa: S108
    return sorted(name for name in held if "memfd:playscale" in name), sorted(n for n in named if n[:4] != "sem.")


def wait_until(true, seconds=60.0):
    """Wait for a condition that is known to come about."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
