"""The batches of a stream that are being written. Legend: T unroll, B batch (columns), R rows of a span.

A block is decoded into memory that stays in the processor's cache and copied at once to the batches that its
transitions belong to, up to BLOCK steps ahead: frames go to main memory once. So several batches are open at a time.
They lie in spans, arrays [R, B, ...] of which each batch is a slice of T rows: a block is written with few calls
however short the unroll.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from playscale.arrays import ReusedArrays
from playscale.corpus.layout import Arrays
from playscale.games.game import Column

MIN_ROWS = 128  # of a span; more when the unroll is longer
ADDED = {
    "action": Column((), "int64"),
    "prev_action": Column((), "int64"),
    "score": Column((), "int32"),
    "game_id": Column((), "int64"),
    "done": Column((), "bool"),
    "valid": Column((), "bool"),
}
"""Columns of a batch beside those of the game."""

Batch = dict[str, np.ndarray]


class Window:
    """Batches from time `begin` on, in order; Corpus.stream says what they hold."""

    def __init__(self, columns: Mapping[str, Column], num_actions: int, batch: int, unroll: int, begin: int) -> None:
        self._T, self._num_actions = unroll, num_actions
        self._copied = (*columns, "score")
        rows = max(1, MIN_ROWS // unroll) * unroll
        self._memory = ReusedArrays({**ADDED, **columns}, (rows, batch))
        self._rows = rows
        self._spans: deque[Batch] = deque()
        self._begin = begin  # time of the first row of the first span
        self._next = begin  # the time at which the next batch begins

    def write(self, b: int, time: int, arrays: Arrays, taken: slice, game: int, game_start: int) -> None:
        """Write the transitions `taken` of a decoded block of a game to column `b` from `time` on.

        game: index of the game; game_start: time of its first transition
        """
        start, stop = taken.start, taken.stop
        while start < stop:
            number, row = divmod(time - self._begin, self._rows)
            t = min(stop - start, self._rows - row)
            self._copy(self._span(number), slice(row, row + t), b, arrays, slice(start, start + t))
            self._span(number)["game_id"][row : row + t, b] = game
            if time == game_start:
                self._span(number)["done"][row, b] = True
            start, time = start + t, time + t

    def pop(self) -> Batch | None:
        """Return the next batch, padded where it was not written; None when nothing of it was written."""
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
            span = self._memory.allocate()
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
        """Fill the rows without a transition: zeros, no previous action, game_id -1."""
        empty = ~out["valid"]
        if empty.any():
            fill = {"prev_action": self._num_actions, "game_id": -1}
            for name, array in out.items():
                array[empty] = fill.get(name, 0)
