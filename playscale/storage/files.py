"""Local files. What is written appears complete or not at all: it is written beside its place, then renamed."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil


def local_path(uri: str | Path) -> Path:
    """Return the local path of a path or file:// URI; ValueError for any other scheme."""
    text = str(uri)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    if "://" in text:
        raise ValueError(f"{text}: only local paths and file:// URIs can be used")
    return Path(text)


@contextmanager
def atomic_file(path: Path, mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file beside `path`; on success it is renamed to `path`, on any exception it is removed.

    With `sync` its content is on the disk before it is renamed, so that a power failure leaves no empty file. Text is
    written in UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path`; on success it replaces `path`, on any exception it is removed.

    Directories that killed processes of this machine left beside `path` are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if not _alive(leftover.name.split(".")[-2]):
            shutil.rmtree(leftover, ignore_errors=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.mkdir()
    try:
        yield aside
        if path.is_dir():
            shutil.rmtree(path)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _alive(pid: str) -> bool:
    """Return whether another process has this number."""
    return pid.isdecimal() and int(pid) != os.getpid() and psutil.pid_exists(int(pid))


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Read exactly `size` bytes at `offset`; ValueError when the file is missing or too short."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(size)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    if len(data) != size:
        raise ValueError(f"{path}: ends too early ({len(data)} of {size} bytes at {offset})")
    return data


def read_text(path: Path) -> str:
    """Read UTF-8 text, whatever the locale; ValueError, with the path, when it is something else."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON atomically. NaN and infinities are refused (ValueError): a missing number is null."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    with atomic_file(path, "w") as file:
        file.write(text + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; ValueError with the line where it is damaged."""
    return parse_json(path.read_bytes(), str(path))


def parse_json(data: bytes, where: str) -> Any:
    """Parse JSON; ValueError with `where` and the line where it is damaged."""
    try:
        return json.loads(data.decode())
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON (line {error.lineno}: {error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not valid JSON (not UTF-8 text)") from error
