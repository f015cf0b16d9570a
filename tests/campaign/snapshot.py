"""The results in a directory, in a form in which two runs of one command can be compared."""

from __future__ import annotations

import bz2
import csv
import hashlib
import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Snapshot = dict[str, Any]

UNCOMPARED = (  # logs, locks, the study's id and states of progress; what MLflow holds is read from its database
    "*.lock", "*study.json", "*pipeline.log", "*progress/*", "*kfp/*", "*seconds.json", "*mlflow.db*", "*mlartifacts/*",
    "*mlruns/*",
)  # fmt: skip
MEASURED = {
    "seconds",
    "samples_per_second",
    "starttime",
    "endtime",
    "realtime",
    "deathdate",
    "stats",  # a digest of times of change
}
"""Keys and columns that hold measured times, which differ from run to run."""


def snapshot(folder: Path, replace: str = "") -> Snapshot:
    """Return the content of each file below `folder`, by its path there; `replace` (a path) is written as $HERE."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    found = {
        name: _content(path, replace)
        for name, path in names.items()
        if not any(fnmatchcase(name, pattern) for pattern in UNCOMPARED)
    }
    stores = {name: store(path) for name, path in names.items() if path.name == "mlflow.db"}
    return found | stores


def _content(path: Path, replace: str) -> Any:
    data = path.read_bytes()
    if replace:
        data = data.replace(replace.encode(), b"$HERE")
    if path.suffix == ".json":
        with suppress(ValueError):  # a damaged file that is kept as it is
            document = _without_times(json.loads(data))
            if isinstance(document, dict):
                document.pop("checksum", None)  # covers the times too
            return document
    if path.name == "curve.csv":
        rows = csv.DictReader(data.decode(errors="replace").splitlines())
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]
    if path.name.endswith("xlogfile"):
        return [
            [f for f in line.split("\t") if f.partition("=")[0] not in MEASURED]
            for line in data.decode(errors="replace").split("\n")
        ]
    if path.name.endswith(".ttyrec3.bz2"):
        data = _frames(data)
    if len(data) < 10_000 and data.isascii():
        return data.decode()
    return hashlib.sha256(data).hexdigest()


def _frames(data: bytes) -> bytes:
    """Return the frames of a recording without their times; as it is when it is damaged."""
    try:
        text, place, kept = bz2.decompress(data), 0, []
        while place < len(text):
            _, _, length, channel = struct.unpack_from("<iiiB", text, place)
            kept.append(bytes([channel]) + text[place + 13 : place + 13 + length])
            place += 13 + length
    except (OSError, ValueError, struct.error):
        return data
    return b"".join(kept)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in MEASURED}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def store(path: Path) -> Snapshot:
    """Return the runs of an MLflow store by kind and name: state, params, metrics with their steps, tags.

    Two runs of one kind and name, and two values of a metric at one step, are an entry under `doubled`.
    """
    with closing(sqlite3.connect(path)) as database:
        runs = database.execute("SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        tags, params = _table(database, "tags"), _table(database, "params")
        metrics = database.execute("SELECT run_uuid, key, step, value FROM metrics WHERE is_nan = 0").fetchall()
    names = {run: f"{tags[run].get('playscale.kind')}: {name}" for run, name, _ in runs}
    found: Snapshot = {}
    for run, _, status in runs:
        history = sorted(
            (key, step, value)
            for other, key, step, value in metrics
            if other == run and key.removesuffix("_cooldown") not in MEASURED
        )
        found[names[run]] = {
            "status": status,
            "params": params[run],
            "tags": {key: value for key, value in tags[run].items() if not key.startswith("mlflow.")},
            "parent": names.get(tags[run].get("mlflow.parentRunId", "")),
            "metrics": history,
        }
    doubled = _repeated(names.values())
    doubled += _repeated(
        (names[run], key, step) for run, key, step, _ in metrics if run in names and "cooldown" not in key
    )
    return {"runs": found, "doubled": sorted(map(str, doubled))}


def _table(database: sqlite3.Connection, table: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {run: {} for (run,) in database.execute("SELECT run_uuid FROM runs")}
    for key, value, run in database.execute(f"SELECT key, value, run_uuid FROM {table}"):  # noqa: S608 - our own names
        found[run][key] = value
    return found


def _repeated(items: Iterable[Any]) -> list[Any]:
    return [item for item, times in Counter(items).items() if times > 1]


def differences(here: Any, there: Any, place: str = "") -> list[str]:
    """Return where two snapshots differ, one line each; of long lists and texts the first place only."""
    if type(here) is not type(there):
        return [f"{place}: {_short(here)}, not {_short(there)}"]
    if isinstance(here, dict):
        lines = [f"{place}/{key}: missing" for key in there.keys() - here.keys()]
        lines += [f"{place}/{key}: not in the undisturbed run" for key in here.keys() - there.keys()]
        for key in sorted(here.keys() & there.keys(), key=str):
            lines += differences(here[key], there[key], f"{place}/{key}")
        return lines
    if isinstance(here, list):
        if len(here) != len(there):
            return [f"{place}: {len(here)} entries, not {len(there)}"]
        each = (differences(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(here, there, strict=True)))
        return next((lines for lines in each if lines), [])
    return [] if here == there else [f"{place}: {_short(here)}, not {_short(there)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
