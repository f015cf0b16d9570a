"""The part of a stream that is written but not yet given out. Legend: T unroll, B batch (columns), R rows of a span.

A block is decoded into memory that stays in the processor's cache and copied at once to the batches that its
transitions belong to, up to BLOCK steps ahead: frames go to main memory once. So several batches are open at a time.
They lie in spans, arrays [R, B, ...] of which each batch is a slice of T rows: a block is written with few calls
however short the unroll.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from playscale.corpus.layout import Arrays
from playscale.corpus.memory import Field, Memory
from playscale.corpus.schedule import Play
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
