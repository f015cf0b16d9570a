"""Tracking URIs, and errors of what is behind them in one line."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

MAX_REASON = 240  # characters of an error in a message


def is_server(uri: str) -> bool:
    """Return whether a tracking URI is that of a server, which may be unreachable for a while."""
    return uri.startswith(("http://", "https://"))


def sqlite_uri(path: Path) -> str:
    """Return the tracking URI of an SQLite file."""
    return str(URL.create("sqlite", database=str(path.resolve())))


def shown(uri: str) -> str:
    """Return a URI without its password."""
    parts = urllib.parse.urlsplit(uri)
    if parts.password is None:
        return uri
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for any other store. ValueError for a store in memory."""
    if not uri.startswith("sqlite"):
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
    try:
        return make_url(uri)
    except (SQLAlchemyError, ValueError) as error:
        raise ValueError(f"{uri}: not the address of a database ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """Return an error's message on one line; of a long one, the beginning and the end, which holds the reason.

    Of an error of a database only what its driver says, without the statement.
    """
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    told = cause.orig if isinstance(cause, DBAPIError) and cause.orig is not None else error
    text = " ".join(str(told).split()) or type(told).__name__
    return text if len(text) < MAX_REASON else f"{text[: MAX_REASON // 2]} ... {text[-MAX_REASON // 2 :]}"
