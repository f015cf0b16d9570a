"""The login of an MLflow server on Kubernetes: who may ask without one, and the accounts in its database.

The chart's server runs MLflow's `basic-auth`, with `authorize` as its `authorization_function`. Before it starts,
`python -m playscale.tracking.mlflow_login SCHEMA` makes the accounts, their tables in a schema of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playscale.tracking.uris import one_line

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

METRICS = "/metrics"
ACCOUNTS = (  # variables with a name and a password, and whether the account is an administrator's
    ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD", True),
    ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", False),
)
LOCK = 7_234_065_111  # of Postgres, any number that nobody else uses


def authorize() -> Any:
    """Return who asks, or the answer for who may not, as MLflow's basic-auth does; Prometheus needs no login."""
    from flask import current_app, request
    from mlflow.server.auth import authenticate_request_basic_auth

    if request.path == METRICS and request.endpoint and request.method == "GET":
        answer: Any = current_app.view_functions[request.endpoint]()
        return current_app.make_response(answer)
    return authenticate_request_basic_auth()


def make_accounts(schema: str) -> list[str]:
    """Make the accounts' tables and the accounts of the environment; return the names of those made or changed.

    A password in the environment is the account's from now on: a new one in its Secret counts after a restart. Servers
    that start side by side take turns. The database is that of MLflow's own settings (MLFLOW_AUTH_CONFIG_PATH).

    Raises:
        ValueError: A name without a password, or no administrator.
        MlflowException, SQLAlchemyError: A password is too short; the database does not answer.
    """
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool
    from sqlalchemy.schema import CreateSchema

    accounts = [_account(*names) for names in ACCOUNTS if os.environ.get(names[0])]
    if not any(is_admin for _, _, is_admin in accounts):
        raise ValueError(f"{ACCOUNTS[0][0]} is not set: there would be no administrator")
    uri = read_auth_config().database_uri
    changed = []
    with _in_turn(create_engine(uri, poolclass=NullPool)) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(CreateSchema(schema, if_not_exists=True))
            connection.commit()
        store = SqlAlchemyStore()
        store.init_db(uri)
        for name, password, is_admin in accounts:
            if not store.has_user(name):
                store.create_user(name, password, is_admin=is_admin)
            elif not store.authenticate_user(name, password):
                store.update_user(name, password=password)
            else:
                continue
            changed.append(name)
    return changed


def _account(user: str, password: str, is_admin: bool) -> tuple[str, str, bool]:
    if not os.environ.get(password):
        raise ValueError(f"{password} is not set: the account {os.environ[user]} needs a password")
    return os.environ[user], os.environ[password], is_admin


@contextmanager
def _in_turn(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that holds Postgres' lock until the end; other databases have no such lock."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_lock(%s)", (LOCK,))  # until the session's end, over commits
            connection.commit()
        yield connection


def main() -> None:
    """Make the accounts; a failure is one line, and exit code 1."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        changed = make_accounts(sys.argv[1])
    except (MlflowException, SQLAlchemyError, ValueError) as error:
        sys.exit(f"accounts of MLflow: {one_line(error)}")
    print(f"accounts of MLflow: {', '.join(changed) or 'none'} made or changed")


if __name__ == "__main__":
    main()
