"""Sections put together to shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from playscale.corpus.manifest import Shard

SHARD = "shard-"
SHARD_BYTES = 128 * 2**20  # a shard is closed when it has grown to this; a game is never cut


class ShardWriter:
    """Appends sections to shards in a folder. Which section goes where depends on their sizes and order alone.

    `finished` is called with each shard's file when it is whole, and may take it away.
    """

    def __init__(self, folder: Path, finished: Callable[[Path], None], shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._finished, self._shard_bytes = folder, finished, shard_bytes
        self._file: IO[bytes] | None = None
        self.shards: list[Shard] = []

    def append(self, section: Path) -> tuple[int, int]:
        """Move a section's file to the end of the shards; the number of its shard and its offset there (bytes)."""
        if self._file is None:
            self.shards.append(Shard(f"{SHARD}{len(self.shards):05d}", 0))
            self._file = (self._folder / self.shards[-1].file).open("wb")
        number, offset = len(self.shards) - 1, self._file.tell()
        with section.open("rb") as written:
            shutil.copyfileobj(written, self._file, 2**20)
        section.unlink()
        self.shards[-1] = Shard(self.shards[-1].file, self._file.tell())
        if self._file.tell() >= self._shard_bytes:
            self.close()
        return number, offset

    def close(self) -> None:
        """Finish the shard that is open, if one is."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._finished(self._folder / self.shards[-1].file)


def leave(file: Path) -> None:
    """What to do with a shard that is whole where it shall stay."""
    del file
