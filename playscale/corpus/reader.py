"""Read the blocks of one game: from its shard or, when the corpus lies in S3, from a cached copy of its section."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from playscale.corpus.layout import BLOCK, WORD, Arrays, Decoder
from playscale.corpus.manifest import GameRecord, Shard
from playscale.storage.files import atomic_file, checksum, read_range
from playscale.storage.storage import Storage, is_s3
from playscale.storage.sync import read_patiently

CACHE_FOLDER, CACHE_LIMIT = "PLAYSCALE_CACHE", "PLAYSCALE_CACHE_GB"  # environment variables
DEFAULT_GB = 4.0
FETCHERS = 8  # sections fetched at the same time
ABANDONED = 3600.0  # seconds after which an unfinished file counts as left behind by a killed process
Result = TypeVar("Result")


class GameReader:
    """Read one game's blocks in any order.

    The decoder may be shared with other readers: its arrays are overwritten by the next block that any of them reads.
    ValueError when the game's section is damaged or another game's: it is read once as a whole, which costs a
    hundredth of what its decoding does.
    """

    def __init__(self, sections: Sections, game: GameRecord, decoder: Decoder) -> None:
        self._sections, self._game, self._decoder = sections, game, decoder
        count = -(-game.transitions // BLOCK)
        tail = (2 * count + 1) * WORD.itemsize

        def parse(stored: bytes) -> np.ndarray:
            blocks, index = stored[:-tail], stored[-tail:]
            words = np.frombuffer(index, WORD)
            if zlib.crc32(index[: -WORD.itemsize]) != words[-1] or int(words[:-1:2].sum()) + tail != game.size:
                raise ValueError("damaged index of blocks")
            if checksum(blocks) != game.checksum:  # as of another game's section
                raise ValueError("damaged section (its checksum does not match)")
            return words

        words = self._parsed(0, game.size, parse, "")
        sizes, self._crcs = words[:-1:2], words[1::2]
        self._starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    @property
    def blocks(self) -> int:
        """Number of blocks of the game."""
        return len(self._crcs)

    def read(self, block: int) -> Arrays:
        """Return a block of t transitions: the columns [t, ...], `score` [t], `actions` [t + 1].

        The first of `actions` is the one before the block. The arrays are views of the decoder's buffer.
        """
        start, end = int(self._starts[block]), int(self._starts[block + 1])
        t = min(BLOCK, self._game.transitions - block * BLOCK)

        def decode(stored: bytes) -> Arrays:
            if zlib.crc32(stored) != self._crcs[block]:
                raise ValueError("damaged block (its checksum does not match)")
            return self._decoder.decode(stored, t)

        return self._parsed(start, end - start, decode, f", transitions from {block * BLOCK}")

    def _parsed(self, offset: int, size: int, parse: Callable[[bytes], Result], what: str) -> Result:
        """Read and parse a part of the section; when a cached copy is damaged, fetch the section once more."""
        for final in (False, True):
            stored = self._sections.read(self._game, offset, size)
            try:
                return parse(stored)
            except ValueError as error:
                if final or not self._sections.discard(self._game):
                    where = f"{self._sections.where(self._game)}: game {self._game.key}{what}"
                    raise ValueError(f"{where}: {error}; prepare the corpus again") from error
        raise AssertionError("not reached")


class Sections(Protocol):
    """Access to the stored sections of a corpus."""

    def prefetch(self, game: GameRecord) -> None:
        """Announce that this game will be read soon."""
        ...

    def read(self, game: GameRecord, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset` of a game's section; ValueError when its shard is missing or too short."""
        ...

    def discard(self, game: GameRecord) -> bool:
        """Drop the cached copy of a section that turned out damaged; return whether a new read can differ."""
        ...

    def where(self, game: GameRecord) -> str:
        """Return the path or URI of the game's shard, for messages."""
        ...


def open_sections(uri: str, storage: Storage, shards: Sequence[Shard], digest: str) -> Sections:
    """Return the sections of the corpus in `storage`.

    Those of a corpus in S3 are cached in $PLAYSCALE_CACHE, at most $PLAYSCALE_CACHE_GB of them; ValueError when that is
    not a number above 0.
    """
    if not is_s3(uri):
        return StoredSections(storage, shards)
    text = os.environ.get(CACHE_LIMIT) or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ValueError(f"${CACHE_LIMIT}: {text!r} is not a number of gigabytes above 0")
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(CACHE_FOLDER) or Path(user_cache) / "playscale")
    return CachedSections(storage, shards, digest, folder, int(limit * 1e9))


class StoredSections:
    """Sections read from the shards themselves."""

    def __init__(self, storage: Storage, shards: Sequence[Shard]) -> None:
        self._storage, self._shards = storage, shards

    def prefetch(self, game: GameRecord) -> None:
        pass

    def read(self, game: GameRecord, offset: int, size: int) -> bytes:
        return self._storage.read(self._shards[game.shard].file, game.offset + offset, size)

    def discard(self, game: GameRecord) -> bool:
        del game
        return False

    def where(self, game: GameRecord) -> str:
        return self._storage.where(self._shards[game.shard].file)


class CachedSections(StoredSections):
    """Sections fetched whole, before they are used, and cached as files in a folder that processes may share.

    When the folder exceeds `limit` bytes, the process that fetches removes the sections that were not read for longest.
    One that is removed while still in use is fetched again.
    """

    def __init__(self, storage: Storage, shards: Sequence[Shard], digest: str, folder: Path, limit: int) -> None:
        super().__init__(storage, shards)
        self._digest, self._folder, self._limit = digest, folder, limit
        self._pool = ThreadPoolExecutor(FETCHERS, "fetch")
        self._pending: dict[Path, Future[bytes]] = {}

    def prefetch(self, game: GameRecord) -> None:
        path = self._path(game)
        if path not in self._pending and not path.exists():
            self._pending[path] = self._pool.submit(self._fetch, game, path)

    def read(self, game: GameRecord, offset: int, size: int) -> bytes:
        path = self._path(game)
        if pending := self._pending.pop(path, None):
            with contextlib.suppress(OSError):  # it is fetched again below
                pending.result()
        try:
            data = read_range(path, offset, size)
            os.utime(path)
        except (ValueError, FileNotFoundError):
            return read_patiently(lambda: self._fetch(game, path))[offset : offset + size]
        return data

    def discard(self, game: GameRecord) -> bool:
        self._path(game).unlink(missing_ok=True)
        return True

    def _path(self, game: GameRecord) -> Path:
        return self._folder / f"{self._digest}-{game.shard:05d}-{game.offset}"

    def _fetch(self, game: GameRecord, path: Path) -> bytes:
        data = super().read(game, 0, game.size)
        # Not synced: what a power failure damages is found by its checksum and fetched again.
        with atomic_file(path, sync=False) as file:
            file.write(data)
        self._evict(newest=path)
        return data

    def _evict(self, newest: Path) -> None:
        """Remove the sections that were not read for longest, but none that is still being written."""
        cached = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                stat = entry.stat()
                if not entry.name.endswith(".partial") or time.time() - stat.st_mtime > ABANDONED:
                    cached.append((stat.st_mtime_ns, stat.st_size, Path(entry.path)))
        excess = sum(size for _, size, _ in cached) - self._limit
        for _, size, path in sorted(cached):
            if excess <= 0:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                excess -= size
