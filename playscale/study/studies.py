"""The studies below a directory, in S3 or in a tracking store: read, never written, and not locked."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from playscale.storage.files import local_path
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3
from playscale.storage.sync import scratch_folder
from playscale.study.outcome import best_of
from playscale.study.status import read_status
from playscale.study.study_files import SIGNS, study_files

MLFLOW = "mlflow:"
TRIES = 20  # at a copy of an SQLite file that is not written to meanwhile
PAUSE = 0.1


@dataclass(frozen=True)
class ListedStudy:
    """A study in a list.

    Attributes:
        name: Its name.
        place: Its directory, or s3://BUCKET/PREFIX; "" where a tracking store does not say.
        state: running, finished, failed, stopped, or damaged with the reason; "finished, forecast running"; of a
            tracking store as `TrackedStudy` has it.
        points: Number of points that are evaluated.
        planned: Number of points that are planned; None where that is not known.
        changed: Unix time of the last change.
        best: The best dev loss and return.
    """

    name: str
    place: str
    state: str
    points: int
    planned: int | None
    changed: float | None
    best: str


def studies_below(where: str) -> list[ListedStudy]:
    """Return the studies in and below a directory or prefix, by place. ValueError: there is no such directory."""
    return [_listed(place) for place in (_places_in_s3(where) if is_s3(where) else _places(local_path(where)))]


def _places(top: Path) -> Iterator[str]:
    """Yield the directories of studies in and below one; a study's own directories are not searched."""
    if not top.is_dir():
        raise ValueError(f"{top}: {'not a directory' if top.exists() else 'no such directory'}")
    for root, folders, _ in os.walk(top):
        if any((Path(root) / name).is_file() for name in SIGNS):
            folders.clear()
            yield root
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _places_in_s3(where: str) -> list[str]:
    storage = S3Storage(where)
    found = [name.removesuffix(sign) for name in storage.walk() for sign in SIGNS if f"/{name}".endswith(f"/{sign}")]
    own = [prefix for prefix in found if not any(prefix != other and prefix.startswith(other) for other in found)]
    return sorted({storage.where(prefix).rstrip("/") for prefix in own})  # without the agents of forecasts


def _listed(place: str) -> ListedStudy:
    try:
        with study_files(place) as files:
            files.look()
            status = read_status(files)
    except ValueError as error:
        return ListedStudy(place.rstrip("/").rpartition("/")[2], place, f"damaged: {error}", 0, None, None, "")
    forecasts = status.forecast is not None and status.forecast.state == "running"
    state = f"{status.state}{', forecast running' if forecasts else ''}"
    return ListedStudy(status.name, place, state, status.points, status.planned, status.changed, status.best)


def tracking_place(where: str, tracking_uri: str | None) -> tuple[str, str] | None:
    """Return the URI of a tracking store and the experiment meant, "" for all; None where `where` is no such store.

    `where`: mlflow:EXPERIMENT, mlflow: for all, or the URI of a store.
    """
    if where.startswith(MLFLOW):
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        return uri, where.removeprefix(MLFLOW)
    if "://" not in where or is_s3(where) or where.startswith("file://"):
        return None
    from playscale.tracking.uris import check_uri

    check_uri(where)
    return where, ""


def studies_tracked(uri: str, name: str = "") -> list[ListedStudy]:
    """Return the studies of a tracking store, or one of its experiments; of an SQLite file, a copy is read.

    ValueError: there is no such store or experiment. RuntimeError: it does not answer.
    """
    from playscale.tracking.uris import check_uri, sqlite_file, sqlite_uri

    check_uri(uri)
    file = sqlite_file(uri)
    if file is None:
        return _tracked(uri, name)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; give the URI of a tracking store, sqlite:///FILE or http://HOST:PORT")
    with _copied(file) as copy:
        return _tracked(sqlite_uri(copy), name)


def _tracked(uri: str, name: str) -> list[ListedStudy]:
    from playscale.tracking.study_list import tracked_studies

    return [
        ListedStudy(one.name, one.out, one.state, len(one.points), None, one.changed, best_of(one.points))
        for one in tracked_studies(uri, name)
    ]


@contextmanager
def _copied(file: Path) -> Iterator[Path]:
    """Yield a copy of an SQLite file, with its log: whoever opens one with a log makes files beside it."""
    log = file.with_name(f"{file.name}-wal")
    with scratch_folder() as scratch:
        for _ in range(TRIES):
            before = file.stat()
            shutil.copyfile(file, scratch / file.name)
            (scratch / log.name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(log, scratch / log.name)
            after = file.stat()
            if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                break  # else the log was moved into the file meanwhile
            time.sleep(PAUSE)
        yield scratch / file.name
