"""Where the stored bytes of a game come from: its shard, or, when that is far away, a copy of its section kept here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from playscale.corpus.manifest import GameRecord, Shard
from playscale.storage.files import read_range
from playscale.storage.storage import Storage, is_s3

FOLDER, LIMIT = "PLAYSCALE_CACHE", "PLAYSCALE_CACHE_GB"  # environment variables
DEFAULT_GB = 4.0
FETCHERS = 8  # sections fetched at a time
ABANDONED = 3600.0  # seconds: a file that is being written for longer was left by a killed process


class Sections(Protocol):
    """The sections of a corpus."""

    def ahead(self, game: GameRecord) -> None:
        """Say that this game will be read soon."""
        ...

    def read(self, game: GameRecord, at: int, size: int) -> bytes:
        """`size` bytes at `at` of a game's section; ValueError when its shard is missing or too short."""
        ...

    def forget(self, game: GameRecord) -> bool:
        """Told that what was read is damaged: whether reading it again may give something else."""
        ...

    def where(self, game: GameRecord) -> str:
        """The shard a game lies in, for messages."""
        ...


def open_sections(uri: str, place: Storage, shards: Sequence[Shard], digest: str) -> Sections:
    """Sections of a corpus at `place`; those of one in S3 are kept in $PLAYSCALE_CACHE, at most $PLAYSCALE_CACHE_GB.

    ValueError when that is not a number above 0.
    """
    if not is_s3(uri):
        return NearSections(place, shards)
    text = os.environ.get(LIMIT) or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ValueError(f"${LIMIT}: {text!r} is not a number of gigabytes above 0")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(FOLDER) or Path(home) / "playscale")
    return KeptSections(place, shards, digest, folder, int(limit * 1e9))


class NearSections:
    """Read from the shards themselves."""

    def __init__(self, place: Storage, shards: Sequence[Shard]) -> None:
        self._place, self._shards = place, shards

    def ahead(self, game: GameRecord) -> None:
        pass

    def read(self, game: GameRecord, at: int, size: int) -> bytes:
        return self._place.read(self._shards[game.shard].file, game.offset + at, size)

    def forget(self, game: GameRecord) -> bool:
        del game
        return False

    def where(self, game: GameRecord) -> str:
        return self._place.where(self._shards[game.shard].file)


class KeptSections(NearSections):
    """Fetched whole, ahead of their use, and kept as files in a folder that several processes may share.

    When the folder has grown over `limit` bytes the sections longest unread are removed, by whichever process fetches.
    One that is removed while it is still read is fetched again.
    """

    def __init__(self, place: Storage, shards: Sequence[Shard], digest: str, folder: Path, limit: int) -> None:
        super().__init__(place, shards)
        self._digest, self._folder, self._limit = digest, folder, limit
        self._pool = ThreadPoolExecutor(FETCHERS, "fetch")
        self._coming: dict[Path, Future[bytes]] = {}

    def ahead(self, game: GameRecord) -> None:
        path = self._path(game)
        if path not in self._coming and not path.exists():
            self._coming[path] = self._pool.submit(self._fetch, game, path)

    def read(self, game: GameRecord, at: int, size: int) -> bytes:
        path = self._path(game)
        if coming := self._coming.pop(path, None):
            coming.result()
        try:
            data = read_range(path, at, size)
            os.utime(path)
        except (ValueError, FileNotFoundError):
            return self._fetch(game, path)[at : at + size]
        return data

    def forget(self, game: GameRecord) -> bool:
        self._path(game).unlink(missing_ok=True)
        return True

    def _path(self, game: GameRecord) -> Path:
        return self._folder / f"{self._digest}-{game.shard:05d}-{game.offset}"

    def _fetch(self, game: GameRecord, path: Path) -> bytes:
        data = super().read(game, 0, game.size)
        self._folder.mkdir(parents=True, exist_ok=True)
        # Not synced: what a power failure damages is found by its checksum and fetched again.
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        aside.write_bytes(data)
        aside.replace(path)
        self._make_room(path)
        return data

    def _make_room(self, newest: Path) -> None:
        """Remove the sections longest unread, but not what is still being written."""
        kept = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                stat = entry.stat()
                if not entry.name.endswith(".partial") or time.time() - stat.st_mtime > ABANDONED:
                    kept.append((stat.st_mtime_ns, stat.st_size, Path(entry.path)))
        excess = sum(size for _, size, _ in kept) - self._limit
        for _, size, path in sorted(kept):
            if excess <= 0:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                excess -= size
