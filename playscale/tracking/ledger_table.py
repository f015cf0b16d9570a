"""The ledger's table: ledger.jsonl beside a study, one event a line, only ever appended to."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from playscale.scaling import ledger as core
from playscale.scaling.ledger import Entry, Event, Ledger

LEDGER = "ledger.jsonl"
UNREAD = "unread"  # of an event: a line that is none


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class LedgerTable:
    """The table in a file, which is made with its first entry. Writers wait for each other.

    A line that a killed writer left half is ignored, and removed by the next writer.
    """

    path: Path

    @classmethod
    def beside(cls, out: Path) -> LedgerTable:
        """Return the table of a directory: of a study, or the --out of `fit`."""
        return cls(out / LEDGER)

    def read(self) -> Ledger:
        """Return the ledger; one without events where there is no table."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Ledger("")
        events = tuple(_event(line) for line in _lines(data)[0])
        return Ledger(next((str(event["ledger"]) for event in events if event.get("ledger")), ""), events)

    def register(self, forecasts: Iterable[Entry], *, time: str = "") -> list[Entry]:
        """Register forecasts, and return their entries; those that stand already are returned as they are."""
        entries = []

        def change(ledger: Ledger) -> Ledger:
            for forecast in forecasts:
                ledger, entry = core.register(ledger, forecast, time or now())
                entries.append(entry)
            return ledger

        self._change(change)
        return entries

    def score(self, name: str, outcomes: Sequence[float], se: float | None = None) -> Entry:
        """Score a forecast, see `playscale.scaling.ledger.score`."""
        return self._one(lambda ledger: core.score(ledger, name, outcomes, now(), se))

    def void(self, name: str, reason: str) -> Entry:
        """Void a forecast, see `playscale.scaling.ledger.void`."""
        return self._one(lambda ledger: core.void(ledger, name, reason, now()))

    def _one(self, step: Callable[[Ledger], tuple[Ledger, Entry]]) -> Entry:
        entries = []

        def change(ledger: Ledger) -> Ledger:
            ledger, entry = step(ledger)
            entries.append(entry)
            return ledger

        self._change(change)
        return entries[0]

    def _change(self, change: Callable[[Ledger], Ledger]) -> None:
        """Append the events that `change` adds to the ledger, while no other process writes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock").resolve()):
            ledger = self.read()
            ledger = replace(ledger, id=ledger.id or secrets.token_hex(6))
            added = change(ledger).events[len(ledger.events) :]
            if added:
                self._append(b"".join(json.dumps(event, allow_nan=False).encode() + b"\n" for event in added))

    def _append(self, data: bytes) -> None:
        """Append whole lines, after the last whole one; on the disk when this returns."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        with open(descriptor, "r+b") as file:  # noqa: PTH123
            _, end, ended = _lines(file.read())
            try:
                file.truncate(end)
                file.seek(end)
                file.write((b"" if ended else b"\n") + data)
                file.flush()
                os.fsync(descriptor)
            except OSError as error:
                error.filename = str(self.path)
                raise


def _lines(data: bytes) -> tuple[list[bytes], int, bool]:
    """Return the whole lines, where they end, and whether the last one has its end.

    A last line without its end is whole if it is JSON: an editor may have taken the end away.
    """
    *lines, last = data.split(b"\n")
    if last and _parsed(last) is not None:
        return [*lines, last], len(data), False
    return lines, len(data) - len(last), True


def _parsed(line: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(line)
    return None


def _event(line: bytes) -> Event:
    """Return the event of a line; of one that is none, an event that `check` names."""
    event = _parsed(line)
    return event if isinstance(event, dict) else {"event": UNREAD, "id": line[:20].decode(errors="replace")}
