"""Arrays that several processes see: S slots of everything an environment shows and is told."""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Mapping

import numpy as np

from playscale.games.game import Column

_ALIGN = 64


def open_memory(size: int) -> int:
    """A descriptor of `size` bytes of memory without a name: nothing is left in /dev/shm, however the processes end."""
    if sys.platform == "linux":
        fd = os.memfd_create("playscale")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class Slab:
    """One array [slots, *shape] per column, in memory shared through a file descriptor.

    `Slab(columns, slots)` makes it; `Slab(columns, slots, fd)` in another process, which inherited `fd`, sees the same.
    """

    def __init__(self, columns: Mapping[str, Column], slots: int, fd: int | None = None) -> None:
        sizes = {name: slots * math.prod(c.shape) * np.dtype(c.dtype).itemsize for name, c in columns.items()}
        padded = {name: -(-size // _ALIGN) * _ALIGN for name, size in sizes.items()}
        total = max(sum(padded.values()), _ALIGN)
        self.fd = open_memory(total) if fd is None else fd
        memory = mmap.mmap(self.fd, total)
        self.arrays: dict[str, np.ndarray] = {}
        offset = 0
        for name, column in columns.items():
            self.arrays[name] = np.ndarray((slots, *column.shape), column.dtype, memory, offset)
            offset += padded[name]

    def close(self) -> None:
        """Give the descriptor back. The memory itself goes with the last array that looks at it."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
