"""What this process shares with others: read from /proc."""

import gc
from pathlib import Path


def shared_memory():
    """What this process holds of the package's unnamed memory, and the names in /dev/shm but for semaphores."""
    gc.collect()  # the memory goes with the last array that looks at it
    held = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            held.append(str(path.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    named = (path.name for path in Path("/dev/shm").iterdir())  # noqa: S108
    return sorted(name for name in held if "memfd:playscale" in name), sorted(n for n in named if n[:4] != "sem.")
