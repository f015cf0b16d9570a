"""Servers that a cluster would have. Without one a test is skipped, or fails with PLAYSCALE_REQUIRE_CLUSTER."""

import os

import mlflow_server
import pytest


def need(found, what):
    """What a test needs, or why it is not run."""
    if not found:
        if os.environ.get("PLAYSCALE_REQUIRE_CLUSTER"):
            pytest.fail(f"PLAYSCALE_REQUIRE_CLUSTER is set, but there is no {what}")
        pytest.skip(f"no {what} on this machine")
    return found


@pytest.fixture(scope="session")
def database():
    """A PostgreSQL server."""
    need(mlflow_server.postgres_tools(), "PostgreSQL (apt-get install postgresql)")
    with mlflow_server.postgres() as uri:
        yield uri


@pytest.fixture(scope="session")
def server(database, tmp_path_factory):
    """An MLflow server on it, which tests may kill."""
    folder = tmp_path_factory.mktemp("mlflow")
    served = mlflow_server.MlflowServer(database, folder / "artifacts", folder / "log")
    served.start()
    yield served
    served.kill()
