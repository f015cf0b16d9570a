"""Who reaches whom: every line of the table of network connections in docs/cluster.md, allowed and forbidden."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import yaml

from .cluster import Cluster, expect, run, until
from .release import RELEASE

PEER = 29500  # the port at which a training pod listens for the others of its run
SECONDS = 4  # in which a connection that is allowed comes about
CONNECT = f"""
import concurrent.futures, json, socket, sys
def reached(target):
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout={SECONDS}):
            return True
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    targets = json.loads(sys.argv[1])
    print(json.dumps(dict(zip(targets, pool.map(reached, targets)))))
"""
LISTEN = f"import socketserver as s; s.ThreadingTCPServer(('', {PEER}), s.BaseRequestHandler).serve_forever()"
STEP = {"MLflow", "S3", "Kubeflow's API", "Kubeflow's object store", "the Kubernetes API"}
ALLOWED = {  # by the labels of the pod that asks; whatever else is forbidden
    "a training pod": {*STEP, "a training pod"},
    "a pod of another step": STEP,
    "MLflow": {"Postgres", "S3"},
    "Postgres": set(),
    "S3": set(),
    "the check": {"MLflow"},
    "the upload": {"Kubeflow's API"},
}
STRANGERS = {"a stranger beside MLflow", "a stranger in Kubeflow's namespace"}
PROTECTED = {"MLflow", "Postgres", "S3", "a training pod"}  # what a pod without a policy of its own must not reach


def probe(cluster: Cluster) -> str:
    """Try every connection; return how many there were. Failed: a forbidden one came about, or the reverse."""
    with _pods(cluster) as pods:
        asked = ("get", "pod", pods["a training pod"], "-o", "jsonpath={.status.podIP}")
        targets = _targets(cluster, cluster.kubectl(*asked, namespace=cluster.kubeflow))
        with ThreadPoolExecutor(4) as pool:
            seen = dict(zip(pods, pool.map(lambda who: _reached(cluster, who, pods[who], targets), pods), strict=True))
    wrong = list(_differences(seen))
    expect(not wrong, "; ".join(wrong))
    tried = sum(map(len, seen.values()))
    return f"{tried} connections, {sum(sum(one.values()) for one in seen.values())} of them allowed"


def _differences(seen: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    for who, targets in seen.items():
        for target, reached in targets.items():
            if reached and target in PROTECTED if who in STRANGERS else reached != (target in ALLOWED[who]):
                yield f"{who} {'reaches' if reached else 'does not reach'} {target}"


def _targets(cluster: Cluster, training_pod: str) -> dict[str, str]:
    own, kubeflow = f"{cluster.namespace}.svc", f"{cluster.kubeflow}.svc"
    return {
        "MLflow": f"{RELEASE}-mlflow.{own}:5000",
        "Postgres": f"{RELEASE}-postgres.{own}:5432",
        "S3": f"{RELEASE}-s3.{own}:9000",
        "Kubeflow's API": f"ml-pipeline.{kubeflow}:8888",
        "Kubeflow's object store": f"seaweedfs.{kubeflow}:9000",
        "the Kubernetes API": "kubernetes.default.svc:443",
        "a training pod": f"{training_pod}:{PEER}",
    }


def _reached(cluster: Cluster, who: str, name: str, targets: Mapping[str, str]) -> dict[str, bool]:
    command = ("exec", name, "--", "python3", "-c", CONNECT, json.dumps(list(targets.values())))
    text = cluster.kubectl(*command, namespace=_namespace(cluster, who), seconds=120)
    found = json.loads(text.splitlines()[-1])
    return {target: found[address] for target, address in targets.items()}


def _namespace(cluster: Cluster, who: str) -> str:
    inside = {"a training pod", "a pod of another step", "the upload", "a stranger in Kubeflow's namespace"}
    return cluster.kubeflow if who in inside else cluster.namespace


def _labels(who: str) -> dict[str, str]:
    steps = {"a training pod": "train", "a pod of another step": "evaluate"}
    if who in steps:
        return {"app.kubernetes.io/part-of": "playscale", "app.kubernetes.io/component": steps[who]}
    if who in STRANGERS:
        return {}
    component = who.rpartition(" ")[2].lower()
    own = {"name": "playscale", "instance": RELEASE, "component": component, "part-of": "playscale"}
    return {f"app.kubernetes.io/{key}": value for key, value in own.items()}


@contextmanager
def _pods(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Yield the names of pods that sleep, by who they are."""
    names = {who: f"{cluster.namespace}-probe-{number}" for number, who in enumerate([*ALLOWED, *sorted(STRANGERS)])}
    manifest = yaml.safe_dump_all(_pod(cluster, who, name) for who, name in names.items())
    try:
        run("kubectl", "apply", "-f", "-", given=manifest)
        for who, name in names.items():
            _wait(cluster, who, name)
        yield names
    finally:
        run("kubectl", "delete", "-f", "-", "--ignore-not-found", "--grace-period=0", "--wait=false", given=manifest)


def _wait(cluster: Cluster, who: str, name: str) -> None:
    def started() -> bool:
        asked = ("get", "pod", name, "-o", "jsonpath={.status.phase}")
        return cluster.kubectl(*asked, namespace=_namespace(cluster, who)) == "Running"

    until(120, f"the start of the probe's pod {name}", started)


def _pod(cluster: Cluster, who: str, name: str) -> dict[str, Any]:
    """Return a pod that is never ready, so that no Service leads to it, and is gone in ten minutes whatever happens."""
    listens = who == "a training pod"
    container = {
        "name": "main",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", LISTEN] if listens else ["sleep", "600"],
        "readinessProbe": {"exec": {"command": ["false"]}},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": _namespace(cluster, who), "labels": _labels(who)},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 600,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
