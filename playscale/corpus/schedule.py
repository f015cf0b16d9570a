"""Which game each column of a stream plays, and when: arithmetic on the games' lengths alone.

Legend: B columns. Time counts transitions from the beginning of the stream, the same in every column.

The games wait in one queue. A column whose game ends takes the next one (of columns that become free at the
same time, the lower first), so that in a train stream every game, thus every transition, is played once before
any is played again, however uneven the lengths.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


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
