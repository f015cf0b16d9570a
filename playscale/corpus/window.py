"""The part of a stream that is written but not yet given out. Legend: T unroll, B batch (columns), R rows of a span.

A block is decoded into memory that stays in the processor's cache and copied at once to the batches that its
transitions belong to, up to BLOCK steps ahead: frames go to main memory once. So several batches are open at a time.
They lie in spans, arrays [R, B, ...] of which each batch is a slice of T rows: a block is written with few calls
however short the unroll.

Memory for batches, used again once nobody holds what was made of it.

New memory is expensive: the system clears every page of it, which takes as long as decoding the frames. What malloc
keeps of freed arrays depends on their size and on the thread; this does not.

Which game each column of a stream plays, and when: arithmetic on the games' lengths alone.

Legend: B columns. Time counts transitions from the beginning of the stream, the same in every column.

The games wait in one queue. A column whose game ends takes the next one (of columns that become free at the
same time, the lower first), so that in a train stream every game, thus every transition, is played once before
any is played again, however uneven the lengths.
"""

from __future__ import annotations

import heapq
import itertools
import math
import mmap
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from playscale.corpus.layout import Arrays
from playscale.games.game import Column

ROWS = 128  # of a span at least, unless the unroll is longer

Batch = dict[str, np.ndarray]


class Window:
    """Batches from time `begin` on, in their order; see Corpus.stream for what they hold."""

    def __init__(self, columns: Mapping[str, Column], num_actions: int, batch: int, unroll: int, begin: int) -> None:
        self._T, self._num_actions = unroll, num_actions
        self._copied = (*columns, "score")
        rows = max(1, ROWS // unroll) * unroll
        dtypes = {"action": "i8", "prev_action": "i8", "score": "i4", "game_id": "i8", "done": "?", "valid": "?"}
        shapes = {name: column.shape for name, column in columns.items()}
        dtypes |= {name: column.dtype for name, column in columns.items()}
        self._memory = Memory(
            {name: Field((rows, batch, *shapes.get(name, ())), np.dtype(dtype)) for name, dtype in dtypes.items()}
        )
        self._rows = rows
        self._spans: deque[Batch] = deque()
        self._begin = begin  # of the first span
        self._next = begin  # the time at which the next batch begins

    def write(self, b: int, time: int, arrays: Arrays, taken: slice, play: Play) -> None:
        """Write a part of a decoded block to column `b` from `time` on."""
        start, stop = taken.start, taken.stop
        while start < stop:
            number, row = divmod(time - self._begin, self._rows)
            t = min(stop - start, self._rows - row)
            self._copy(self._span(number), slice(row, row + t), b, arrays, slice(start, start + t))
            self._span(number)["game_id"][row : row + t, b] = play.game
            if time == play.start:
                self._span(number)["done"][row, b] = True
            start, time = start + t, time + t

    def pop(self) -> Batch | None:
        """The next batch, as far as it was written, the rest of it padding; None when nothing of it was."""
        row = self._next - self._begin
        out = {name: array[row : row + self._T] for name, array in self._span(0).items()}
        self._next += self._T
        if row + self._T == self._rows:
            self._spans.popleft()
            self._begin = self._next
        if not out["valid"].any():
            return None
        self._pad(out)
        return out

    def _span(self, number: int) -> Batch:
        while number >= len(self._spans):
            span = self._memory.lend()
            span["done"].fill(False)
            span["valid"].fill(False)
            self._spans.append(span)
        return self._spans[number]

    def _copy(self, span: Batch, rows: slice, b: int, arrays: Arrays, taken: slice) -> None:
        for name in self._copied:
            span[name][rows, b] = arrays[name][taken]
        actions = arrays["actions"]
        span["prev_action"][rows, b] = actions[taken]
        span["action"][rows, b] = actions[1:][taken]
        span["valid"][rows, b] = True

    def _pad(self, out: Batch) -> None:
        """Fill what holds no transition: zeros, no previous action, game_id -1."""
        empty = ~out["valid"]
        if empty.any():
            fill = {"prev_action": self._num_actions, "game_id": -1}
            for name, array in out.items():
                array[empty] = fill.get(name, 0)


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


@dataclass(frozen=True, slots=True)
class Play:
    """Game `game` played in `column` from time `start` (included) to `end` (excluded)."""

    column: int
    game: int
    start: int
    end: int


def rounds(games: Sequence[int], seed: int) -> Iterator[int]:
    """The games for ever, in a new order each round."""
    for number in itertools.count():
        for position in np.random.default_rng([seed, number]).permutation(len(games)):
            yield games[position]


class Schedule:
    """Deals the games of `queue` (indices into `lengths`, transitions each) to B = `batch` columns."""

    def __init__(self, lengths: Sequence[int], batch: int, queue: Iterator[int]) -> None:
        self._lengths, self._queue = lengths, queue
        self._free = [(0, column) for column in range(batch)]  # a heap: when each column becomes free

    def until(self, end: int) -> Iterator[Play]:
        """The plays that begin before time `end` and were not given yet, in the order of their beginning."""
        while self._free and self._free[0][0] < end:
            start, column = self._free[0]
            game = next(self._queue, None)
            if game is None:
                heapq.heappop(self._free)
                continue
            play = Play(column, game, start, start + self._lengths[game])
            heapq.heapreplace(self._free, (play.end, column))
            yield play
