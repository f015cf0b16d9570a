"""State of processes, read from /proc: whether one has ended, and the shared memory that this one holds."""

import gc
import time
from pathlib import Path


def gone(pid: int, seconds: float = 60.0) -> bool:
    """Return whether the process ends within that time; a zombie that nobody waits for has ended."""
    end = time.monotonic() + seconds
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)


def shared_memory():
    """Return the package's unnamed memory that this process holds, and the names of the package in /dev/shm."""
    gc.collect()  # the memory is freed with the last array that looks at it
    held = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            held.append(str(path.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    named = (path.name for path in Path("/dev/shm").iterdir())  # noqa: S108
    return sorted(name for name in held if "memfd:playscale" in name), sorted(n for n in named if "playscale" in n)
