"""MLflow's accounts as the chart sets them up, on a real Postgres: made once, asked for, changed."""

import os
import subprocess
import sys

import mlflow_server
import pytest
import requests
import sqlalchemy
from rendered import GIVEN, find, merged, render

from playscale.tracking.client import TrackingClient

ADMIN, STUDIES = ("admin", "it's a p@ss/word %41"), ("studies", "another-password")
LIST = "/api/2.0/mlflow/experiments/search?max_results=10"
AUTH = merged(GIVEN, {"mlflow": {"auth": {"enabled": True, "existingSecret": "admin"}, "existingLogin": "login"}})

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def database():
    with mlflow_server.postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def environment(database, tmp_path_factory):
    """Variables of the server's pod, with the rendered settings but for the database's address."""
    text = find(render(AUTH), "ConfigMap", "playscale-mlflow-auth")["data"]["auth.ini"]
    rendered = "postgresql+psycopg2://mlflow@playscale-postgres:5432/mlflow?sslmode=disable&"
    assert rendered in text
    settings = tmp_path_factory.mktemp("auth") / "auth.ini"
    settings.write_text(text.replace(rendered, f"{database}?"), encoding="utf-8")
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 48,
    }


def start_accounts(environment, password=STUDIES[1]):
    """The init container `accounts`, started."""
    command = [sys.executable, "-P", "-m", "playscale.tracking.mlflow_login", "mlflow_auth"]
    login = {"MLFLOW_TRACKING_USERNAME": STUDIES[0], "MLFLOW_TRACKING_PASSWORD": password}
    return subprocess.Popen(
        command, env={**os.environ, **environment, **login}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def said(environment):
    """What two pods say that start together on an empty database."""
    pods = [start_accounts(environment) for _ in range(2)]
    said = [pod.communicate(timeout=600) for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], said
    return sorted(out.strip() for out, _ in said)


@pytest.fixture(scope="module")
def server(database, environment, said, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    options = ("--app-name=basic-auth", f"--expose-prometheus={folder}/metrics")
    server = mlflow_server.MlflowServer(
        database, folder / "artifacts", folder / "log", *options, environment=environment
    )
    server.start()
    yield server
    server.kill()


def status(server, path, login=None, **headers):
    return requests.get(server.url + path, auth=login, headers=headers, timeout=60).status_code


def test_pods_that_start_together_make_the_accounts_once(said, database):
    assert said == [f"accounts of MLflow: {which} made or changed" for which in ("admin, studies", "none")]
    with sqlalchemy.create_engine(database).connect() as connection:
        query = sqlalchemy.text("SELECT username, is_admin FROM mlflow_auth.users ORDER BY username")
        assert [tuple(row) for row in connection.execute(query)] == [("admin", True), ("studies", False)]
        assert not sqlalchemy.inspect(connection).has_table("users", schema="public")


def test_the_server_asks_for_a_login_but_not_prometheus_and_the_kubelet(server):
    assert status(server, LIST) == 401
    assert status(server, "/") == 401
    assert status(server, LIST, ADMIN) == status(server, LIST, STUDIES) == 200
    assert status(server, LIST, (STUDIES[0], ADMIN[1])) == 401
    assert status(server, "/health") == 200
    metrics = requests.get(f"{server.url}/metrics", timeout=60)
    assert "mlflow_http_request_duration_seconds" in metrics.text
    assert status(server, LIST, Host="rebound.example") == 403  # before the login


def log_in(monkeypatch, user, password):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def test_a_study_logs_with_its_password_alone(server, monkeypatch, tmp_path):
    log_in(monkeypatch, *STUDIES)
    client = TrackingClient("study", server.url)
    client.prepare()
    (tmp_path / "report.html").write_text("<h1>kept</h1>", encoding="utf-8")
    fit = client.connect().start("fit", "fit")
    fit.log_artifacts(tmp_path / "report.html", "report")
    fit.finish()
    assert len(client.query(lambda there: list(there.runs("fit")))) == 1
    log_in(monkeypatch, STUDIES[0], "wrong")
    for ask in (client.prepare, lambda: client.query(lambda there: there.name)):
        with pytest.raises(ValueError, match="the login is refused: set MLFLOW_TRACKING_USERNAME and") as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.browser
def test_the_page_opens_behind_its_login(server, browser, tmp_path):
    credentials = {"username": ADMIN[0], "password": ADMIN[1]}
    context = browser.new_context(http_credentials=credentials, viewport={"width": 1400, "height": 800})
    page = context.new_page()
    assert page.goto(f"{server.url}/#/experiments", timeout=120_000).status == 200
    page.get_by_text("study", exact=True).first.wait_for(timeout=120_000)
    page.screenshot(path=os.environ.get("PLAYSCALE_SCREENSHOT", str(tmp_path / "login.png")))
    context.close()


def test_a_new_password_in_the_secret_counts(server, environment):
    renewed = start_accounts(environment, "a-renewed-password")
    assert renewed.communicate(timeout=600)[0].strip() == "accounts of MLflow: studies made or changed"
    assert status(server, LIST, (STUDIES[0], "a-renewed-password")) == 200
    assert status(server, LIST, STUDIES) == 401


def test_a_password_that_is_too_short_is_one_line(server, environment):
    short = start_accounts(environment, "short")
    _, error = short.communicate(timeout=600)
    assert short.returncode == 1
    assert error.strip().splitlines()[-1].startswith("accounts of MLflow: Password must be")
