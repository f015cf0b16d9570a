"""Tracking URIs, and errors of what is behind them in one line.

SQLAlchemy takes half a second of processor time to import: only what has to do with a database does.
"""

from __future__ import annotations

import os
import urllib.parse
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
OF_DATABRICKS = {"databricks", "databricks-uc", "uc"}
MAX_REASON = 240  # characters of an error in a message


def scheme_of(uri: str) -> str:
    """Return the scheme of a tracking URI, without a driver; "" for a path."""
    if uri in OF_DATABRICKS:
        return uri
    scheme, colon, _ = uri.partition(":")
    return scheme.partition("+")[0] if colon else ""


def check_uri(uri: str) -> None:
    """Raise ValueError for a tracking URI that is wrong as it stands: a folder, an unknown scheme, no host."""
    known = {"http", "https", *DATABASES, *OF_DATABRICKS, *entry_points(group="mlflow.tracking_store").names}
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in {"true", "1"}:
        known |= {"", "file"}
    if scheme_of(uri) not in known:
        raise ValueError(f"{shown(uri)}: not a tracking server or store; give http://HOST:PORT or sqlite:///FILE")
    if is_server(uri) and not _has_host(uri):
        raise ValueError(f"{shown(uri)}: not the address of a server, which is http://HOST:PORT")
    sqlite_file(uri)


def is_server(uri: str) -> bool:
    """Return whether a tracking URI is that of a server, which may be unreachable for a while."""
    return uri.startswith(("http://", "https://"))


def _has_host(uri: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(uri)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is no number
        return False


def sqlite_uri(path: Path) -> str:
    """Return the tracking URI of an SQLite file."""
    from sqlalchemy.engine import URL

    return str(URL.create("sqlite", database=str(path.resolve())))


def shown(uri: str) -> str:
    """Return a URI without its password."""
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:
        return uri
    if parts.password is None:
        return uri
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for any other store. ValueError for a store in memory."""
    if scheme_of(uri) != "sqlite":
        return None
    url = parse_database(uri)
    name = url.database
    if url.query.get("uri"):  # a file URI of SQLite, which may hold options of its own
        return None
    if not name or name == ":memory:":
        raise ValueError(f"{uri}: a store in memory is lost when the command ends; give sqlite:///FILE")
    return Path(name).absolute()


def parse_database(uri: str) -> URL:
    """Return the parts of a database's URI; ValueError when it is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return make_url(uri)
    except (SQLAlchemyError, ValueError) as error:
        raise ValueError(f"{uri}: not the address of a database ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """Return an error's message on one line; of a long one, the beginning and the end, which holds the reason.

    Of an error of a database only what its driver says, without the statement.
    """
    told = driver_error(error)
    text = " ".join(str(told).split()) or type(told).__name__
    return text if len(text) < MAX_REASON else f"{text[: MAX_REASON // 2]} ... {text[-MAX_REASON // 2 :]}"


def driver_error(error: BaseException) -> BaseException:
    """Return the error of a database's driver behind one of SQLAlchemy or MLflow, else the error itself."""
    from sqlalchemy.exc import DBAPIError

    cause = error if isinstance(error, DBAPIError) else error.__cause__
    return cause.orig if isinstance(cause, DBAPIError) and cause.orig is not None else error
