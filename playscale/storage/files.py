"""Local files. What is written appears complete or not at all: it is written beside its place, then renamed."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from playscale.config import explain

PARTIAL = re.compile(r"\..*\.partial")  # names of what is being written
LOCK_SECONDS = 3.0
"""Time for which a lock is waited for: processes that a killed one leaves behind hold it until they end, too."""

LONGEST_NAME = 100  # bytes of a text that becomes a part of a path; file systems have 255 for a name


INPUT_ERRNOS = {
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
    errno.ELOOP,
}  # fmt: skip
"""Errors of the system that another path or permission mends; all others are failures of a disk or a network."""


def is_input_error(error: BaseException) -> bool:
    """Return whether other input, another path or permission mends an error; if not, a disk or a network failed."""
    return isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno in INPUT_ERRNOS)


def local_path(uri: str | Path) -> Path:
    """Return the local path of a path or file:// URI, ~ expanded; ValueError for any other scheme."""
    text = str(uri)
    if "://" in text.removeprefix("file://"):
        raise ValueError(f"{text}: neither a local path nor a URI of the form file:///PATH or s3://BUCKET/PREFIX")
    try:
        return Path(text.removeprefix("file://")).expanduser()
    except RuntimeError as error:  # ~ without a home directory, ~NAME without such a user
        raise ValueError(f"{text}: {error}") from error


def path_below(folder: Path, name: str) -> Path:
    """Return `folder / name` for a name that another machine or a file gave.

    Raises:
        ValueError: `name` is absolute, holds `..` or is not in its one spelling (`a/b`), or a link on the way leads
            out of `folder`.
    """
    pure = PurePosixPath(name)
    path = folder / name
    if pure.is_absolute() or ".." in pure.parts or str(pure) != name or name == "." or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file below a folder")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of {folder} by a link")
    return path


@contextmanager
def atomic_file(path: Path, mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file beside `path`; on success it is renamed to `path`, on any exception it is removed.

    With `sync` its content is on the disk before it is renamed, so that a power failure leaves no empty file. Text is
    written in UTF-8. What killed processes left beside `path` is removed first.
    """
    aside = _aside(path)
    try:
        descriptor = _hold(lambda: os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))  # the umask applies
        with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:  # noqa: PTH123
            yield file
            file.flush()
            if sync:
                os.fsync(descriptor)
            aside.replace(path)  # before it is closed: until then no other process takes it for a leftover
    except OSError as error:
        if error.filename in (None, aside, str(aside)):  # None: of a write, as to a full disk
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path`; on success it replaces `path`, on any exception it is removed.

    What killed processes left beside `path` is removed first. A link is followed. An empty directory that is there may
    be a mount point, which cannot be replaced: it stays, the new one is made inside, and its files are moved up at the
    end, JSON last, since everything that reads such directories ignores one without its JSON file.
    """
    path = Path(os.path.realpath(path))
    is_inside = path.is_dir() and all(PARTIAL.fullmatch(entry.name) for entry in path.iterdir())
    with _directory_beside(path / path.name if is_inside else path, path) as aside:
        yield aside
        if is_inside:
            for file in sorted(aside.iterdir(), key=lambda file: file.suffix == ".json"):
                file.rename(path / file.name)
            return
        if path.is_dir():
            shutil.rmtree(path)
        aside.rename(path)


@contextmanager
def atomic_files(folder: Path, *replaced: str) -> Iterator[Path]:
    """Yield an empty directory; on success its files take their places in `folder`, on any exception none does.

    replaced: patterns of files in `folder` that are removed then, unless they are among the new ones, with the folders
        that this leaves empty
    """
    with _directory_beside(folder / "new", folder) as aside:
        yield aside
        files = [path for path in aside.rglob("*") if path.is_file()]
        places = {folder / path.relative_to(aside) for path in files}
        for path in sorted(files, key=lambda path: (path.suffix == ".json", path)):
            place = folder / path.relative_to(aside)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
        for path in {old for pattern in replaced for old in folder.glob(pattern) if old.is_file()} - places:
            path.unlink()
            with suppress(OSError):  # there is something in it
                for parent in path.relative_to(folder).parents[:-1]:
                    (folder / parent).rmdir()


@contextmanager
def _directory(folder: Path) -> Iterator[bool]:
    """Make a directory and those around it; yield whether it is new. The new ones that end empty are removed."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield bool(new)
    finally:
        with suppress(OSError):  # there is something in it
            for each in new:
                each.rmdir()


@contextmanager
def _directory_beside(path: Path, place: Path | None = None) -> Iterator[Path]:
    """Yield a new, empty directory beside `path`, which is removed at the end unless it has been renamed.

    An error of a file in it names the file that it would have become, in `place`: by default `path`.
    """
    aside = path

    def make() -> Path:
        nonlocal aside
        aside = _aside(path)
        aside.mkdir()
        return aside

    try:
        with _directory(path.parent), temporary_dir(make):
            yield aside
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).is_relative_to(aside):
            error.filename = str((place or path) / Path(error.filename).relative_to(aside))
        raise


@contextmanager
def temporary_dir(make: Callable[[], Path]) -> Iterator[Path]:
    """Yield the directory that `make` makes, and remove it; meanwhile `remove_leftovers` leaves it alone."""
    folder = Path()

    def opened() -> int:
        nonlocal folder
        folder = make()
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    descriptor = _hold(opened)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove the files and directories in `folder` that match `pattern` and belong to no living process."""
    for path in folder.glob(pattern):
        with suppress(OSError):  # a living one holds it, or it is another user's
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(descriptor)


def _aside(path: Path) -> Path:
    """Return a new name beside `path`, whose folder is made, and remove what killed processes left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, f".{glob.escape(path.name)}.*.partial")
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def _hold(make: Callable[[], int]) -> int:
    """Return the descriptor of something new that is locked until it is closed, by all processes that inherit it.

    A lock and not the number of the process: processes in containers that share a directory have equal numbers.
    """
    while True:
        descriptor = make()
        with suppress(OSError):  # a file system without locks: there nothing is taken for a leftover
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # taken for a leftover before it was locked


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Make a directory, and lock it while the block runs; the lock ends with the process, however that ends.

    A thread that has it locked may lock it again. A directory that is made, and in which nothing is written, is
    removed. ValueError: another process has it locked; `work` says for what.
    """
    with _directory(folder) as is_new:
        lock = FileLock((folder / ".lock").resolve(), is_singleton=True)
        try:
            _acquire(lock, folder)
        except Timeout as error:
            raise ValueError(
                f"{folder}: another {work} is writing there; wait for it or choose another --out"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # another program removed the directory
                if is_new and list(folder.iterdir()) == [folder / ".lock"]:
                    (folder / ".lock").unlink()
            lock.release()


@retry(retry=retry_if_exception_type(FileNotFoundError), stop=stop_after_attempt(3), reraise=True)
def _acquire(lock: FileLock, folder: Path) -> None:
    """Acquire a lock in a directory, which the process that had the lock may remove meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    lock.acquire(timeout=LOCK_SECONDS)


def file_name(text: str) -> str:
    """Return a text of anybody as one safe part of a path: itself, or what is safe of it with a hash of the whole."""
    safe = re.sub(r"[^\w .,=@+-]", "_", text).lstrip(". ")
    while len(safe.encode()) > LONGEST_NAME:
        safe = safe[:-1]
    return text if safe == text else f"{safe}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


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


def canonical(value: Any) -> bytes:
    """Return JSON text of which equal values have the same bytes."""
    return json.dumps(value, sort_keys=True).encode()


def checksum(data: bytes) -> str:
    """Return the BLAKE2b-128 (hex) of bytes, by which damage is found and equal content recognised."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def with_checksum(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON document with a `checksum` of all the rest of it."""
    return {**document, "checksum": checksum(canonical(document))}


def is_whole(document: Mapping[str, Any], required: bool = False) -> bool:
    """Return whether a JSON document is what `with_checksum` made; without a checksum, whether none is `required`."""
    if "checksum" not in document:
        return not required
    return bool(document["checksum"] == checksum(canonical(_unmarked(document))))


def _unmarked(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "checksum"}


def read_json(path: Path) -> Any:
    """Read JSON; ValueError with the line where it is damaged."""
    return parse_json(path.read_bytes(), str(path))


def read_document(path: Path, kind: Any, remedy: str = "use another output directory") -> Any:
    """Read a JSON document that `write_document` wrote, or an earlier version without a checksum.

    Args:
        path: The file.
        kind: A type that pydantic validates; the values are returned as they are in the file, without the checksum.
        remedy: What mends a damaged file, for the message.

    Raises:
        ValueError: It is damaged, or not of `kind`.
    """
    document = read_json(path)
    if isinstance(document, dict):
        if not is_whole(document):
            raise ValueError(f"{path}: damaged (it is not what was written); {remedy}")
        document = _unmarked(document)
    try:
        TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        raise ValueError(f"{path}: damaged ({explain(error)}); {remedy}") from error
    return document


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document with a checksum of all of it, completely or not at all."""
    write_json(path, with_checksum(document))


def parse_json(data: bytes, where: str) -> Any:
    """Parse JSON; ValueError with `where` and the line where it is damaged."""
    try:
        return json.loads(data.decode())
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON (line {error.lineno}: {error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not valid JSON (not UTF-8 text)") from error
