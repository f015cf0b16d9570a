"""Servers that a cluster would have. Without one a test is skipped, or fails with PLAYSCALE_REQUIRE_CLUSTER."""

import mlflow_server
import pytest
from resources import need


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
