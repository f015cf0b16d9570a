"""The ledger's table: ledger.jsonl beside a study, one event a line, only ever appended to."""

from __future__ import annotations

import csv
import io
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
from playscale.scaling.ledger import CHAIN, REGISTERED, SCORED, Entry, Event, Ledger
from playscale.storage.files import atomic_file, read_text

LEDGER = "ledger.jsonl"
UNREAD = "unread"  # of an event: a line that is none
EVENTS = {"registered": REGISTERED, "scored": ("id", *SCORED, "time"), "void": ("id", "reason", "time")}
COLUMNS = ("event", *REGISTERED, *SCORED, "reason", *CHAIN)
TEXTS = (
    "event", "id", "game", "method", "target", "law", "at", "time", "version", "points", "corpus", "reason", *CHAIN,
)  # fmt: skip
"""Columns of the CSV, and those that are text."""


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

    def score(self, name: str, outcomes: Sequence[float], se: float | None = None, seeds: int = 1) -> Entry:
        """Score a forecast, see `playscale.scaling.ledger.score`."""
        return self._one(lambda ledger: core.score(ledger, name, outcomes, now(), se, seeds))

    def void(self, name: str, reason: str) -> Entry:
        """Void a forecast, see `playscale.scaling.ledger.void`."""
        return self._one(lambda ledger: core.void(ledger, name, reason, now()))

    def extend(self, ledger: Ledger) -> tuple[Event, ...]:
        """Add the events of a ledger of which this one is the beginning; return those added.

        Raises:
            ValueError: this one has other events, or the ledger is not as it was written.
        """
        if found := core.check(ledger):
            raise ValueError(f"the ledger is not as it was written: {found[0]}")
        added: list[Event] = []

        def change(own: Ledger) -> Ledger:
            count = len(own.events)
            if own.events != ledger.events[:count]:
                raise ValueError(f"{self.path}: holds other events than the ledger {ledger.id}; use another directory")
            added.extend(ledger.events[count:])
            return replace(own, events=ledger.events)

        self._change(change)
        return tuple(added)

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


def write_csv(ledger: Ledger, path: Path) -> None:
    """Write the events of a ledger as CSV, a row each; numbers, lists and what is missing as JSON has them."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for event in ledger.events:
        writer.writerow({name: v if name in TEXTS else json.dumps(v) for name, v in event.items()})
    with atomic_file(path, "w") as file:
        file.write(out.getvalue())


def read_csv(path: Path) -> Ledger:
    """Read what `write_csv` wrote. ValueError: it is no such file, with the line; `check` finds what was changed."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path}: no ledger: it has no column {missing[0]}; give what `playscale ledger export` wrote")
    events = []
    for row in reader:
        kind = row["event"]
        if kind not in EVENTS:
            raise ValueError(f"{path}: line {reader.line_num}: {kind!r} is no event; known: {', '.join(EVENTS)}")
        try:
            own = {name: row[name] for name in ("event", *EVENTS[kind], *CHAIN)}
            events.append({name: text if name in TEXTS else json.loads(text) for name, text in own.items()})
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: line {reader.line_num}: not what was exported ({error})") from error
    if not events:
        raise ValueError(f"{path}: a ledger without events; there is nothing to import")
    return Ledger(str(events[0]["ledger"]), tuple(events))


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
