"""Where named files lie that are read in parts: a directory, or a prefix in S3."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from playscale.storage.files import local_path, read_range
from playscale.storage.s3 import S3Storage


class Storage(Protocol):
    """A directory of files, or what serves as one."""

    def sizes(self) -> dict[str, int]:
        """Name and size (bytes) of the files there; empty when there is no such place."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset` of a file; ValueError when it is missing or too short."""
        ...

    def put(self, file: Path, name: str) -> None:
        """Move a local file there. Under its name there is the whole of it or what was there before."""
        ...

    def where(self, name: str) -> str:
        """The file's path or URI, for messages."""
        ...


def open_storage(uri: str | Path) -> Storage:
    """The place at a local path, file:// URI or s3://BUCKET/PREFIX; ValueError for anything else."""
    return S3Storage(str(uri)) if is_s3(uri) else LocalStorage(local_path(uri))


def is_s3(uri: str | Path) -> bool:
    return str(uri).startswith("s3://")


class LocalStorage:
    """A local directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        if not self.path.is_dir():
            return {}
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()}

    def read(self, name: str, offset: int, size: int) -> bytes:
        return read_range(self.path / name, offset, size)

    def put(self, file: Path, name: str) -> None:
        shutil.move(file, self.path / name)

    def where(self, name: str) -> str:
        return str(self.path / name)
