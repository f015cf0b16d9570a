"""What goes to a tracking server goes by way of the disk: written down at once, delivered in order by a thread.

So nobody waits for the server, and one that is down for minutes, or for longer than the process lives, loses nothing:
what it has not taken waits in the spool, for this process or the next one that opens it.

What waits to be delivered, on disk, oldest first.

PATH        an entry a line, JSON; a line that a kill cut off is dropped
PATH.done   how many bytes of it have been delivered; where a crash has harmed it, everything is delivered once more
Both go when nothing waits any more.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests
from mlflow.exceptions import MlflowException

from playscale.tracking import monitor

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries
REPEAT = 300.0  # seconds between two lines about the same outage
LINE = 240  # characters of a reason

log = logging.getLogger(__name__)
T = TypeVar("T")


class DeliveryQueue:
    """`put` entries; `deliver` gets them one after the other, in a thread, each until it has been taken.

    An entry that the server refuses, since it can never be right (HTTP 400), goes to PATH.refused: it holds up no
    others. `server` is for the log.
    """

    def __init__(self, path: Path, deliver: Callable[[Entry], None], server: str) -> None:
        self._spool, self._deliver, self._server = QueueFile(path), deliver, server
        self._lock = threading.Condition()
        self._closing = self._stopped = False
        self._down_since: float | None = None
        self._spoken, self._pause = -math.inf, FIRST_PAUSE
        self._waited = 0  # entries that waited when the outage began
        if len(self._spool):
            log.warning("tracking: %d entries wait in %s from before", len(self._spool), path)
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        with self._lock:
            self._spool.append(entry)
            self._lock.notify_all()

    def __len__(self) -> int:
        """Entries that have not been delivered."""
        return len(self._spool)

    def close(self, seconds: float) -> int:
        """Wait for the server so long at most; the number of entries that stay in the spool."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self._closing = True
            self._lock.notify_all()
            self._lock.wait_for(lambda: not len(self._spool), seconds)
            self._stopped = True
            self._lock.notify_all()
            left = len(self._spool)
        # One that hangs in a request ends with it, or with the process; the spool stays as it is.
        self._thread.join(max(1.0, deadline - time.monotonic()) if not left else 1.0)
        if left:
            log.warning(
                "tracking: %s has not taken %d entries: they wait in %s for the next step, or the same command again",
                self._server, left, self._spool.path,
            )  # fmt: skip
        return left

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            try:
                self._deliver(entry)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on
                if transient(error):
                    self._wait(error)
                    continue
                self._refuse(entry, error)
            self._taken()
        self._spool.close()

    def _next(self) -> Entry | None:
        """The oldest entry, waited for; None at the end."""
        with self._lock:
            self._lock.wait_for(lambda: self._stopped or len(self._spool) or self._closing)
            if self._stopped or not len(self._spool):
                return None
            monitor.gauge("tracking_spool_entries", len(self._spool))
            try:
                return self._spool.first()
            except ValueError:
                return {"damaged": True}

    def _wait(self, error: Exception) -> None:
        """The server was not there: say so now and then, and try again later."""
        monitor.count("errors", own="tracking")
        monitor.gauge("tracking_up", 0)
        now = time.monotonic()
        if self._down_since is None:
            self._down_since, self._waited = now, 0
        if now - self._spoken > REPEAT:
            self._spoken = now
            log.warning(
                "tracking: %s does not answer (%s): %d entries wait in %s, work goes on",
                self._server, one_line(error), len(self._spool), self._spool.path,
            )  # fmt: skip
        with self._lock:
            self._lock.wait_for(lambda: self._stopped, self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _taken(self) -> None:
        with self._lock:
            self._spool.remove()
            self._lock.notify_all()
            left = len(self._spool)
        monitor.gauge("tracking_spool_entries", left)
        monitor.gauge("tracking_up", 1)
        self._pause = FIRST_PAUSE
        if self._down_since is None:
            return
        self._waited += 1
        if not left:
            log.warning(
                "tracking: %s answers again: the %d entries of %.0f s are delivered",
                self._server, self._waited, time.monotonic() - self._down_since,
            )  # fmt: skip
            self._down_since, self._spoken = None, -math.inf

    def _refuse(self, entry: Entry, error: Exception) -> None:
        monitor.count("errors", own="tracking")
        path = self._spool.path.with_name(self._spool.path.name + ".refused")
        with path.open("a") as file:
            file.write(json.dumps({"reason": one_line(error), "entry": entry}) + "\n")
        log.error("tracking: %s cannot take an entry (%s): it is kept in %s", self._server, one_line(error), path)


def transient(error: Exception) -> bool:
    """Whether the same may be taken later. Not what the server calls wrong, nor a file that is gone or damaged here."""
    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() != requests.codes.bad_request)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code != requests.codes.bad_request
    if isinstance(error, requests.RequestException | json.JSONDecodeError):  # a broken answer is no JSON
        return True
    return not isinstance(error, FileNotFoundError | KeyError | TypeError | ValueError)


def persist(call: Callable[[], T], seconds: float, server: str) -> T:
    """What `call` returns, tried again for so long where the server does not answer; then ValueError."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not transient(error):
                raise
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{server} does not answer ({one_line(error)}): run the same command again when it does"
                ) from error
            if pause == FIRST_PAUSE:
                log.warning("tracking: %s does not answer (%s): waiting for it", server, one_line(error))
        time.sleep(min(pause, max(0.01, deadline - time.monotonic())))
        pause = min(2 * pause, LONGEST_PAUSE)


def one_line(error: Exception) -> str:
    """What it says, and at least its end, which is the reason, where it says a lot."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < LINE else f"{text[: LINE // 2]} ... {text[-LINE // 2 :]}"


_DIGITS = 20

Entry = dict[str, Any]


class QueueFile:
    """One process appends and removes; it may do so in two threads. ValueError when another one has it open.

    `append` is one write of a line, without a sync: what a killed process has appended is there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._mark = path, path.with_name(path.name + ".done")
        self._end = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._end, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._end.close()
            raise ValueError(f"{path}: another process is logging there; wait for it or use another --out") from error
        whole = path.read_bytes()
        self._end.truncate(whole.rfind(b"\n") + 1)
        self._begin = path.open("rb")
        self._done = os.open(self._mark, os.O_RDWR | os.O_CREAT, 0o644)
        self._delivered = self._read_mark(whole)
        self._appended = whole.count(b"\n")
        self._removed = whole.count(b"\n", 0, self._delivered)

    def _read_mark(self, whole: bytes) -> int:
        text = os.pread(self._done, _DIGITS, 0)
        at = int(text) if text.isdigit() else 0
        return at if at <= len(whole) and (at == 0 or whole[at - 1 : at] == b"\n") else 0

    def __len__(self) -> int:
        """Entries that wait."""
        return self._appended - self._removed

    def append(self, entry: Entry) -> None:
        self._end.write(json.dumps(entry).encode() + b"\n")
        self._appended += 1

    def first(self) -> Entry | None:
        """The oldest entry that waits. ValueError where it is damaged."""
        if not len(self):
            return None
        self._begin.seek(self._delivered)
        entry: Entry = json.loads(self._begin.readline())
        return entry

    def remove(self) -> None:
        """The oldest entry has been delivered."""
        self._begin.seek(self._delivered)
        self._begin.readline()
        self._delivered = self._begin.tell()
        os.pwrite(self._done, str(self._delivered).zfill(_DIGITS).encode(), 0)
        self._removed += 1

    def close(self) -> None:
        """Leave the files where something waits."""
        if not len(self):
            self._mark.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._begin.close()
        os.close(self._done)
        self._end.close()
