"""The recordings of a source: those that can be read, and what identifies them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from playscale.corpus.layout import BLOCK
from playscale.corpus.manifest import SCHEMA
from playscale.corpus.shards import SHARD_BYTES
from playscale.games.game import Game, Recording, Rejected
from playscale.storage.files import canonical, checksum

READERS = 8  # files read at the same time to hash them


def readable_recordings(game: Game, source: Path) -> tuple[list[Recording], list[Rejected]]:
    """Return the recordings below a directory whose files can be opened, and the others with their reasons.

    ValueError when there is no recording at all.
    """
    found, rejected = game.find_recordings(source)
    readable = []
    for recording in found:
        try:
            for path in recording.paths:
                _check_file(path)
            readable.append(recording)
        except (OSError, ValueError) as error:
            reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            rejected = [*rejected, Rejected(relative_name(recording.paths[0], source), reason)]
    return readable, [Rejected(printable(one.path), one.reason) for one in rejected]


def relative_name(path: Path, source: Path) -> str:
    """Return the path of a file below the source, with slashes, as it can be printed."""
    return printable(path.relative_to(source).as_posix())


def printable(name: str) -> str:
    r"""Return a file's name with the bytes that are not UTF-8 as \xNN."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _check_file(path: Path) -> None:
    """Raise OSError or ValueError unless `path` is a file with a name in UTF-8 that can be opened."""
    if printable(str(path)) != str(path):
        raise ValueError("its path is not UTF-8 text")
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait
        raise ValueError("not a file")
    path.open("rb").close()


def stats_of(recordings: Sequence[Recording], game: str, dev_fraction: float) -> str:
    """Hash names, sizes and times of change of the recordings, and the settings: equal ones give the same corpus.

    Every version of this package computes the same.
    """
    files = [[(s.st_size, s.st_mtime_ns) for s in (path.stat() for path in r.paths)] for r in recordings]
    return _hash(recordings, files, game, dev_fraction)


def fingerprint_of(recordings: Sequence[Recording], game: str, dev_fraction: float) -> str:
    """Hash names and bytes of the recordings, and the settings: equal ones give the same corpus, wherever they lie."""
    with ThreadPoolExecutor(READERS) as pool:
        digests = pool.map(_digest, (path for r in recordings for path in r.paths))
        files = [[next(digests) for _ in r.paths] for r in recordings]
    return _hash(recordings, files, game, dev_fraction)


def _hash(recordings: Sequence[Recording], files: Sequence[Any], game: str, dev_fraction: float) -> str:
    rows = [(r.key, known, dict(r.metadata)) for r, known in zip(recordings, files, strict=True)]
    return checksum(canonical([SCHEMA, game, BLOCK, SHARD_BYTES, dev_fraction, rows]))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).hexdigest()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
