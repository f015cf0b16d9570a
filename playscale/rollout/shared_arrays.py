"""Arrays that several processes see: S slots of everything an environment shows and is told.

The weights that actors play with, in memory that they share with the learner.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

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


class SharedArrays:
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


_HEADER = 64
_BEGUN, _DONE = 0, 1


class SharedWeights:
    """All parameters of a policy as float32, twice: while one copy is written, the other can be read.

    `SharedWeights(count)` makes it; with `fd` another process sees the same. Versions count from 0; version v lies in
    copy v % 2, and a reader who was overtaken by two versions reads again.
    """

    def __init__(self, count: int, fd: int | None = None) -> None:
        self.fd = open_memory(_HEADER + 8 * count) if fd is None else fd
        memory = mmap.mmap(self.fd, _HEADER + 8 * count)
        self._versions = np.ndarray((2,), np.int64, memory)
        self._copies = torch.from_numpy(np.ndarray((2, count), np.float32, memory, _HEADER))
        if fd is None:
            self._versions[:] = -1

    def publish(self, parameters: Sequence[Tensor]) -> int:
        """Make these parameters the next version; returns its number. Waits for their device."""
        version = int(self._versions[_DONE]) + 1
        self._versions[_BEGUN] = version
        self._copies[version % 2].copy_(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self._versions[_DONE] = version
        return version

    def load(self, policy: nn.Module, known: int) -> int:
        """Put the newest version into the policy's parameters unless it is the `known` one; returns its number."""
        while (version := int(self._versions[_DONE])) != known:
            flat = self._copies[version % 2].clone()
            if self._versions[_BEGUN] < version + 2:
                parameters = list(policy.parameters())
                with torch.no_grad():
                    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                        parameter.copy_(part.view(parameter.shape))
                return version
        return known

    def close(self) -> None:
        """Give the descriptor back. The memory itself goes with the last process that looks at it."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
