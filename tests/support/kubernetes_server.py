"""A stand-in for the Kubernetes API of a namespace: TrainJobs, pods, logs. A test plays Kubeflow Trainer's part."""

import json
import re
from contextlib import contextmanager, suppress

from json_server import Handler, serving, url

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/kubeflow/trainjobs"
PODS = "/api/v1/namespaces/kubeflow/pods"
FORBIDDEN = (
    'trainjobs.trainer.kubeflow.org is forbidden: User "system:serviceaccount:kubeflow:playscale-pipeline" cannot '
    'create resource "trainjobs" in API group "trainer.kubeflow.org" in the namespace "kubeflow"'
)


class Namespace:
    """What the API holds, and what it does.

    jobs, logs: by name; pods: in their order
    moves: functions of a TrainJob, one is called before each answer that shows one: what a controller does meanwhile
    answers: (status, value) with which the next requests are answered in place of what they ask for
    """

    def __init__(self):
        self.jobs, self.pods, self.logs = {}, [], {}
        self.moves, self.answers, self.asked = [], [], []
        self.made = 0

    def add(self, job):
        self.made += 1
        job["metadata"] |= {"uid": f"uid-{self.made}", "creationTimestamp": "2026-11-30T20:00:00Z"}
        self.jobs[job["metadata"]["name"]] = job

    def add_pod(self, name, phase, **status):
        metadata = {"name": name, "creationTimestamp": f"2026-11-30T20:00:{len(self.pods):02}Z"}
        self.pods.append({"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **status}})


def condition(kind, **more):
    return {"type": kind, "status": "True", "lastTransitionTime": "2026-11-30T20:00:00Z", **more}


def ends(kind, **more):
    """A move: the TrainJob ends."""
    return lambda job: job.setdefault("status", {}).setdefault("conditions", []).append(condition(kind, **more))


class KubernetesHandler(Handler):
    """Answers the requests for TrainJobs, pods and logs."""

    def reply(self):
        with suppress(BrokenPipeError):  # a signal has ended the request
            self._reply()

    def _reply(self):
        here, path = self.server.namespace, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here.asked.append(f"{self.command} {path}")
        if here.answers:
            status, value = here.answers.pop(0)
            return self.answer(value, status)
        if path == JOBS:
            return self._create(here, json.loads(body))
        if path == PODS:
            return self.answer({"items": here.pods})
        if log := re.fullmatch(f"{PODS}/(.*)/log", path):
            return self.answer(here.logs[log[1]]) if log[1] in here.logs else self._missing()
        job = here.jobs.get(path.removeprefix(f"{JOBS}/"))
        if job is None:
            return self._missing()
        if self.command == "DELETE":
            del here.jobs[job["metadata"]["name"]]
        elif self.command == "PATCH":
            job["metadata"] |= json.loads(body)["metadata"]
        elif here.moves:
            here.moves.pop(0)(job)
        return self.answer(job)

    do_GET = do_POST = do_PATCH = do_DELETE = reply

    def _create(self, here, job):
        if job["metadata"]["name"] in here.jobs:
            return self.answer({"kind": "Status", "message": "already exists"}, 409)
        here.add(job)
        return self.answer(job, 201)

    def _missing(self):
        self.answer({"kind": "Status", "reason": "NotFound", "message": "not found"}, 404)


@contextmanager
def kubernetes_server(monkeypatch):
    """Serve a namespace to a step that believes itself in a pod; yield the namespace."""
    namespace = Namespace()
    with serving(KubernetesHandler, namespace=namespace) as server:

        def connect(client_configuration):
            client_configuration.host = url(server)

        monkeypatch.setattr("kubernetes.config.load_incluster_config", connect)
        for name, value in {"NAME": "step-1", "UID": "u-1", "NAMESPACE": "kubeflow"}.items():
            monkeypatch.setenv(f"POD_{name}", value)
        monkeypatch.setenv("KFP_RUN_ID", "run-1")
        yield namespace
