"""Unrolls from a corpus. Legend: T unroll, B batch (columns), t a time in the stream as in schedule.py."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from playscale.corpus.layout import BLOCK, Decoder
from playscale.corpus.manifest import SPLITS
from playscale.corpus.shards import GameReader
from playscale.corpus.window import Batch, Play, Schedule, Window, rounds

AHEAD = 16  # games fetched before their turn where the corpus is far away: about 15 MB of NetHack

if TYPE_CHECKING:
    from playscale.corpus.corpus import Corpus


def stream(corpus: Corpus, batch: int, unroll: int, split: str, seed: int, start: int) -> Iterator[Batch]:
    """See Corpus.stream. What is wrong with the arguments is raised here, not at the first batch."""
    for name, value, least in (("batch", batch, 1), ("unroll", unroll, 1), ("seed", seed, 0), ("start", start, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: {' or '.join(SPLITS)}")
    games = [index for index, game in enumerate(corpus.games) if game.split == split]
    if not games:
        raise ValueError(f"{corpus.uri}: no game in its {split} split")
    # A dev stream is the same whatever the seed: dev losses of runs with different seeds are over the same batches.
    queue = _Queue(corpus, rounds(games, seed) if split == "train" else iter(games))
    schedule = Schedule([game.transitions for game in corpus.games], batch, queue)
    return _batches(corpus, schedule, queue, batch, unroll, start)


class _Queue:
    """The games in their order; once `tell` is called, the corpus hears of each AHEAD games before its turn."""

    def __init__(self, corpus: Corpus, games: Iterator[int]) -> None:
        self._corpus, self._games = corpus, games
        self._told: deque[int] | None = None

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self._told is None:
            return next(self._games)
        self.tell()
        if not self._told:
            raise StopIteration
        return self._told.popleft()

    def tell(self) -> None:
        self._told = self._told or deque()
        for game in itertools.islice(self._games, AHEAD + 1 - len(self._told)):
            self._corpus.sections.ahead(self._corpus.games[game])
            self._told.append(game)


def _batches(corpus: Corpus, schedule: Schedule, queue: _Queue, B: int, T: int, start: int) -> Iterator[Batch]:
    window = Window(corpus.columns, corpus.num_actions, B, T, start * T)
    decoder = corpus.decoder()
    columns = [_Column(corpus, decoder, b, start * T) for b in range(B)]
    for play in schedule.until(start * T):
        columns[play.column].plays = deque([play])
    for column in columns:
        for play in column.plays:
            corpus.sections.ahead(corpus.games[play.game])
    queue.tell()
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
    """One column: the plays that it was dealt and are not yet written to their end."""

    def __init__(self, corpus: Corpus, decoder: Decoder, b: int, begin: int) -> None:
        self._corpus = corpus
        self._reader = GameReader(decoder)
        self._b = b
        self._time = begin  # until which it is written
        self._playing: Play | None = None
        self.plays: deque[Play] = deque()

    def fill(self, window: Window, end: int) -> None:
        """Write whole blocks until time `end` at least, as far as there are plays."""
        while self._time < end and self.plays:
            play = self.plays[0]
            if play.end <= self._time:
                self.plays.popleft()
                continue
            if play is not self._playing:
                self._corpus.turn(self._reader, play.game)
                self._playing = play
            block, offset = divmod(self._time - play.start, BLOCK)
            arrays = self._reader.read(block)
            window.write(self._b, self._time, arrays, slice(offset, len(arrays["score"])), play)
            self._time += len(arrays["score"]) - offset
