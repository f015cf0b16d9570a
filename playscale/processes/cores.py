"""The cores that this process may use, and how fast they are."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


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


def cpu_matmul_rate(size: int = 2048, repeats: int = 6) -> float:
    """Return the FLOP/s of an fp32 matrix product on all usable cores, the best of a few; a second or less.

    Beside a time it says what the machine was like: cores of one name differ by a factor of two from day to day.
    """
    import numpy as np  # small processes ask for the cores alone

    matrix, seconds = np.ones((size, size), np.float32), []
    for _ in range(repeats):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def _groups(mount: Path, path: str) -> list[Path]:
    """Return the folders of a control group and of those around it.

    In a container the process's own group may be at the mount, and its path one of the host, which is not there.
    """
    parts = [part for part in path.split("/") if part]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
