"""Memory for batches, used again once nobody holds what was made of it.

New memory is expensive: the system clears every page of it, which takes as long as decoding the frames. What malloc
keeps of freed arrays depends on their size and on the thread; this does not.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

KEPT = 4  # idle pieces at most
ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


@dataclass(frozen=True)
class Field:
    """An array to be had: shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return -(-math.prod(self.shape) * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT


class Memory:
    """Lends sets of uncleared arrays; all sets of one Memory have the same fields."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)
        self._size = sum(field.size for field in fields.values())
        self._idle: list[mmap.mmap] = []

    def lend(self) -> dict[str, np.ndarray]:
        """The arrays by name, in memory that no one else holds until the last view of the last of them is gone."""
        piece = self._idle.pop() if self._idle else mmap.mmap(-1, self._size)
        # Every view, and every tensor made of one, refers to `root`; so root's end is the end of them all.
        root = np.ndarray(self._size, np.uint8, piece)
        weakref.finalize(root, self._take_back, piece).atexit = False
        arrays, at = {}, 0
        for name, field in self._fields.items():
            raw = root[at : at + math.prod(field.shape) * field.dtype.itemsize]
            arrays[name] = raw.view(field.dtype).reshape(field.shape)
            at += field.size
        return arrays

    def _take_back(self, piece: mmap.mmap) -> None:
        if len(self._idle) < KEPT:
            self._idle.append(piece)
