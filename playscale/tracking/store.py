"""The stores behind tracking URIs: which can be used, and SQLite files, which are made here."""

from __future__ import annotations

import functools
import logging
import sqlite3
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from playscale.storage.files import atomic_file
from playscale.tracking.uris import DATABASES, check_uri, one_line, parse_database, scheme_of, shown, sqlite_file

SQLITE_SECONDS = 20.0  # for which a locked SQLite file is waited for, as MLflow does

logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR + 1)  # it logs tracebacks of what it raises


def usable_uri(uri: str, *, create: bool) -> str | None:
    """Return the URI by which MLflow reaches a store. An SQLite file is made first; None without `create`.

    ValueError: the URI is wrong, or a driver is missing. RuntimeError: a database does not answer. MLflow itself would
    retry both for nearly two minutes.
    """
    check_uri(uri)
    if (file := sqlite_file(uri)) is not None:
        if create:
            make_sqlite_store(file)
        elif not file.is_file() or _is_unfinished(file):
            return None
        # MLflow makes folders of the text after sqlite:///, which is quoted; it leaves a URI with a driver alone
        return str(parse_database(uri).set(drivername="sqlite+pysqlite", database=str(file)))
    if scheme_of(uri) in DATABASES:
        _check_database(uri)
    return uri


def _check_database(uri: str) -> None:
    """Connect to a database once. ValueError: a wrong address or a missing driver; RuntimeError: no connection."""
    try:
        engine = sqlalchemy.create_engine(parse_database(uri))
        with closing(engine.connect()):
            pass
        engine.dispose()
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{shown(uri)}: this database needs the Python package {error.name}, which is not installed"
        ) from error
    except DBAPIError as error:
        raise RuntimeError(f"{shown(uri)}: the database does not answer ({one_line(error)})") from error
    except SQLAlchemyError as error:
        raise ValueError(f"{shown(uri)}: not the address of a database ({one_line(error)})") from error


def make_sqlite_store(file: Path) -> None:
    """Make an SQLite store for MLflow, unless there is one; one that was left unfinished is made anew.

    MLflow would make it in place in some seconds: a process that ends meanwhile leaves one that cannot be completed,
    and two processes at once harm each other. ValueError: the file is something else. OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not _is_unfinished(file):
        return
    with FileLock(file.with_name(f".{file.name}.lock")):
        if file.exists() and not _is_unfinished(file):
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


def _is_unfinished(file: Path) -> bool:
    """Return whether a file is a store that was never finished, and so holds nothing.

    The last thing that MLflow writes is the default experiment. ValueError: the file is no SQLite database, or cannot
    be read.
    """
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=SQLITE_SECONDS)) as database:
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


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Raise errors of MLflow and its database as ValueError (an invalid request) or RuntimeError (a failure)."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        text = f"{shown(uri)}: {one_line(error)}"
        if isinstance(error, MlflowException) and error.get_http_status_code() == requests.codes.bad_request:
            raise ValueError(text) from error
        raise RuntimeError(text) from error
