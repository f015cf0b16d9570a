"""Write games into shards.

A shard is a file of sections, one per game, without a header. A section holds the game's stored blocks one after the
other, all but the last of BLOCK transitions; then for each block its stored size and the CRC-32 of its stored bytes;
then the CRC-32 of that list. These numbers are little-endian u32. The manifest knows where a section begins and ends,
and the number of transitions gives the number of blocks, so two reads reach any block (reader.py), and the index of a
whole shard is never loaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from playscale.corpus.layout import BLOCK, WORD, Layout, make_compressor
from playscale.corpus.manifest import Shard

SHARD = "shard-"
SHARD_BYTES = 128 * 2**20  # a shard is closed when it has grown to this; a game is never split between shards


@dataclass(frozen=True)
class WrittenGame:
    """A game as written.

    Attributes:
        transitions: How many it has.
        last_score: Score at its last transition, in points.
        size: Bytes of its section.
        checksum: Hash of its stored blocks (hex), of which the same version of zstd makes the same from equal games.
        identity: Hash of its first frame, actions and scores: a number in [0, 1) that depends on nothing else.
    """

    transitions: int
    last_score: int
    size: int
    checksum: str
    identity: float


def write_section(
    path: Path, blocks: Iterable[Mapping[str, np.ndarray]], layout: Layout, num_actions: int
) -> WrittenGame:
    """Write a game's blocks (as Game.decode yields them) as one section; ValueError when there is no transition."""
    compressor, digest = make_compressor(), hashlib.blake2b(digest_size=16)
    identity = hashlib.blake2b(digest_size=8)
    words: list[int] = []
    transitions, previous_action, last_score = 0, num_actions, 0
    with path.open("wb") as file:
        for arrays in rebatch(blocks):
            stored = layout.encode(arrays, previous_action, compressor)
            file.write(stored)
            words += [len(stored), zlib.crc32(stored)]
            digest.update(stored)
            for part in layout.played(arrays, first=not transitions):
                identity.update(part)
            transitions += len(arrays["action"])
            previous_action, last_score = int(arrays["action"][-1]), int(arrays["score"][-1])
        if not transitions:
            raise ValueError("no transition in it")
        index = np.array(words, WORD).tobytes()
        file.write(index + np.array(zlib.crc32(index), WORD).tobytes())
        size = file.tell()
    fraction = int.from_bytes(identity.digest(), "big") / 2**64
    return WrittenGame(transitions, last_score, size, digest.hexdigest(), fraction)


def rebatch(blocks: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the same transitions in blocks of exactly BLOCK, the last one shorter. Such blocks pass unchanged."""
    pending: list[Mapping[str, np.ndarray]] = []
    count = 0
    for arrays in blocks:
        pending.append(arrays)
        count += len(arrays["action"])
        if count < BLOCK:
            continue
        joined = pending[0] if len(pending) == 1 else {k: np.concatenate([p[k] for p in pending]) for k in pending[0]}
        end = count - count % BLOCK
        for start in range(0, end, BLOCK):
            yield joined if count == BLOCK else {k: v[start : start + BLOCK] for k, v in joined.items()}
        count -= end
        pending = [{k: v[end:] for k, v in joined.items()}] if count else []
    if count:
        yield {k: np.concatenate([p[k] for p in pending]) for k in pending[0]}


class ShardWriter:
    """Append sections to shards in a folder. Sizes and order of the sections alone decide which shard each goes to.

    `finished`, if given, is called with the file of each shard when it is complete, and may move it away.
    """

    def __init__(
        self, folder: Path, finished: Callable[[Path], None] | None = None, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self._folder, self._finished, self._shard_bytes = folder, finished, shard_bytes
        self._file: IO[bytes] | None = None
        self.shards: list[Shard] = []

    def append(self, section: Path) -> tuple[int, int]:
        """Move a section's file to the end of the shards; return its shard's number and its offset there (bytes)."""
        if self._file is None:
            self.shards.append(Shard(f"{SHARD}{len(self.shards):05d}", 0))
            self._file = (self._folder / self.shards[-1].file).open("wb")
        number, offset = len(self.shards) - 1, self._file.tell()
        with section.open("rb") as source:
            shutil.copyfileobj(source, self._file, 2**20)
        section.unlink()
        self.shards[-1] = Shard(self.shards[-1].file, self._file.tell())
        if self._file.tell() >= self._shard_bytes:
            self.close()
        return number, offset

    def close(self) -> None:
        """Complete the open shard, if there is one."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            if self._finished is not None:
                self._finished(self._folder / self.shards[-1].file)
