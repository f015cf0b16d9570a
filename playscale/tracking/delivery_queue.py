"""Entries for a tracking server, written to disk at once and delivered in order by a thread.

So no step waits for the server, and nothing is lost while it is down, even for longer than this process lives: what it
has not accepted stays in the queue's file for the next process that opens it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests
from mlflow.exceptions import MlflowException

from playscale.tracking import monitor
from playscale.tracking.uris import one_line

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two attempts
REPEAT = 300.0  # seconds between two log lines about the same outage
DIGITS = 20  # of the number in PATH.done

Entry = dict[str, Any]

log = logging.getLogger(__name__)
T = TypeVar("T")


class RefusedRunError(Exception):
    """The server takes no entry of a run, since it refuses the experiment or the run itself: all of them wait."""


class DeliveryQueue:
    """A queue file and the thread that delivers its entries one after the other, each until the server accepts it.

    An entry that the server rejects as invalid (HTTP 400) is moved to PATH.refused, so that it does not block the
    others; but when it refuses the run (RefusedRunError), everything waits. `deliver` sends one entry; `server` names
    the server in the log; `to` is kept with each entry, and says where it goes.
    """

    def __init__(
        self, path: Path, deliver: Callable[[Entry], None], server: str, to: Mapping[str, object] | None = None
    ) -> None:
        self._file, self._deliver, self._server, self._to = QueueFile(path), deliver, server, to
        self._changed = threading.Condition()
        self._closing = self._stopped = self._run_refused = False
        self._down_since: float | None = None
        self._logged_at, self._pause = -math.inf, FIRST_PAUSE
        self._delivered = 0  # entries delivered since the outage began
        self.reason = ""  # why the last attempt failed
        if len(self._file):
            log.warning("tracking: %d entries wait in %s from before", len(self._file), path)
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        with self._changed:
            self._file.append({"to": self._to, **entry} if self._to else entry)
            self._changed.notify_all()

    def retry_refused(self) -> None:
        """Put the entries that were refused earlier behind those that wait."""
        path = refused_path(self._file.path)
        if not path.exists():
            return
        for line in path.read_bytes().rstrip().split(b"\n"):
            self.put(json.loads(line)["entry"])
        path.unlink()

    def __len__(self) -> int:
        """Return the number of entries that have not been delivered."""
        return len(self._file)

    def close(self, seconds: float) -> int:
        """Wait for the server up to `seconds`; return the number of entries that stay in the file.

        A run that the server refuses is not waited for: that changes only when somebody mends it.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not len(self._file) or self._run_refused, seconds)
            self._stopped = True
            self._changed.notify_all()
            left = len(self._file)
        # A thread that hangs in a request ends with the request or with the process; the file stays as it is.
        self._thread.join(max(1.0, deadline - time.monotonic()) if not left else 1.0)
        if left:
            log.warning(
                "tracking: %s has not taken %d entries: they wait in %s for the next step, the same command again, or "
                "playscale tracking deliver",
                self._server, left, self._file.path,
            )  # fmt: skip
        return left

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            try:
                self._deliver(entry)
            except Exception as error:  # noqa: BLE001 - the thread must survive any error
                if transient(error):
                    self._wait(error)
                    continue
                self._refuse(entry, error)
            self._remove()
        self._file.close()

    def _next(self) -> Entry | None:
        """Wait for the oldest entry; return None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._file) or self._closing)
            if self._stopped or not len(self._file):
                return None
            monitor.gauge("tracking_spool_entries", len(self._file))
            try:
                return self._file.first()
            except ValueError:
                return {"damaged": True}

    def _wait(self, error: Exception) -> None:
        """Pause after the server did not answer, and log it now and then."""
        monitor.count("errors", label="tracking")
        monitor.gauge("tracking_up", 0)
        self.reason = one_line(error)
        now = time.monotonic()
        if self._down_since is None:
            self._down_since, self._delivered = now, 0
        if now - self._logged_at > REPEAT:
            self._logged_at = now
            log.warning(
                "tracking: %s %s (%s): %d entries wait in %s, work continues",
                self._server, "refuses a run" if isinstance(error, RefusedRunError) else "does not answer",
                self.reason, len(self._file), self._file.path,
            )  # fmt: skip
        with self._changed:  # not tenacity: close() must interrupt this pause
            self._run_refused = isinstance(error, RefusedRunError)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped, self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _remove(self) -> None:
        """Remove the entry that was delivered or refused."""
        with self._changed:
            self._file.remove()
            self._run_refused = False
            self._changed.notify_all()
            left = len(self._file)
        monitor.gauge("tracking_spool_entries", left)
        monitor.gauge("tracking_up", 1)
        self._pause = FIRST_PAUSE
        if self._down_since is None:
            return
        self._delivered += 1
        if not left:
            log.warning(
                "tracking: %s answers again: the %d entries of %.0f s are delivered",
                self._server, self._delivered, time.monotonic() - self._down_since,
            )  # fmt: skip
            self._down_since, self._logged_at = None, -math.inf

    def _refuse(self, entry: Entry, error: Exception) -> None:
        monitor.count("errors", label="tracking")
        path = refused_path(self._file.path)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": one_line(error), "entry": entry}) + "\n")
        log.error("tracking: %s cannot take an entry (%s): it is kept in %s", self._server, one_line(error), path)


def refused_path(queue_file: Path) -> Path:
    """Return the file of the entries of a queue that the server rejected as invalid."""
    return queue_file.with_name(queue_file.name + ".refused")


def destination(queue_file: Path) -> dict[str, Any]:
    """Return what the oldest entry of a queue, or of those that were refused, says of where it goes.

    Nothing when there is none, or when it was written by version 0.1.
    """
    for path in (queue_file, refused_path(queue_file)):
        with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, AttributeError):  # damaged
                    entry = json.loads(line)
                    if to := entry.get("entry", entry).get("to"):
                        return dict(to)
    return {}


class QueueFile:
    """Entries that wait to be delivered, oldest first.

    PATH       one entry per line, JSON; a last line that a kill cut off is dropped
    PATH.done  how many bytes of PATH have been delivered; when it is damaged, everything is delivered once more
    Both files are removed on close() when nothing waits any more.

    One process at a time may open it (ValueError), of which two threads may append and remove. `append` is one write of
    a line, without a sync: what a killed process has appended is there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._done_path = path, path.with_name(path.name + ".done")
        self._writer = path.open("ab", buffering=0)
        try:  # not filelock: it would leave a lock file beside each queue
            fcntl.flock(self._writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._writer.close()
            raise ValueError(f"{path}: another process is logging there; wait for it or use another --out") from error
        content = path.read_bytes()
        self._writer.truncate(content.rfind(b"\n") + 1)
        self._reader = path.open("rb")
        self._done = os.open(self._done_path, os.O_RDWR | os.O_CREAT, 0o666)
        self._offset = self._read_done(content)  # of the oldest entry that waits
        self._appended = content.count(b"\n")
        self._removed = content.count(b"\n", 0, self._offset)

    def _read_done(self, content: bytes) -> int:
        text = os.pread(self._done, DIGITS, 0)
        offset = int(text) if text.isdigit() else 0
        valid = offset <= len(content) and (offset == 0 or content[offset - 1 : offset] == b"\n")
        return offset if valid else 0

    def __len__(self) -> int:
        """Return the number of entries that wait."""
        return self._appended - self._removed

    def append(self, entry: Entry) -> None:
        self._writer.write(json.dumps(entry).encode() + b"\n")
        self._appended += 1

    def first(self) -> Entry | None:
        """Return the oldest entry that waits; ValueError when it is damaged."""
        if not len(self):
            return None
        self._reader.seek(self._offset)
        entry: Entry = json.loads(self._reader.readline())
        return entry

    def remove(self) -> None:
        """Mark the oldest entry as delivered."""
        self._reader.seek(self._offset)
        self._reader.readline()
        self._offset = self._reader.tell()
        os.pwrite(self._done, str(self._offset).zfill(DIGITS).encode(), 0)
        self._removed += 1

    def close(self) -> None:
        """Close the files, and remove them when nothing waits."""
        if not len(self):
            self._done_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._reader.close()
        os.close(self._done)
        self._writer.close()


def transient(error: Exception) -> bool:
    """Return whether a later attempt may succeed: not for an invalid request, nor a local file missing or damaged."""
    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() != requests.codes.bad_request)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code != requests.codes.bad_request
    if isinstance(error, requests.RequestException | json.JSONDecodeError):  # an answer that breaks off is no JSON
        return True
    return not isinstance(error, FileNotFoundError | AttributeError | KeyError | TypeError | ValueError)


def forbidden(error: Exception) -> bool:
    """Return whether a server has answered that it wants another login, or does not allow it."""
    return isinstance(error, MlflowException) and error.get_http_status_code() in {
        requests.codes.unauthorized,
        requests.codes.forbidden,
    }


def retry_until_answered(call: Callable[[], T], seconds: float, server: str) -> T:
    """Return what `call` returns, retrying for `seconds` while the server does not answer; then RuntimeError.

    An error that no later attempt would change is raised at once, as is that of a wrong login.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if forbidden(error) or not transient(error):
                raise
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{server} does not answer ({one_line(error)}): run the same command again when it does"
                ) from error
            if pause == FIRST_PAUSE:
                log.warning("tracking: %s does not answer (%s): waiting for it", server, one_line(error))
        time.sleep(min(pause, max(0.01, deadline - time.monotonic())))  # the last attempt is at the deadline
        pause = min(2 * pause, LONGEST_PAUSE)
