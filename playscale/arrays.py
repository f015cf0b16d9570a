"""Named arrays in one block of mapped memory: shared between processes, or used again and again in one."""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Mapping

import numpy as np

from playscale.games.game import Column

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
MAX_IDLE = 4  # idle blocks kept


class ArrayLayout:
    """Arrays [*leading, *shape] of these columns, one after the other in a block of `size` bytes."""

    def __init__(self, columns: Mapping[str, Column], leading: tuple[int, ...] = ()) -> None:
        self._arrays: dict[str, tuple[int, tuple[int, ...], np.dtype]] = {}
        self.size = 0
        for name, column in columns.items():
            shape, dtype = (*leading, *column.shape), np.dtype(column.dtype)
            self._arrays[name] = self.size, shape, dtype
            self.size += -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT

    def view(self, memory: mmap.mmap | np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays by name; they refer to the memory."""
        return {name: np.ndarray(shape, dtype, memory, offset) for name, (offset, shape, dtype) in self._arrays.items()}


class SharedArrays:
    """One array [*leading, *shape] per column, zeros at first, in memory shared through a file descriptor.

    `SharedArrays(columns, leading)` allocates it; `SharedArrays(columns, leading, fd)` in another process, which
    inherited `fd`, sees the same arrays.
    """

    def __init__(self, columns: Mapping[str, Column], leading: tuple[int, ...] = (), fd: int | None = None) -> None:
        layout = ArrayLayout(columns, leading)
        size = max(layout.size, ALIGNMENT)
        self.fd = _open_memory(size) if fd is None else fd
        self.arrays = layout.view(mmap.mmap(self.fd, size))

    def close(self) -> None:
        """Close the descriptor. The memory is freed with the last array, in any process, that refers to it."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _open_memory(size: int) -> int:
    """Open memory without a name: nothing is left in /dev/shm, however the processes end."""
    if sys.platform == "linux":
        fd = os.memfd_create("playscale")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class ReusedArrays:
    """Allocate sets of uncleared arrays of the same columns, reusing the memory of sets that nobody holds any more.

    New memory is expensive: the system clears every page of it, which takes as long as decoding the frames of a corpus.
    What malloc keeps of freed arrays depends on their size and on the thread; this does not.
    """

    def __init__(self, columns: Mapping[str, Column], leading: tuple[int, ...] = ()) -> None:
        self._layout = ArrayLayout(columns, leading)
        self._idle: list[mmap.mmap] = []

    def allocate(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, in memory that is not reused before the last view of the last of them is gone."""
        memory = self._idle.pop() if self._idle else mmap.mmap(-1, self._layout.size)
        # Every view, and every tensor made of one, refers to `root`: when root is collected, none of them is left.
        root = np.ndarray(self._layout.size, np.uint8, memory)
        weakref.finalize(root, self._release, memory).atexit = False
        return self._layout.view(root)

    def _release(self, memory: mmap.mmap) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append(memory)
