"""MLflow's store in an SQLite file: made whole or not at all, and found again where its study was moved.

Imported for such a store alone: MLflow's own code for databases takes a second of processor time to import.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import urllib.parse
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from sqlalchemy.engine import Engine

from playscale.storage.files import atomic_file
from playscale.tracking.uris import parse_database, sqlite_file

SECONDS = 20.0  # for which a locked file is waited for, as MLflow does

logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR + 1)  # it logs tracebacks of what it raises


@event.listens_for(Engine, "connect")
def _write_ahead(connection: Any, _: object) -> None:
    """Switch SQLite to a write-ahead log: a write does not wait for the disk, and a crash leaves a consistent store.

    With MLflow's settings every write waits for several syncs, which takes three times as long as everything else.
    While another process writes, the settings stay as they are.
    """
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")


def make_store(file: Path) -> None:
    """Make an SQLite store for MLflow, unless there is one; one that was left unfinished is made anew.

    MLflow would make it in place in some seconds: a process that ends meanwhile leaves one that cannot be completed,
    and two processes at once harm each other. ValueError: the file is something else. OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not is_unfinished(file):
        return
    with FileLock(file.with_name(f".{file.name}.lock")):
        if file.exists() and not is_unfinished(file):
            return
        content = _new_store()
        with atomic_file(file) as aside:
            aside.write(content)
            for suffix in ("-journal", "-wal", "-shm"):  # of the unfinished file: SQLite would apply them to this one
                file.with_name(file.name + suffix).unlink(missing_ok=True)


@functools.cache
def _new_store() -> bytes:
    """Return the content of an SQLite file with MLflow's tables, made in memory."""
    store = SqlAlchemyStore("sqlite://", "mlruns")
    with closing(store.engine.raw_connection()) as connection:
        content: bytes = connection.driver_connection.serialize()  # type: ignore[union-attr]
    store.engine.dispose()
    return content


def is_unfinished(file: Path) -> bool:
    """Return whether a file is a store that was never finished, and so holds nothing.

    The last thing that MLflow writes is the default experiment. ValueError: the file is no SQLite database, or cannot
    be read.
    """
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=SECONDS)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "experiments" in tables and database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone():
                return False
    except sqlite3.Error as error:
        raise ValueError(f"{file}: cannot be read as an SQLite database ({error})") from error
    return all(name in Base.metadata.tables or name.startswith(("alembic_", "_alembic_")) for name in tables)


def move_artifacts(uri: str, experiment: str, old: str, new: str) -> bool:
    """Point an experiment and its runs to where its artifacts are now, if the study was moved or copied.

    Args:
        uri: The store. Only in an SQLite file are locations changed.
        experiment: Id of the experiment.
        old: The location that the store has, a URI.
        new: The location in the study's directory, a file URI.

    Returns:
        Whether the location was changed: not if the store lies outside the study and the old location is still there.
    """
    file, folder = sqlite_file(uri), _local_folder(new)
    before = _local_folder(old)
    if old == new or file is None or folder is None or before is None:
        return False
    home = folder.parent
    if before.is_relative_to(home) or (before.exists() and not file.resolve().is_relative_to(home)):
        return False
    engine = sqlalchemy.create_engine(parse_database(uri))
    moved = SqlRun.artifact_uri.startswith(f"{old}/", autoescape=True)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.update(SqlExperiment)
            .where(SqlExperiment.experiment_id == int(experiment))
            .values(artifact_location=new)
        )
        connection.execute(
            sqlalchemy.update(SqlRun)
            .where(SqlRun.experiment_id == int(experiment), moved)
            .values(artifact_uri=sqlalchemy.literal(new) + sqlalchemy.func.substr(SqlRun.artifact_uri, len(old) + 1))
        )
    engine.dispose()
    return True


def _local_folder(uri: str) -> Path | None:
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(urllib.parse.unquote(parts.path) if parts.scheme else uri)
