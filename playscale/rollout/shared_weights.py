"""The weights that actors play with, in memory that they share with the learner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from playscale.arrays import SharedArrays
from playscale.games.game import Column

_BEGUN, _DONE = 0, 1


class SharedWeights:
    """All parameters of a policy as float32, twice: while one copy is written, the other can be read.

    `SharedWeights(count)` allocates the memory of `count` parameters; with `fd` another process sees the same. Versions
    count from 0; version v lies in copy v % 2, and a reader that was overtaken by two versions reads again.
    """

    def __init__(self, count: int, fd: int | None = None) -> None:
        self._memory = SharedArrays(
            {"versions": Column((2,), "int64"), "copies": Column((2, count), "float32")}, (), fd
        )
        self._versions = self._memory.arrays["versions"]
        self._copies = torch.from_numpy(self._memory.arrays["copies"])
        if fd is None:
            self._versions[:] = -1

    @property
    def fd(self) -> int:
        return self._memory.fd

    def publish(self, parameters: Sequence[Tensor]) -> int:
        """Make these parameters the next version and return its number. Waits for their device."""
        version = int(self._versions[_DONE]) + 1
        self._versions[_BEGUN] = version
        self._copies[version % 2].copy_(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self._versions[_DONE] = version
        return version

    def load(self, policy: nn.Module, known: int) -> int:
        """Put the newest version into the policy's parameters unless it is the `known` one; return its number."""
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
        """Close the descriptor. The memory is freed with the last process that refers to it."""
        self._memory.close()
