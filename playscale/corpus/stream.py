"""Unrolls from a corpus. Legend: T unroll, B batch (columns), t a time in the stream as in schedule.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from playscale.corpus.layout import BLOCK, Arrays
from playscale.corpus.manifest import SPLITS
from playscale.corpus.schedule import Play, Schedule, rounds
from playscale.corpus.section import GameReader

if TYPE_CHECKING:
    from playscale.corpus.corpus import Corpus

Batch = dict[str, np.ndarray]


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
    queue = rounds(games, seed) if split == "train" else iter(games)
    schedule = Schedule([game.transitions for game in corpus.games], batch, queue)
    return _batches(corpus, schedule, batch, unroll, start)


def _batches(corpus: Corpus, schedule: Schedule, B: int, T: int, start: int) -> Iterator[Batch]:
    playing: list[list[Play]] = [[] for _ in range(B)]  # by column: what is not yet played to its end
    for play in schedule.until(start * T):
        playing[play.column] = [play]
    columns = [_Column(corpus) for _ in range(B)]
    for k in itertools.count(start):
        for play in schedule.until((k + 1) * T):
            playing[play.column].append(play)
        playing = [[play for play in plays if play.end > k * T] for plays in playing]
        if not any(playing):
            return
        out = _empty(corpus, T, B)
        for b, (column, plays) in enumerate(zip(columns, playing, strict=True)):
            for play in plays:
                column.fill(out, b, play, k * T)
        _pad(out, corpus)
        yield out


def _empty(corpus: Corpus, T: int, B: int) -> Batch:
    """A batch without a transition yet. Its arrays are not cleared: that would cost a quarter of the speed."""
    out = {name: np.empty((T, B, *column.shape), column.dtype) for name, column in corpus.columns.items()}
    out["action"], out["prev_action"] = np.empty((T, B), np.int64), np.empty((T, B), np.int64)
    out["score"], out["game_id"] = np.empty((T, B), np.int32), np.empty((T, B), np.int64)
    out["done"], out["valid"] = np.zeros((T, B), np.bool_), np.zeros((T, B), np.bool_)
    return out


def _pad(out: Batch, corpus: Corpus) -> None:
    """Fill what holds no transition: zeros, no previous action, game_id -1."""
    empty = ~out["valid"]
    if empty.any():
        fill = {"prev_action": corpus.num_actions, "game_id": -1}
        for name, array in out.items():
            array[empty] = fill.get(name, 0)


class _Column:
    """One column: the block of its game that it is at, decoded."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._reader: GameReader = corpus.reader()
        self._play: Play | None = None
        self._block = -1
        self._arrays: Arrays = {}

    def fill(self, out: Batch, b: int, play: Play, begin: int) -> None:
        """Write the part of a play that lies in the batch which begins at time `begin` into column `b` of it."""
        T = len(out["valid"])
        if play is not self._play:
            self._corpus.turn(self._reader, play.game)
            self._play, self._block = play, -1
        time, end = max(play.start, begin), min(play.end, begin + T)
        while time < end:
            block, offset = divmod(time - play.start, BLOCK)
            if block != self._block:
                self._arrays, self._block = self._reader.read(block), block
            t = min(end - time, BLOCK - offset)
            self._copy(out, slice(time - begin, time - begin + t), b, slice(offset, offset + t))
            time += t
        rows = slice(max(play.start, begin) - begin, end - begin)
        out["game_id"][rows, b] = play.game
        out["valid"][rows, b] = True
        if play.start >= begin:
            out["done"][play.start - begin, b] = True

    def _copy(self, out: Batch, rows: slice, b: int, taken: slice) -> None:
        for name in (*self._corpus.columns, "score"):
            out[name][rows, b] = self._arrays[name][taken]
        actions = self._arrays["actions"]
        out["prev_action"][rows, b] = actions[taken]
        out["action"][rows, b] = actions[1:][taken]
