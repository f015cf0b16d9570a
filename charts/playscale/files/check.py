"""What `helm test` runs: a run with an artifact goes into MLflow and comes out again; a stranger's Host is refused.

For a third of CHECK_SECONDS a server out of reach is asked again: network policies take seconds to let a pod through
that has just started. The check ends within CHECK_SECONDS, in one line that names the step and the likely cause:
MLflow's client by itself tries for many minutes what no network lets it reach.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

SERVER = os.environ["MLFLOW_TRACKING_URI"]
SECONDS = int(os.environ["CHECK_SECONDS"])
PRESIGNED, OWN, LOGIN = (os.environ[name] == "true" for name in ("PRESIGNED_URLS", "OWN_SERVER", "LOGIN"))
LIST = "/api/2.0/mlflow/experiments/search?max_results=1"
STORE = "see the server's log: its S3 has to answer, have the bucket and take the keys"


def fail(step, reason, cause):
    """End at once: threads of MLflow's client may wait for minutes yet."""
    sys.stderr.write(f"{step}: {reason}; {cause}\n")
    sys.stderr.flush()
    os._exit(1)


@contextlib.contextmanager
def step(name, cause):
    """Whatever goes wrong inside is reported with the step's likely cause, lateness too."""
    signal.signal(signal.SIGALRM, lambda *_: fail(name, f"no end after {SECONDS} s in all", cause))
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the one line says what it was
        fail(name, " ".join(f"{type(error).__name__}: {error}".split())[:500], cause)


def answer(path, **headers):
    """The status and the body of a GET."""
    try:
        request = urllib.request.Request(SERVER + path, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request) as found:  # noqa: S310 - the alarm limits it
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, b"{}"


def reached(path, seconds):
    """The status and the body of a GET, asked again for some seconds as long as the server is out of reach."""
    until = time.monotonic() + seconds
    while True:
        try:
            return answer(path)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


signal.alarm(SECONDS)
with step(f"asking {SERVER}", "its pod has to be ready, and the policies to let this pod reach it"):
    status, body = reached("/api/3.0/mlflow/server-info", SECONDS / 3)
    announced = status == 200 and json.loads(body).get("multipart_downloads_enabled", False)
if OWN and announced and not PRESIGNED:
    fail(
        "asking for the way of artifacts",
        "the server sends its clients to its S3 themselves, which they may not reach",
        "it has to run with --artifacts-destination=s3-proxied://..., as mlflow.presignedUrls: false says:"
        " see mlflow.extraArgs and the version of the image",
    )

if OWN:
    with step("asking as a stranger", "see mlflow.allowedHosts"):
        status, _ = answer(LIST, Host="rebound.example")
        if status != 403:
            raise ValueError(f"a request with a stranger's Host header got {status} in place of 403")

if LOGIN:
    with step("asking without a login", "see mlflow.auth, mlflow.extraArgs and the version of the image"):
        status, _ = answer(LIST)
        if status != 401:
            raise ValueError(f"a request without a login got {status} in place of 401")

login = "the login has to be right: see mlflow.existingLogin; " if "MLFLOW_TRACKING_USERNAME" in os.environ else ""
with step("logging a run", login + "see the server's log: its database has to answer"):
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    # an account may not write to an experiment of another, or of the time without accounts
    name = "-".join(filter(None, ("helm-test", os.environ.get("MLFLOW_TRACKING_USERNAME"))))
    experiment = client.get_experiment_by_name(name)
    run = client.create_run(experiment.experiment_id if experiment else client.create_experiment(name))
    client.log_metric(run.info.run_id, "dev_loss", 1.5)
    client.set_terminated(run.info.run_id)
    found = client.get_run(run.info.run_id).data.metrics
    if found != {"dev_loss": 1.5}:
        raise ValueError(f"the run came back with {found}")

with step("storing an artifact", STORE):
    client.log_text(run.info.run_id, "kept", "folder/file.txt")

reach = "the server sends its clients to S3 (mlflow.presignedUrls): this pod has to reach it, see networkPolicy.s3Cidrs"
with step("fetching the artifact", reach if announced else STORE), tempfile.TemporaryDirectory() as folder:
    text = Path(client.download_artifacts(run.info.run_id, "folder/file.txt", folder)).read_text(encoding="utf-8")
    if text != "kept":
        raise ValueError(f"it came back as {text!r}")

with step("deleting the run", "see the server's log"):
    client.delete_run(run.info.run_id)
signal.alarm(0)
print(f"logged run {run.info.run_id} and read it back, artifact included")
