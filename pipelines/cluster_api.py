"""The Kubernetes API: what it knows of a run, for where Kubeflow does not tell it and this machine has access."""

from collections.abc import Callable
from typing import Any, TypeVar

import kubernetes
import urllib3

from .submit import Server

TIMEOUT = 10.0  # seconds
T = TypeVar("T")


def workflow(server: Server, run_id: str) -> dict[str, Any] | None:
    """Return the Argo workflow of a run; None where it cannot be read."""

    def newest(client: kubernetes.client.ApiClient) -> dict[str, Any] | None:
        found = kubernetes.client.CustomObjectsApi(client).list_namespaced_custom_object(
            "argoproj.io",
            "v1alpha1",
            server.pods_namespace,
            "workflows",
            label_selector=f"pipeline/runid={run_id}",
            _request_timeout=TIMEOUT,
        )
        return next(iter(found["items"]), None)

    return _ask(server, newest)


def pod_log(server: Server, pod: str) -> str | None:
    """Return the log of a pod that is still there; None where it cannot be read."""

    def log(client: kubernetes.client.ApiClient) -> str:
        api = kubernetes.client.CoreV1Api(client)
        return api.read_namespaced_pod_log(pod, server.pods_namespace, container="main", _request_timeout=TIMEOUT)

    return _ask(server, log)


def _ask(server: Server, request: Callable[[kubernetes.client.ApiClient], T]) -> T | None:
    """Return the answer of the Kubernetes API; None without access. ValueError: there is no such context."""
    try:
        client = kubernetes.config.new_client_from_config(context=server.kube_context)
    except kubernetes.config.ConfigException as error:
        if server.kube_context:
            raise ValueError(f"--kube-context {server.kube_context}: {error}") from error
        return None
    client.configuration.retries = False
    try:
        return request(client)
    except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError):
        return None
