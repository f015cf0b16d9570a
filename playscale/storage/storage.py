"""A folder of named files, local or in S3, that are read in parts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from playscale.storage.files import local_path, read_range
from playscale.storage.s3 import S3Storage


class Storage(Protocol):
    """A local folder or a prefix in S3."""

    def sizes(self) -> dict[str, int]:
        """Return name and size (bytes) of the files in it; empty when it does not exist."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes at `offset` of a file; ValueError when it is missing or too short."""
        ...

    def read_whole(self, name: str) -> bytes:
        """Read a whole file that fits in memory; ValueError when it is missing."""
        ...

    def put(self, file: Path, name: str) -> None:
        """Move a local file into it; until that is complete, what had this name before stays."""
        ...

    def where(self, name: str) -> str:
        """Return a file's path or URI, for messages."""
        ...


def open_storage(uri: str | Path) -> Storage:
    """Return the storage at a local path, file:// URI or s3://BUCKET/PREFIX; ValueError for anything else."""
    return S3Storage(str(uri)) if is_s3(uri) else LocalStorage(local_path(uri))


def is_s3(uri: str | Path) -> bool:
    return str(uri).startswith("s3://")


class LocalStorage:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        if not self.path.is_dir():
            return {}
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()}

    def read(self, name: str, offset: int, size: int) -> bytes:
        return read_range(self.path / name, offset, size)

    def read_whole(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise ValueError(f"{self.where(name)}: missing") from error

    def put(self, file: Path, name: str) -> None:
        shutil.move(file, self.path / name)

    def where(self, name: str) -> str:
        return str(self.path / name)
