"""The weights that actors play with, in memory that they share with the learner."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from playscale.rollout.shared_arrays import open_memory

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
