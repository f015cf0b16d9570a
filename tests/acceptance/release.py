"""The chart: installed, upgraded, removed and installed again, with its data."""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml

from playscale.points import read_points
from playscale.tracking.client import TrackingClient

from .cluster import ROOT, Cluster, expect, run

RELEASE = "playscale"
FIRST_CHART = Path(__file__).with_name("playscale-0.1.0.tgz")  # as `helm package` made it of the last commit of 0.1
EXAMPLE = ROOT / "studies/example/points.csv"
LOGIN = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1536Mi"}}


def names(cluster: Cluster) -> dict[str, str]:
    """Return the names of what the release puts into Kubeflow's namespace: another release may be there too."""
    return {
        "settings": f"{cluster.namespace}-settings",
        "credentials": f"{cluster.namespace}-s3",
        "account": f"{cluster.namespace}-pipeline",
        "login": f"{cluster.namespace}-login",
    }


def values(cluster: Cluster) -> dict[str, Any]:
    """Return values for a small machine. No password is given: the chart makes them."""
    repository, _, tag = cluster.image.rpartition(":")
    own = names(cluster)
    return {
        "image": {"repository": repository, "tag": tag},
        "mlflow": {"resources": SMALL, "workers": 1},
        "postgres": {"storage": "1Gi"},
        "s3": {"storage": "5Gi"},
        "pipeline": {
            "namespace": cluster.kubeflow,
            "settingsName": own["settings"],
            "secretName": own["credentials"],
            "loginName": own["login"],
            "serviceAccount": {"name": own["account"]},
            "upload": {"enabled": True, "name": cluster.namespace, "resources": SMALL},
        },
    }


def helm(cluster: Cluster, *arguments: str, **options: Any) -> str:
    """Run helm in the release's namespace."""
    return run("helm", "-n", cluster.namespace, *arguments, **options)


def make_namespace(cluster: Cluster) -> None:
    """Make the release's namespace, with the strictest pod security."""
    level = "pod-security.kubernetes.io/enforce=restricted"
    run("kubectl", "create", "namespace", cluster.namespace)
    run("kubectl", "label", "namespace", cluster.namespace, level)


def install(cluster: Cluster, chart: Path = ROOT / "charts/playscale", **changed: Any) -> None:
    """Install or upgrade the release, and wait for it. `changed`: values at the top that replace those of values()."""
    path = cluster.folder / "values.yaml"
    path.write_text(yaml.safe_dump(values(cluster) | changed))
    waits = ("--wait", "--timeout", "8m")
    helm(cluster, "upgrade", "--install", RELEASE, str(chart), "-f", str(path), *waits, seconds=540)


def check(cluster: Cluster) -> str:
    """Run `helm test`; it leaves no pod behind."""
    helm(cluster, "test", RELEASE, "--timeout", "3m", seconds=240)
    left = cluster.pods("app.kubernetes.io/component=check")
    expect(not left, f"helm test left {len(left)} pods behind")
    return "passed, no pod left"


@contextmanager
def mlflow(cluster: Cluster) -> Iterator[str]:
    """Yield the address of the release's MLflow, by port-forward, as a user has it."""
    with cluster.forward(f"{RELEASE}-mlflow", 5000) as address:
        yield address


def put_object(cluster: Cluster, key: str, body: bytes) -> None:
    """Store an object in the release's S3, in the bucket of its studies."""
    secret = cluster.kubectl("get", "secret", names(cluster)["credentials"], "-o", "json", namespace=cluster.kubeflow)
    given = {name: base64.b64decode(value).decode() for name, value in json.loads(secret)["data"].items()}
    keys = {name.lower(): given[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    with cluster.forward(f"{RELEASE}-s3", 9000) as address:
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
        client.put_object(Bucket="playscale", Key=key, Body=body)


def put_data(cluster: Cluster, name: str = "example") -> None:
    """Log a study with an artifact through the server."""
    with mlflow(cluster) as address:
        experiment = TrackingClient(name, address).connect()
        for point in read_points(EXAMPLE):
            experiment.log_point(point)
        fit = experiment.start("fit", "fit")
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "report.html"
            page.write_text("<h1>kept</h1>")
            fit.log_artifacts(page, "report")
        fit.finish()


def data_is_there(cluster: Cluster, name: str = "example") -> str:
    """Read the study back. The artifact comes by MLflow's own client, without a setting of ours, within a minute."""
    with mlflow(cluster) as address:
        experiment = TrackingClient(name, address).connect(create=False)
        points = sorted(experiment.points(), key=str)
        (fit,) = experiment.runs("fit")
        text = download(address, fit.info.run_id, "report/report.html")
    expect(points == sorted(read_points(EXAMPLE), key=str), f"{len(points)} points, other than those logged")
    expect(text == "<h1>kept</h1>", f"the artifact came back as {text[:100]!r}")
    return f"{len(points)} points and the artifact"


def download(address: str, run_id: str, name: str) -> str:
    """Return an artifact's text, downloaded by MLflow's client in a process that knows nothing of Playscale."""
    code = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]);"
        "print(open(mlflow.artifacts.download_artifacts(run_id=sys.argv[2], artifact_path=sys.argv[3])).read(), end='')"
    )
    ours = ("MLFLOW_", "PLAYSCALE_")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(ours) or key in LOGIN}
    return run(sys.executable, "-c", code, address, run_id, name, seconds=90, environment=plain).splitlines()[-1]


def remove(cluster: Cluster) -> None:
    """Uninstall the release; its data stay."""
    helm(cluster, "uninstall", RELEASE, "--wait", "--timeout", "3m", seconds=240)


def clean(cluster: Cluster) -> None:
    """Remove the release, its namespace and what it put into Kubeflow's namespace."""
    helm(cluster, "uninstall", RELEASE, "--wait", "--timeout", "2m", check=False, seconds=240)
    run("kubectl", "delete", "namespace", cluster.namespace, "--ignore-not-found", "--timeout=120s", seconds=180)
    for name in names(cluster).values():
        kinds = "configmap,secret,serviceaccount,role,rolebinding"
        cluster.kubectl("delete", kinds, name, "--ignore-not-found", namespace=cluster.kubeflow)


def leftovers(cluster: Cluster) -> str:
    """Expect nothing of the release in Kubeflow's namespace."""
    kinds = "configmap,secret,serviceaccount,role,rolebinding,networkpolicy,job"
    asked = ("get", kinds, "-l", "app.kubernetes.io/part-of=playscale", "-o", "json")
    text = cluster.kubectl(*asked, namespace=cluster.kubeflow)
    left = [f"{one['kind']}/{one['metadata']['name']}" for one in json.loads(text)["items"]]
    expect(not left, f"left in {cluster.kubeflow}: {', '.join(left)}")
    return "nothing left"
