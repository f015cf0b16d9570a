"""The stores behind tracking URIs: which can be used, and their errors."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import requests
import sqlalchemy
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from playscale.tracking.uris import (
    DATABASES,
    check_uri,
    driver_error,
    one_line,
    parse_database,
    scheme_of,
    shown,
    sqlite_file,
)

LOGIN_REFUSED = (
    "the login is refused: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
)


def usable_uri(uri: str, *, create: bool) -> str | None:
    """Return the URI by which MLflow reaches a store. An SQLite file is made first; None without `create`.

    ValueError: the URI is wrong, or a driver is missing. RuntimeError: a database does not answer. MLflow itself would
    retry both for nearly two minutes.
    """
    check_uri(uri)
    if (file := sqlite_file(uri)) is not None:
        from playscale.tracking.sqlite_store import is_unfinished, make_store

        if create:
            make_store(file)
        elif not file.is_file() or is_unfinished(file):
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


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Raise errors of MLflow and its database as ValueError (an invalid request) or RuntimeError (a failure).

    OSError: the disk of an SQLite file is full.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        if getattr(driver_error(error), "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(sqlite_file(uri))) from error
        if isinstance(error, MlflowException) and error.get_http_status_code() == requests.codes.unauthorized:
            raise ValueError(f"{shown(uri)}: {LOGIN_REFUSED}") from error
        text = f"{shown(uri)}: {one_line(error)}"
        if isinstance(error, MlflowException) and error.get_http_status_code() == requests.codes.bad_request:
            raise ValueError(text) from error
        raise RuntimeError(text) from error
