"""One game's section of a shard: its blocks, then the index of them.

A section is the game's stored blocks one after the other, every one but the last of BLOCK transitions; then for
each block its stored size and the CRC-32 of its stored bytes; then the CRC-32 of that list: all u32 little-endian. The
manifest knows where a section begins and ends, and the number of transitions gives the number of blocks, so any
block is reached with two reads, and no index of a whole shard is ever loaded.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from playscale.corpus.layout import BLOCK, Arrays, Decoder, Layout, make_compressor
from playscale.corpus.manifest import GameRecord
from playscale.corpus.reader import Sections

WORD = np.dtype("<u4")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Section:
    """What was written of one game: transitions, last score (points), stored bytes, checksum of the content (hex)."""

    transitions: int
    last_score: int
    size: int
    checksum: str


def write_section(path: Path, blocks: Iterable[Mapping[str, np.ndarray]], columns: Layout, num_actions: int) -> Section:
    """Write a game's blocks (as a Game's decode yields them) as one section; ValueError when there is no transition."""
    compressor, digest = make_compressor(), hashlib.blake2b(digest_size=16)
    words: list[int] = []
    transitions, before, last_score = 0, num_actions, 0
    with path.open("wb") as file:
        for arrays in rebatch(blocks):
            stored = columns.encode(arrays, before, compressor)
            file.write(stored)
            words += [len(stored), zlib.crc32(stored)]
            digest.update(stored)
            transitions += len(arrays["action"])
            before, last_score = int(arrays["action"][-1]), int(arrays["score"][-1])
        if not transitions:
            raise ValueError("no transition in it")
        index = np.array(words, WORD).tobytes()
        file.write(index + np.array(zlib.crc32(index), WORD).tobytes())
        size = file.tell()
    return Section(transitions, last_score, size, digest.hexdigest())


def rebatch(blocks: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Mapping[str, np.ndarray]]:
    """The same transitions in blocks of exactly BLOCK, but for the last. Blocks that already are so pass unchanged."""
    held: list[Mapping[str, np.ndarray]] = []
    count = 0
    for arrays in blocks:
        held.append(arrays)
        count += len(arrays["action"])
        if count < BLOCK:
            continue
        whole = held[0] if len(held) == 1 else {k: np.concatenate([h[k] for h in held]) for k in held[0]}
        cut = count - count % BLOCK
        for start in range(0, cut, BLOCK):
            yield whole if count == BLOCK else {k: v[start : start + BLOCK] for k, v in whole.items()}
        count -= cut
        held = [{k: v[cut:] for k, v in whole.items()}] if count else []
    if count:
        yield {k: np.concatenate([h[k] for h in held]) for k in held[0]}


class GameReader:
    """Reads one game's blocks in any order with a decoder, which others may use in between: copy what it gives."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def open(self, sections: Sections, game: GameRecord) -> None:
        """Turn to a game; ValueError when its index is damaged."""
        self._sections, self._game = sections, game
        count = -(-game.transitions // BLOCK)
        tail = (2 * count + 1) * WORD.itemsize

        def index(stored: bytes) -> np.ndarray:
            words = np.frombuffer(stored, WORD)
            if zlib.crc32(stored[: -WORD.itemsize]) != words[-1] or int(words[:-1:2].sum()) + tail != game.size:
                raise ValueError("damaged index of blocks")
            return words

        words = self._checked(game.size - tail, tail, index, "")
        sizes, self._crcs = words[:-1:2], words[1::2]
        self._starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    @property
    def blocks(self) -> int:
        """How many blocks the game has."""
        return len(self._crcs)

    def read(self, block: int) -> Arrays:
        """The arrays of a block: views [t, ...] of the columns, `score` [t], `actions` [t + 1] (first: the one
        before).
        """
        start, end = int(self._starts[block]), int(self._starts[block + 1])
        t = min(BLOCK, self._game.transitions - block * BLOCK)

        def arrays(stored: bytes) -> Arrays:
            if zlib.crc32(stored) != self._crcs[block]:
                raise ValueError("damaged block (its checksum does not match)")
            return self._decoder.decode(stored, t)

        return self._checked(start, end - start, arrays, f", transitions from {block * BLOCK}")

    def _checked(self, at: int, size: int, use: Callable[[bytes], Result], what: str) -> Result:
        """What `use` makes of a part of the section. A copy of it kept here that is damaged is fetched once again."""
        for final in (False, True):
            stored = self._sections.read(self._game, at, size)
            try:
                return use(stored)
            except ValueError as error:
                if final or not self._sections.forget(self._game):
                    where = f"{self._sections.where(self._game)}: game {self._game.key}{what}"
                    raise ValueError(f"{where}: {error}; prepare the corpus again") from error
        raise AssertionError("not reached")
