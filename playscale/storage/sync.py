"""A local folder to work in that stands for one in S3: files are downloaded from there, changes are uploaded.

In S3 a directory is complete when its JSON file is there: data is uploaded before JSON and removed after it. Everything
that reads such directories (checkpoints, evaluations, saves) ignores one without its JSON file.
"""

from __future__ import annotations

import atexit
import functools
import glob
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception,
    stop_after_delay,
    wait_fixed,
)

from playscale.processes.signals import stop_signal
from playscale.storage.files import local_path, path_below, remove_leftovers, temporary_dir
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3

SCRATCH = "PLAYSCALE_SCRATCH"  # environment variable: where scratch folders go; default: the temporary directory
PREFIX, KEPT = "playscale-scratch-", "playscale-unsaved-"  # of the names of scratch folders, and of those kept
INTERVAL = 15.0  # seconds between two uploads of what has changed, and between two attempts
PATIENCE = 600.0  # seconds for which a step at its end retries an S3 that cannot be reached
PARALLEL = 8  # files transferred at the same time
NO_FILES = "-"  # a pattern that matches nothing
T = TypeVar("T")
log = logging.getLogger(__name__)


@contextmanager
def workspace(uri: str | Path, *wanted: str, store: bool = True) -> Iterator[Path]:
    """Yield a local directory itself; for s3://BUCKET/PREFIX, a scratch folder with the files that match `wanted`.

    wanted: patterns of names below the prefix, in which * also matches slashes; none: everything
    With `store`, new and changed files are uploaded while the block runs and at its end, also after an exception, and
    files removed in the scratch folder are removed in S3. Names that begin with a dot are ignored. A scratch folder
    whose files could not all be uploaded is kept, and named.

    ValueError: S3 refuses to write, which is tried first. OSError: S3 could not be reached for PATIENCE.
    """
    if not is_s3(uri):
        yield local_path(uri)
        return
    with scratch_folder() as scratch:
        sync = S3Sync(S3Storage(str(uri)), scratch)
        if store:
            read_patiently(sync.storage.check_writable)
        read_patiently(lambda: sync.download(wanted))
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
        sync = S3Sync(S3Storage(parent), process_scratch())
        if read_patiently(lambda: sync.download([glob.escape(name), f"{glob.escape(name)}/*"])):
            return sync.folder / name
    raise ValueError(f"{uri}: there is nothing there")


@functools.cache
def process_scratch() -> Path:
    """Return a scratch folder that is removed when this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch_folder())


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a scratch folder that is removed afterwards; those of killed processes are removed first."""
    parent = Path(os.environ.get(SCRATCH) or tempfile.gettempdir())
    remove_leftovers(parent, f"{PREFIX}*")
    with temporary_dir(lambda: Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))) as folder:
        yield folder


class S3Sync:
    """A local folder and the prefix in S3 that it stands for."""

    def __init__(self, storage: S3Storage, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.storage, self.folder = storage, folder
        self._synced: dict[str, tuple[int, int]] = {}  # time of change (ns) and size of what S3 has, by name
        self._made = _identity(folder)
        self._lock = threading.Lock()

    def download(self, wanted: Iterable[str]) -> int:
        """Download the files that match one of the patterns, all without a pattern; return their number."""
        patterns = list(wanted) or ["*"]
        prefixes = {re.split(r"[*?[]", pattern)[0] for pattern in patterns}
        covering = [one for one in prefixes if not any(one != other and one.startswith(other) for other in prefixes)]
        listed = {name for prefix in covering for name in self.storage.walk(prefix)}
        matching = [name for name in listed if any(fnmatchcase(name, pattern) for pattern in patterns)]
        files = {name: self._file(name) for name in matching}  # all are checked before one is written
        shown = {name: file for name, file in files.items() if not _hidden(name)}
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self._download, shown, shown.values()))
        return len(shown)

    def _file(self, name: str) -> Path:
        """Return the file in the folder that stands for an object; ValueError: its key is no such name."""
        try:
            return path_below(self.folder, name)
        except ValueError as error:
            raise ValueError(f"{self.storage.where(name)}: {error}; rename or remove the object") from error

    def _download(self, name: str, file: Path) -> None:
        self.storage.download(name, file)
        self._synced[name] = _stamp(file)

    def upload(self) -> None:
        """Bring S3 to the state of the folder. OSError: it cannot be reached; another call resumes from there."""
        with self._lock:
            files = self._files()
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
            self.storage.upload(path_below(self.folder, name), name)
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
                except (OSError, ValueError, RuntimeError) as error:
                    log.warning("%s; trying again in %.0f s", error, INTERVAL)

        thread = threading.Thread(target=upload_changes, name="upload", daemon=True)
        thread.start()
        failed = True
        try:
            yield
            failed = False
        finally:
            stopped.set()
            self._finish(thread, failed)

    def _finish(self, thread: threading.Thread, failed: bool) -> None:
        """Upload what is left; what cannot be is kept. When the work itself `failed`, that error is the one to see."""
        try:
            thread.join()
            patiently(self.upload)
        except RuntimeError:  # there is nothing to keep
            raise
        except BaseException as error:
            text = f"what S3 lacks of {self.storage.where('')} is kept in {self._keep()}"
            if not isinstance(error, OSError | ValueError):  # interrupted
                log.error("%s", text)  # noqa: TRY400
                raise
            text = f"{error}; {text}"
            if not failed:
                raise (OSError if isinstance(error, OSError) else ValueError)(text) from error
            log.error("%s", text)  # noqa: TRY400

    def _keep(self) -> Path:
        """Rename the folder so that it outlives this process, and return its new path."""
        kept = self.folder.with_name(self.folder.name.replace(PREFIX, KEPT))
        return self.folder.rename(kept)

    def _files(self) -> dict[str, tuple[int, int]]:
        """Return the stamps of the files in the folder by name.

        RuntimeError: something else removed the folder. What it held must not be removed in S3 then.
        """
        files = {}
        for root, folders, names in os.walk(self.folder, onerror=_unless_missing):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(root, name) for name in names if not name.startswith(".")):
                with suppress(FileNotFoundError):  # removed meanwhile
                    files[path.relative_to(self.folder).as_posix()] = _stamp(path)
        if _identity(self.folder) != self._made:
            raise RuntimeError(f"{self.folder}: another program removed it; set ${SCRATCH} to a place where none does")
        return files


def patiently(call: Callable[[], object]) -> None:
    """Call until there is no OSError, every INTERVAL seconds and for PATIENCE."""
    _retrying(lambda error: isinstance(error, OSError))(call)


def _retrying(waits: Callable[[BaseException], bool]) -> Retrying:
    """Return what calls again every INTERVAL seconds, for PATIENCE, after the errors that are waited for."""
    return Retrying(
        retry=retry_if_exception(waits),
        stop=stop_after_delay(PATIENCE),
        wait=wait_fixed(INTERVAL),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )


class _Reads:
    patient = False


@contextmanager
def patient_reads() -> Iterator[None]:
    """Let reads inside wait for an S3 that is away, as uploads do, in every thread of this process.

    For a step of a study. A command that somebody waits for says at once that the endpoint cannot be reached.
    """
    before, _Reads.patient = _Reads.patient, True
    try:
        yield
    finally:
        _Reads.patient = before


def read_patiently(call: Callable[[], T]) -> T:
    """Return what the call does. Inside `patient_reads`, call again as `patiently` does, until a signal to stop."""
    if not _Reads.patient:
        return call()

    def waits(error: BaseException) -> bool:
        """Return whether S3 is away: an error of the local disk has a number."""
        return isinstance(error, OSError) and error.errno is None and stop_signal() is None

    return _retrying(waits)(call)


def _upload_order(name: str) -> tuple[bool, int, str]:
    """Sort data before JSON, and JSON of deeper folders before that of the folders around them."""
    return name.endswith(".json"), -name.count("/"), name


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a directory from a later one of the same name, as long as a process holds it open."""
    with suppress(FileNotFoundError):
        stat = folder.stat()
        return stat.st_dev, stat.st_ino
    return None


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size
