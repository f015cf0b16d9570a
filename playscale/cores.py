"""How many cores this process may use: in a container that is seldom how many the machine has."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds, or "max PERIOD"; cgroup v2


def usable_cores(limit: Path = CGROUP) -> int:
    """The cores this process is bound to, or its container's CPU limit where that is less; at least one.

    os.cpu_count() counts the node's: a pod limited to 4 of 96 cores would start 96 workers.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):
        return bound
    return bound if quota == "max" else max(1, min(bound, math.ceil(int(quota) / int(period))))
