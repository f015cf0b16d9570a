"""What waits to be delivered, on disk, oldest first.

PATH        an entry a line, JSON; a line that a kill cut off is dropped
PATH.done   how many bytes of it have been delivered; where a crash has harmed it, everything is delivered once more
Both go when nothing waits any more.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

_DIGITS = 20

Entry = dict[str, Any]


class Spool:
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
