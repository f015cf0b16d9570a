"""A local directory to work in that stands for one in S3: what is there is fetched, what changes is stored.

In S3 a directory is whole when its JSON file is there: data goes up before JSON, and goes away after it. Everything
that reads one (checkpoints, evaluations, saves) takes no notice of a directory without it.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from playscale.storage.files import local_path
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3

SCRATCH = "PLAYSCALE_SCRATCH"  # where such directories are made; default: the system's temporary directory
EVERY = 15.0  # seconds between two looks at what has changed
PATIENCE = 600.0  # seconds that a step waits at its end for an S3 that cannot be reached
AT_ONCE = 8  # files on their way
NOTHING = "-"  # a pattern
log = logging.getLogger(__name__)


@contextmanager
def workspace(uri: str | Path, *wanted: str, store: bool = True) -> Iterator[Path]:
    """A local directory as it is; for s3://BUCKET/PREFIX a scratch directory with what lies there under `wanted`.

    wanted: patterns of names below the prefix, where * also matches slashes; none: everything
    With `store`, new and changed files are stored as they come, and at the end, be it by an exception; what was there
    and is removed here, is removed there. Names that begin with a dot are nobody's. OSError: S3 could not be reached
    for PATIENCE.
    """
    if not is_s3(uri):
        yield local_path(uri)
        return
    with _scratch() as scratch:
        mirror = S3Sync(S3Storage(str(uri)), Path(scratch))
        mirror.fetch(wanted)
        with mirror.kept() if store else nullcontext():
            yield mirror.folder


def fetched(uri: str | Path) -> Path:
    """A local path as it is; for a file or directory in S3 a copy, which goes when this process ends.

    ValueError: there is nothing there. The copy is made once a process.
    """
    return _copy(str(uri)) if is_s3(uri) else local_path(uri)


@functools.cache
def _copy(uri: str) -> Path:
    folder, _, name = uri.rstrip("/").rpartition("/")
    if is_s3(folder + "/"):
        mirror = S3Sync(S3Storage(folder), Path(_kept_scratch().name))
        if mirror.fetch([name, f"{name}/*"]):
            return mirror.folder / name
    raise ValueError(f"{uri}: there is nothing there")


@functools.cache
def _kept_scratch() -> tempfile.TemporaryDirectory[str]:
    return _scratch()


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="playscale-", dir=os.environ.get(SCRATCH))


class S3Sync:
    """A local folder and the prefix in S3 that it stands for."""

    def __init__(self, bucket: S3Storage, folder: Path) -> None:
        self.bucket, self.folder = bucket, folder
        self._stored: dict[str, tuple[int, int]] = {}  # what S3 has, by name: time of change (ns) and size here
        self._lock = threading.Lock()

    def fetch(self, wanted: Iterable[str]) -> int:
        """Fetch what matches a pattern, or everything; returns the number of files."""
        patterns = list(wanted) or ["*"]
        there = {name for pattern in patterns for name in self.bucket.walk(pattern.partition("*")[0])}
        names = [n for n in there if any(fnmatchcase(n, pattern) for pattern in patterns) and not _hidden(n)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._fetch, names))
        return len(names)

    def _fetch(self, name: str) -> None:
        file = self.folder / name
        self.bucket.fetch(name, file)
        self._stored[name] = _stamp(file)

    def store(self) -> None:
        """Bring S3 to what is here. OSError: it cannot be reached; another call goes on from there."""
        with self._lock:
            here = _files(self.folder)
            changed = sorted((n for n, stamp in here.items() if self._stored.get(n) != stamp), key=_order)
            data = [name for name in changed if not name.endswith(".json")]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._store, data, (here[name] for name in data)))
            for name in changed[len(data) :]:
                self._store(name, here[name])
            for name in sorted(self._stored.keys() - here.keys(), key=_order, reverse=True):
                self.bucket.remove(name)
                del self._stored[name]

    def _store(self, name: str, stamp: tuple[int, int]) -> None:
        try:
            self.bucket.store(self.folder / name, name)
        except FileNotFoundError:
            return  # dropped since: by a newer save
        self._stored[name] = stamp

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Store what changes, every EVERY seconds and at the end. An S3 that is away meanwhile is only reported."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(EVERY):
                try:
                    self.store()
                except (OSError, ValueError) as error:
                    log.warning("%s; trying again in %.0f s", error, EVERY)

        thread = threading.Thread(target=keep, name="store", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._store_patiently()

    def _store_patiently(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.store()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("%s; trying again in %.0f s", error, EVERY)
                time.sleep(EVERY)


def _order(name: str) -> tuple[bool, int, str]:
    """Data before JSON; of JSON, what lies deeper before what speaks of it."""
    return name.endswith(".json"), -name.count("/"), name


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            with suppress(FileNotFoundError):  # dropped since
                found[path.relative_to(folder).as_posix()] = _stamp(path)
    return found


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size
