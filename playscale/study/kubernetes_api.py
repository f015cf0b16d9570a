"""The TrainJobs of a namespace, and their pods, by the Kubernetes API: for a step of a study in a pod of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import kubernetes
import urllib3

from playscale.storage.sync import read_patiently

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
JOB_OF_POD = "jobset.sigs.k8s.io/jobset-name"  # label of a pod: a TrainJob's JobSet has the TrainJob's name
CONTAINER = "node"  # Kubeflow Trainer's name of the container that trains
TIMEOUT = 20.0  # seconds
RIGHTS = "; the chart's pipeline.rbac.trainJobs gives the rights"
Object = dict[str, Any]
T = TypeVar("T")


class TrainJobs:
    """The TrainJobs of a namespace. Each call waits for an API server that is away, inside `patient_reads`.

    All raise ValueError where the API refuses a request, and OSError where it does not answer.
    """

    def __init__(self, namespace: str) -> None:
        """Connect with the pod's service account. RuntimeError: this is no pod of a cluster, or it has no token."""
        configuration = kubernetes.client.Configuration()
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except kubernetes.config.ConfigException as error:
            raise RuntimeError(f"a TrainJob is made by a pod of a cluster alone: {error}") from error
        configuration.retries = False
        client = kubernetes.client.ApiClient(configuration)
        self._namespace = namespace
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self._jobs = kubernetes.client.CustomObjectsApi(client)
        self._core = kubernetes.client.CoreV1Api(client)

    def get(self, name: str) -> Object | None:
        """Return a TrainJob; None where there is none."""
        return _ask(lambda: self._jobs.get_namespaced_custom_object(*self._place, name, _request_timeout=TIMEOUT))

    def create(self, job: Object) -> Object | None:
        """Create a TrainJob; None where there is one of its name. ValueError: the cluster knows no TrainJobs."""

        def create() -> Object | None:
            try:
                return self._jobs.create_namespaced_custom_object(*self._place, job, _request_timeout=TIMEOUT)
            except kubernetes.client.ApiException as error:
                if error.status == 409:
                    return None
                if error.status == 404:
                    raise ValueError(
                        f"the cluster has no TrainJobs ({GROUP}/{VERSION}) in {self._namespace}: install Kubeflow "
                        "Trainer 2.2 or later, or leave train.trainjob out of the pod settings"
                    ) from error
                raise

        return _ask(create)

    def own(self, name: str, owner: Object) -> None:
        """Let a TrainJob belong to `owner` alone, with which it is deleted."""
        change = {"metadata": {"ownerReferences": [owner]}}
        _ask(lambda: self._jobs.patch_namespaced_custom_object(*self._place, name, change, _request_timeout=TIMEOUT))

    def delete(self, name: str, *, foreground: bool = True) -> None:
        """Delete a TrainJob, if it is there; in the foreground, it is there until its pods are gone."""
        policy = "Foreground" if foreground else "Background"
        options = {"propagation_policy": policy, "_request_timeout": TIMEOUT}
        _ask(lambda: self._jobs.delete_namespaced_custom_object(*self._place, name, **options))

    def pods(self, name: str) -> list[Object]:
        """Return the pods of a TrainJob, oldest first."""
        selector = f"{JOB_OF_POD}={name}"
        listed = _ask(
            lambda: self._core.list_namespaced_pod(
                self._namespace, label_selector=selector, _preload_content=False, _request_timeout=TIMEOUT
            )
        )
        found: list[Object] = json.loads(listed.data)["items"] if listed else []
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def last_lines(self, pod: str, lines: int) -> list[str]:
        """Return the last lines of a pod's log; none where it has no log any more."""
        text = _ask(
            lambda: self._core.read_namespaced_pod_log(
                pod, self._namespace, container=CONTAINER, tail_lines=lines, _request_timeout=TIMEOUT
            )
        )
        return (text or "").rstrip("\n").split("\n") if text else []


def _ask(request: Callable[[], T]) -> T | None:
    """Return the API's answer; None where it has no such object."""

    def once() -> T | None:
        try:
            return request()
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return None
            text = f"the Kubernetes API: {_message(error)}"
            if error.status == 429 or error.status >= 500:
                raise OSError(text) from error
            raise ValueError(f"{text}{RIGHTS if ' cannot ' in text else ''}") from error
        except urllib3.exceptions.HTTPError as error:
            raise OSError(f"the Kubernetes API does not answer ({type(error).__name__})") from error

    return read_patiently(once)


def _message(error: kubernetes.client.ApiException) -> str:
    """Return the reason that the API gives, in one line."""
    try:
        answer = json.loads(error.body)
    except (TypeError, ValueError):
        answer = None
    said = answer.get("message") if isinstance(answer, Mapping) else None
    return " ".join(str(said or f"{error.status} {error.reason}").split())
