"""What `helm test` runs: a run with an artifact goes into MLflow and comes out again; a stranger's Host is refused."""

import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from mlflow.tracking import MlflowClient

client = MlflowClient()
experiment = client.get_experiment_by_name("helm-test")
run = client.create_run(experiment.experiment_id if experiment else client.create_experiment("helm-test"))
client.log_metric(run.info.run_id, "dev_loss", 1.5)
client.log_text(run.info.run_id, "kept", "folder/file.txt")
client.set_terminated(run.info.run_id)

found = client.get_run(run.info.run_id)
if found.data.metrics != {"dev_loss": 1.5}:
    raise SystemExit(f"the run came back with {found.data.metrics}")
with tempfile.TemporaryDirectory() as folder:
    text = Path(client.download_artifacts(run.info.run_id, "folder/file.txt", folder)).read_text(encoding="utf-8")
if text != "kept":
    raise SystemExit(f"the artifact came back as {text!r}: see the server's log and the keys of its S3")
client.delete_run(run.info.run_id)

address = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/get?experiment_id=0"
try:
    urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "rebound.example"}), timeout=30)  # noqa: S310
except urllib.error.HTTPError as error:
    if error.code != 403:
        raise
else:
    raise SystemExit("a request with a stranger's Host header was answered: check mlflow.allowedHosts")
print(f"logged run {run.info.run_id} and read it back, artifact included")
