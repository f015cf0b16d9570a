"""Unrolls from a corpus: which game each column plays when, and the reading of its blocks.

Legend: T unroll, B batch (columns). Time counts transitions from the beginning of the stream, the same in every column.

The games wait in one queue. A column whose game ends takes the next one (of columns that become free at the same time,
the lower first), so that a train stream plays every game, thus every transition, once before it plays any again,
however uneven the lengths. This schedule follows from the games' lengths alone: nothing is read to start a stream late.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from playscale.corpus.layout import BLOCK, Decoder
from playscale.corpus.manifest import SPLITS
from playscale.corpus.window import Batch, Window

if TYPE_CHECKING:
    from playscale.corpus.corpus import Corpus
    from playscale.corpus.reader import GameReader

PREFETCH = 16  # games fetched before their turn when the corpus lies in S3: about 15 MB of NetHack


def stream(corpus: Corpus, batch: int, unroll: int, split: str, seed: int, start: int) -> Iterator[Batch]:
    """Implement Corpus.stream. ValueError for a wrong argument is raised here, not at the first batch."""
    for name, value, least in (("batch", batch, 1), ("unroll", unroll, 1), ("seed", seed, 0), ("start", start, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: {' or '.join(SPLITS)}")
    games = [index for index, game in enumerate(corpus.games) if game.split == split]
    corpus.require_games(split)
    # A dev stream is the same whatever the seed: dev losses of runs with different seeds are over the same batches.
    queue = _GameQueue(corpus, rounds(games, seed) if split == "train" else iter(games))
    schedule = Schedule([game.transitions for game in corpus.games], batch, queue)
    return _batches(corpus, schedule, queue, batch, unroll, start)


@dataclass(frozen=True, slots=True)
class Play:
    """Game `game` played in `column` from time `start` (included) to `end` (excluded)."""

    column: int
    game: int
    start: int
    end: int


def rounds(games: Sequence[int], seed: int) -> Iterator[int]:
    """Yield the games forever, in a new order each round."""
    for number in itertools.count():
        for position in np.random.default_rng([seed, number]).permutation(len(games)):
            yield games[position]


class Schedule:
    """Deal the games of `queue` (indices into `lengths`, in transitions) to B = `batch` columns."""

    def __init__(self, lengths: Sequence[int], batch: int, queue: Iterator[int]) -> None:
        self._lengths, self._queue = lengths, queue
        self._free = [(0, column) for column in range(batch)]  # a heap: when each column becomes free

    def until(self, end: int) -> Iterator[Play]:
        """Yield the plays that begin before time `end` and were not yielded yet, in the order of their beginning."""
        while self._free and self._free[0][0] < end:
            start, column = self._free[0]
            game = next(self._queue, None)
            if game is None:
                heapq.heappop(self._free)
                continue
            play = Play(column, game, start, start + self._lengths[game])
            heapq.heapreplace(self._free, (play.end, column))
            yield play


class _GameQueue:
    """The games in their order. From the first call of `prefetch` on, each is prefetched PREFETCH games early."""

    def __init__(self, corpus: Corpus, games: Iterator[int]) -> None:
        self._corpus, self._games = corpus, games
        self._prefetched: deque[int] | None = None

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self._prefetched is None:
            return next(self._games)
        self.prefetch()
        if not self._prefetched:
            raise StopIteration
        return self._prefetched.popleft()

    def prefetch(self) -> None:
        self._prefetched = self._prefetched or deque()
        for game in itertools.islice(self._games, PREFETCH + 1 - len(self._prefetched)):
            self._corpus.sections.prefetch(self._corpus.games[game])
            self._prefetched.append(game)


def _batches(corpus: Corpus, schedule: Schedule, queue: _GameQueue, B: int, T: int, start: int) -> Iterator[Batch]:
    window = Window(corpus.columns, corpus.num_actions, B, T, start * T)
    decoder = corpus.decoder()
    columns = [_Column(corpus, decoder, b, start * T) for b in range(B)]
    for play in schedule.until(start * T):
        columns[play.column].plays = deque([play])
    for column in columns:
        for play in column.plays:
            corpus.sections.prefetch(corpus.games[play.game])
    queue.prefetch()
    for k in itertools.count(start):
        for play in schedule.until((k + 1) * T):
            columns[play.column].plays.append(play)
        for column in columns:
            column.fill(window, (k + 1) * T)
        batch = window.pop()
        if batch is None:
            return
        yield batch


class _Column:
    """Column `b` of a stream: the plays dealt to it that are not yet written to their end."""

    def __init__(self, corpus: Corpus, decoder: Decoder, b: int, begin: int) -> None:
        self._corpus, self._decoder = corpus, decoder
        self._b = b
        self._time = begin  # the time up to which it is written
        self._current: tuple[Play, GameReader] | None = None
        self.plays: deque[Play] = deque()

    def fill(self, window: Window, end: int) -> None:
        """Write whole blocks until time `end` at least, as far as there are plays."""
        while self._time < end and self.plays:
            play = self.plays[0]
            if play.end <= self._time:
                self.plays.popleft()
                continue
            block, offset = divmod(self._time - play.start, BLOCK)
            arrays = self._reader(play).read(block)
            window.write(self._b, self._time, arrays, slice(offset, len(arrays["score"])), play.game, play.start)
            self._time += len(arrays["score"]) - offset

    def _reader(self, play: Play) -> GameReader:
        if self._current is None or self._current[0] is not play:
            self._current = play, self._corpus.reader(play.game, self._decoder)
        return self._current[1]
