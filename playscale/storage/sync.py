"""A local folder to work in that stands for one in S3: files are downloaded from there, changes are uploaded.

In S3 a directory is complete when its JSON file is there: data is uploaded before JSON and removed after it. Everything
that reads such directories (checkpoints, evaluations, saves) ignores one without its JSON file.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_fixed

from playscale.storage.files import local_path
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3

SCRATCH = "PLAYSCALE_SCRATCH"  # environment variable: where scratch folders go; default: the temporary directory
INTERVAL = 15.0  # seconds between two uploads of what has changed, and between two attempts
PATIENCE = 600.0  # seconds for which a step at its end retries an S3 that cannot be reached
PARALLEL = 8  # files transferred at the same time
NO_FILES = "-"  # a pattern that matches nothing
log = logging.getLogger(__name__)


@contextmanager
def workspace(uri: str | Path, *wanted: str, store: bool = True) -> Iterator[Path]:
    """Yield a local directory itself; for s3://BUCKET/PREFIX, a scratch folder with the files that match `wanted`.

    wanted: patterns of names below the prefix, in which * also matches slashes; none: everything
    With `store`, new and changed files are uploaded while the block runs and at its end, also after an exception, and
    files removed in the scratch folder are removed in S3. Names that begin with a dot are ignored. OSError: S3 could
    not be reached for PATIENCE.
    """
    if not is_s3(uri):
        yield local_path(uri)
        return
    with _scratch() as scratch:
        sync = S3Sync(S3Storage(str(uri)), Path(scratch))
        sync.download(wanted)
        with sync.running() if store else nullcontext():
            yield sync.folder


def local_copy(uri: str | Path) -> Path:
    """Return a local path itself; for a file or directory in S3, a copy that is removed when this process ends.

    It is downloaded once per process. ValueError: there is nothing at `uri`.
    """
    return _download(str(uri)) if is_s3(uri) else local_path(uri)


@functools.cache
def _download(uri: str) -> Path:
    parent, _, name = uri.rstrip("/").rpartition("/")
    if is_s3(parent + "/"):
        sync = S3Sync(S3Storage(parent), Path(_process_scratch().name))
        if sync.download([name, f"{name}/*"]):
            return sync.folder / name
    raise ValueError(f"{uri}: there is nothing there")


@functools.cache
def _process_scratch() -> tempfile.TemporaryDirectory[str]:
    return _scratch()


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="playscale-", dir=os.environ.get(SCRATCH))


class S3Sync:
    """A local folder and the prefix in S3 that it stands for."""

    def __init__(self, storage: S3Storage, folder: Path) -> None:
        self.storage, self.folder = storage, folder
        self._synced: dict[str, tuple[int, int]] = {}  # time of change (ns) and size of what S3 has, by name
        self._lock = threading.Lock()

    def download(self, wanted: Iterable[str]) -> int:
        """Download the files that match one of the patterns, all without a pattern; return their number."""
        patterns = list(wanted) or ["*"]
        listed = {name for pattern in patterns for name in self.storage.walk(pattern.partition("*")[0])}
        names = [n for n in listed if any(fnmatchcase(n, pattern) for pattern in patterns) and not _hidden(n)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self._download, names))
        return len(names)

    def _download(self, name: str) -> None:
        file = self.folder / name
        self.storage.download(name, file)
        self._synced[name] = _stamp(file)

    def upload(self) -> None:
        """Bring S3 to the state of the folder. OSError: it cannot be reached; another call resumes from there."""
        with self._lock:
            files = _files(self.folder)
            changed = sorted((n for n, stamp in files.items() if self._synced.get(n) != stamp), key=_upload_order)
            data = [name for name in changed if not name.endswith(".json")]
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(self._upload, data, (files[name] for name in data)))
            for name in changed[len(data) :]:
                self._upload(name, files[name])
            for name in sorted(self._synced.keys() - files.keys(), key=_upload_order, reverse=True):
                self.storage.remove(name)
                del self._synced[name]

    def _upload(self, name: str, stamp: tuple[int, int]) -> None:
        try:
            self.storage.upload(self.folder / name, name)
        except FileNotFoundError:
            return  # removed meanwhile, as an old save is
        self._synced[name] = stamp

    @contextmanager
    def running(self) -> Iterator[None]:
        """Upload changes every INTERVAL seconds and at the end. Until the end, an unreachable S3 is only logged."""
        stopped = threading.Event()

        def upload_changes() -> None:
            while not stopped.wait(INTERVAL):
                try:
                    self.upload()
                except (OSError, ValueError) as error:
                    log.warning("%s; trying again in %.0f s", error, INTERVAL)

        thread = threading.Thread(target=upload_changes, name="upload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            Retrying(
                retry=retry_if_exception_type(OSError),
                stop=stop_after_delay(PATIENCE),
                wait=wait_fixed(INTERVAL),
                before_sleep=before_sleep_log(log, logging.WARNING),
                reraise=True,
            )(self.upload)


def _upload_order(name: str) -> tuple[bool, int, str]:
    """Sort data before JSON, and JSON of deeper folders before that of the folders around them."""
    return name.endswith(".json"), -name.count("/"), name


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    files = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            with suppress(FileNotFoundError):  # removed meanwhile
                files[path.relative_to(folder).as_posix()] = _stamp(path)
    return files


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size
