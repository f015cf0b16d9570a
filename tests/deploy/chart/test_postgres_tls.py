"""TLS between the server and Postgres, as rendered: the certificate's authority and the host's name are checked."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import mlflow_server
import pytest
import sqlalchemy
from rendered import GIVEN, argument, merged, pods, render
from test_chart_templates import EXTERNAL, mlflow, variable

TOOLS = mlflow_server.postgres_tools()
SECURE = merged(GIVEN, {"postgres": {"tlsSecret": "tls", "caSecret": "ca", "sslMode": "verify-full"}})


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates():
    """A folder with two authorities and the certificate of the first for `localhost`."""
    folder = Path(tempfile.mkdtemp(prefix="playscale-tls-"))
    elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl(
            folder, "req", "-x509", *elliptic, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}"
        )
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2")
    openssl(folder, "req", "-x509", *elliptic, "-keyout", "tls.key", "-out", "tls.crt", *subject, *signed)
    (folder / "tls.key").chmod(0o600)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder / "tls.key", pwd.getpwnam("postgres").pw_uid)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(certificates):
    """Postgres with the arguments of the development pod; its port."""
    (container,) = pods(render(SECURE))["playscale-postgres"]["spec"]["containers"]
    with mlflow_server.postgres(*[a.replace("/etc/postgres-tls", str(certificates)) for a in container["args"]]) as uri:
        yield sqlalchemy.make_url(uri).port


def connect(monkeypatch, port, root, host="localhost"):
    """Connect as the rendered server does, but for the address; TLS' version as Postgres has it."""
    container = mlflow(SECURE)
    assert variable(container, "PGSSLROOTCERT") == "/etc/postgres-ca/ca.crt"
    monkeypatch.setenv("PGSSLROOTCERT", str(root))
    url = sqlalchemy.make_url(argument(container, "backend-store-uri"))
    url = url.set(host=host, port=port, username="playscale", database="postgres")
    with sqlalchemy.create_engine(url).connect() as connection:
        asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return connection.execute(sqlalchemy.text(asked)).scalar()


@pytest.mark.skipif(TOOLS is None, reason="no PostgreSQL on this machine")
def test_the_named_authority_and_host_are_trusted_alone(monkeypatch, server, certificates):
    assert connect(monkeypatch, server, certificates / "ca.crt").startswith("TLSv1")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="certificate verify failed"):
        connect(monkeypatch, server, certificates / "other.crt")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="does not match host name"):
        connect(monkeypatch, server, certificates / "ca.crt", host="127.0.0.1")
    if Path(
        "/etc/ssl/certs/ca-certificates.crt"
    ).exists():  # without caSecret: public authorities, which did not sign it
        with pytest.raises(sqlalchemy.exc.OperationalError, match="certificate verify failed"):
            connect(monkeypatch, server, "/etc/ssl/certs/ca-certificates.crt")


def test_the_authority_comes_from_its_secret():
    pod = pods(render(merged(SECURE, {"postgres": {"caKey": "root.pem"}})))["playscale-mlflow"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "postgres-ca"]
    assert volume["secret"] == {"secretName": "ca", "items": [{"key": "root.pem", "path": "ca.crt"}]}
    for container in (*pod["initContainers"], *pod["containers"]):
        mount = {"name": "postgres-ca", "mountPath": "/etc/postgres-ca", "readOnly": True}
        assert mount in container["volumeMounts"]


def test_public_authorities_are_named_where_no_secret_is():
    public = mlflow(merged(EXTERNAL, {"postgres": {"sslMode": "verify-full"}}))
    assert variable(public, "PGSSLROOTCERT") == "/etc/ssl/certs/ca-certificates.crt"
    assert not [v for v in mlflow(EXTERNAL)["env"] if v["name"] == "PGSSLROOTCERT"]


def test_the_development_postgres_has_tls_only_with_a_certificate():
    plain = pods(render(GIVEN))["playscale-postgres"]["spec"]
    assert "args" not in plain["containers"][0]
    assert argument(mlflow(GIVEN), "backend-store-uri").endswith("sslmode=disable")
    secure = pods(render(SECURE))["playscale-postgres"]["spec"]
    assert {"name": "tls", "secret": {"secretName": "tls", "defaultMode": 0o640}} in secure["volumes"]
    assert argument(mlflow(SECURE), "backend-store-uri").endswith("sslmode=verify-full")
