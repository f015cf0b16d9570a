"""What an operator adds to a release: a login, TLS to Postgres with an authority of its own, backups and gc."""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

from mlflow.tracking import MlflowClient

from . import release
from .cluster import Cluster, expect, run, until

HOST = f"{release.RELEASE}-postgres"
OPENSSL = (
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
)
LIST = "/api/2.0/mlflow/experiments/search?max_results=1"


def upgrade(cluster: Cluster, **postgres: Any) -> None:
    """Upgrade to two servers with accounts; `postgres`: further values of it. From then on this process logs in."""
    own = release.values(cluster)
    servers = own["mlflow"] | {"replicas": 2, "auth": {"enabled": True}}
    if "backup" in postgres:
        servers["gc"] = {"enabled": True, "olderThan": "0d", "resources": release.SMALL}
    pipeline = own["pipeline"] | {"upload": {"enabled": False}}  # it was uploaded by the first installation
    release.install(cluster, mlflow=servers, postgres=own["postgres"] | postgres, pipeline=pipeline)
    secret = json.loads(cluster.kubectl("get", "secret", release.names(cluster)["login"], "-o", "json"))
    os.environ |= {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def login(cluster: Cluster) -> str:
    """Two servers with accounts: a study is logged with a password, and a wrong one refused in one line."""
    upgrade(cluster)
    release.check(cluster)
    with release.mlflow(cluster) as address:
        statuses = {path: _status(address + path) for path in (LIST, "/", "/metrics", "/health")}
        said = _with_a_wrong_password(cluster, address)
    expect(statuses == {LIST: 401, "/": 401, "/metrics": 200, "/health": 200}, f"without a login: {statuses}")
    expect("the login is refused" in said and len(said.splitlines()) == 1, f"with a wrong password: {said}")
    release.put_data(cluster, "with-a-login")
    return f"{release.data_is_there(cluster, 'with-a-login')}, and with a wrong password: {said}"


def tls(cluster: Cluster) -> str:
    """The development Postgres with a certificate, which the servers check, and its name."""
    _make_certificates(cluster)
    upgrade(cluster, sslMode="verify-full", tlsSecret="tls", caSecret="ca")
    release.check(cluster)
    asked = (
        "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND a.usename = 'mlflow'"
    )
    psql = ("psql", "-h", "/var/run/postgresql", "-U", "mlflow", "-tAc", asked, "mlflow")
    seen = int(cluster.kubectl("exec", f"{HOST}-0", "--", *psql))
    expect(seen > 0, "no connection of the servers has TLS")
    return f"{seen} connections with TLS"


def jobs(cluster: Cluster) -> str:
    """`mlflow gc` and the backup run; the database's volume is deleted, and restored from the backup."""
    _make_certificates(cluster)
    secured = {"sslMode": "verify-full", "tlsSecret": "tls", "caSecret": "ca", "backup": {"enabled": True}}
    upgrade(cluster, **secured)
    release.put_data(cluster, "backed-up")
    with release.mlflow(cluster) as address:
        client = MlflowClient(address)
        deleted = client.create_run(client.create_experiment(f"gc-{cluster.folder.name}")).info.run_id
        client.log_text(deleted, "gone", "file.txt")
        client.delete_run(deleted)
    said = run_job(cluster, "gc")
    expect(deleted in said, f"gc did not name the deleted run: {said[-500:]}")
    stored = run_job(cluster, "backup").splitlines()[-1]
    cluster.kubectl("scale", f"statefulset/{HOST}", "--replicas=0")
    cluster.kubectl("wait", "--for=delete", f"pod/{HOST}-0", "--timeout=120s")
    cluster.kubectl("delete", "pvc", HOST, "--timeout=120s")
    upgrade(cluster, **secured)  # makes the claim and the pod again: servers on an empty database
    cluster.kubectl("scale", f"deployment/{release.RELEASE}-mlflow", "--replicas=0")
    run_job(cluster, "restore")
    cluster.kubectl("scale", f"deployment/{release.RELEASE}-mlflow", "--replicas=2")
    cluster.kubectl("rollout", "status", f"deployment/{release.RELEASE}-mlflow", "--timeout=300s", seconds=330)
    return f"{release.data_is_there(cluster, 'backed-up')}; {stored}"


def run_job(cluster: Cluster, name: str) -> str:
    """Run a CronJob of the release once, and return what its last container said."""
    job = f"{name}-now"
    cluster.kubectl("delete", "job", job, "--ignore-not-found")
    cluster.kubectl("create", "job", job, f"--from=cronjob/{release.RELEASE}-{name}")

    def ended() -> str:
        state = json.loads(cluster.kubectl("get", "job", job, "-o", "json"))["status"]
        return next((one["type"] for one in state.get("conditions", []) if one["type"] in {"Complete", "Failed"}), "")

    state = until(400, f"the end of the job {job}", ended)
    said = cluster.kubectl("logs", f"job/{job}", "--all-containers", "--ignore-errors", "--tail=50", check=False)
    expect(state == "Complete", f"the job {job} failed: {said[-1500:]}")
    return said.strip()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - of port-forward
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _with_a_wrong_password(cluster: Cluster, address: str) -> str:
    wrong = {**os.environ, "MLFLOW_TRACKING_PASSWORD": "not-this-password"}
    command = (sys.executable, "-m", "playscale.cli", "fit", "mlflow:example", "--tracking-uri", address)
    return run(*command, "--out", str(cluster.folder / "laws"), check=False, environment=wrong, seconds=120).strip()


def _make_certificates(cluster: Cluster) -> None:
    """Make the Secrets `ca` and `tls`, once."""
    if "ca" in cluster.kubectl("get", "secret", "-o", "jsonpath={.items[*].metadata.name}").split():
        return
    ca, key, tls, own = (str(cluster.folder / name) for name in ("ca.crt", "ca.key", "tls.crt", "tls.key"))
    run(*OPENSSL, "-keyout", key, "-out", ca, "-subj", "/CN=acceptance")
    named = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
    run(*OPENSSL, "-keyout", own, "-out", tls, *named, "-CA", ca, "-CAkey", key)
    cluster.kubectl("create", "secret", "generic", "ca", f"--from-file=ca.crt={ca}")
    cluster.kubectl("create", "secret", "tls", "tls", f"--cert={tls}", f"--key={own}")
