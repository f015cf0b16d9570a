"""A study whose runs are trained by TrainJobs, on a cluster without Kubeflow Trainer and Kueue: their parts are played.

The API server has a CRD made from the Python models of Kubeflow Trainer, so that it refuses what Trainer would. What
the controller does is done here: a TrainJob is suspended, as by Kueue, then admitted, its pod is made from the runtime
of k8s/train/runtime, and its status follows the pod's. The pod trains in earnest, with torchrun, in one process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import yaml

from tests.support.played_trainer import NAME, played_pod, train_job_crd

from . import release, studies
from .cluster import Cluster, Failed, expect, run, until
from .strikes import KILL

STRUCK, FAILED = "bc-lstm-10k-s0", "bc-lstm-20k-s0"  # the run whose step is struck, and that whose pod fails first
QUEUE = "games"
QUEUED_SECONDS = 25.0  # more than two looks of the step at its TrainJob
OURS = "playscale/acceptance"  # label of the CRD that this test makes
HOPELESS = ["sh", "-c", "echo the end of the log; exit 3"]
ASK = """
from playscale.study.kubernetes_api import TrainJobs
job = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"}
try:
    TrainJobs("%s").create(job | {"metadata": {"name": "asked"}, "spec": {"runtimeRef": {"name": "none"}}})
except ValueError as error:
    print(error)
"""


def train_jobs(cluster: Cluster) -> str:
    """Train a study by TrainJobs: a step's pod is deleted, a step killed, a TrainJob fails; the points are as always.

    Steps that fail have to be tried again: the step `retries` comes before.
    """
    if NAME in run("kubectl", "get", "crd", "-l", f"!{OURS}", "-o", "name"):
        return "left out: Kubeflow Trainer is installed, and this step plays its part"
    refused = _refusals(cluster)
    with _trainer(cluster):
        pods = {"train": studies.POD | {"trainjob": {"queue": QUEUE}}}
        with studies.submitted(cluster, "train-jobs", pods) as study:
            run_id, trainer = study.run_id(), Trainer(cluster, study.name)
            deadline = time.monotonic() + studies.STUDY_SECONDS
            while study.runs and time.monotonic() < deadline:
                trainer.look()
                time.sleep(2)
            expect(study.end() == 0, f"the study failed: {study.output[-2000:]}")
            said = _logs(cluster, run_id)
        until(120, "the end of the TrainJobs with their steps' pods", lambda: not trainer.jobs())
    for line in (f"waits in the queue {QUEUE}", "found, and followed on", "| the end of the log", ": complete"):
        expect(line in said, f"no line like {line!r} in the log of the training: {said[-2000:]}")
    reason = f"failed: FailedJobs: played; pod {trainer.failed_pod}: Error (exit code 3)"
    expect(reason in said, f"the log of the training has no {reason!r}: {said[-2000:]}")
    expect(trainer.made == {STRUCK: 2, FAILED: 2}, f"TrainJobs made, by run: {trainer.made}")
    here = studies.local_points(cluster)
    studies.compare(studies.points(cluster, study.name), here)
    struck = "made anew after the deletion of its step's pod, followed on after a kill"
    return f"{refused}; {reason}; {struck}; {len(here)} points equal to those of this machine"


def _refusals(cluster: Cluster) -> str:
    """See what a step says without the rights, and then without Kubeflow Trainer; the rights are given then."""
    _give_rights(cluster, given=False)
    with _probe(cluster) as ask:
        _answer(ask, "pipeline.rbac.trainJobs gives the rights")
        _give_rights(cluster, given=True)
        return _answer(ask, "install Kubeflow Trainer")


def _answer(ask: Callable[[], str], part: str) -> str:
    """Ask until the answer has a part, for a minute: rights and network policies take a while. Failed: it never has."""
    said = ""

    def answered() -> bool:
        nonlocal said
        said = ask().strip()
        return part in said

    with suppress(Failed):
        until(60, part, answered)
    expect(part in said, f"asked for a TrainJob, the Kubernetes API did not say {part!r}, but: {said[-500:]}")
    return said.splitlines()[-1]


def _give_rights(cluster: Cluster, *, given: bool) -> None:
    own = release.values(cluster)["pipeline"]
    release.install(cluster, pipeline=own | {"rbac": {"trainJobs": given}, "upload": {"enabled": False}})


@contextmanager
def _probe(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Yield what asks for a TrainJob as a training step does, in a pod with its account; it returns the answer."""
    name = f"{cluster.namespace}-train-job"
    container = {"name": "main", "image": cluster.image, "command": ["sleep", "600"]}
    labels = {"app.kubernetes.io/part-of": "playscale", "app.kubernetes.io/component": "train"}
    spec = {
        "serviceAccountName": release.names(cluster)["account"],
        "restartPolicy": "Never",
        "containers": [container],
    }
    metadata = {"name": name, "namespace": cluster.kubeflow, "labels": labels}
    pod = yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    try:
        run("kubectl", "apply", "-f", "-", given=pod)
        _kubectl(cluster, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
        code = ASK % cluster.kubeflow
        yield lambda: _kubectl(cluster, "exec", name, "--", "python3", "-c", code, check=False)
    finally:
        run("kubectl", "delete", "-f", "-", "--ignore-not-found", "--grace-period=0", "--wait=false", given=pod)


@contextmanager
def _trainer(cluster: Cluster) -> Iterator[None]:
    """Have the CRD of TrainJobs inside, and nothing of it after."""
    crd = train_job_crd()
    crd["metadata"]["labels"] = {OURS: "true"}
    try:
        _remove_crd()  # of a test that was killed
        run("kubectl", "create", "-f", "-", given=yaml.safe_dump(crd))
        run("kubectl", "wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=60s")
        yield
    finally:
        _remove_crd()


def _remove_crd() -> None:
    run("kubectl", "delete", "crd", NAME, "--ignore-not-found", "--timeout=120s", check=False, seconds=180)


class Trainer:
    """Plays the controller of Kubeflow Trainer, and Kueue's, for the TrainJobs of one study.

    Attributes:
        made: TrainJobs that were seen, by run.
        failed_pod: Name of the pod that was made to fail.
    """

    def __init__(self, cluster: Cluster, study: str) -> None:
        self._cluster, self._study = cluster, study
        self._stages: dict[str, str] = {}  # by uid
        self._suspended: dict[str, float] = {}
        self._owners: dict[str, str] = {}
        self._strikes = [self._delete, self._kill]
        self.made: dict[str, int] = {}
        self.failed_pod = ""

    def jobs(self) -> list[dict[str, Any]]:
        """Return the study's TrainJobs."""
        text = _kubectl(self._cluster, "get", NAME, "-l", f"playscale/study={self._study}", "-o", "json")
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def look(self) -> None:
        """Do the next thing with each TrainJob."""
        for job in self.jobs():
            uid = job["metadata"]["uid"]
            if "deletionTimestamp" not in job["metadata"] and self._stages.get(uid) != "ended":
                self._stages[uid] = self._next(job, uid, job["metadata"]["labels"]["playscale/run"])

    def _next(self, job: dict[str, Any], uid: str, of: str) -> str:
        """Do the next thing with a TrainJob; return the stage that it is in."""
        stage, owner = self._stages.get(uid, ""), job["metadata"]["ownerReferences"][0]
        if not stage:
            self.made[of] = self.made.get(of, 0) + 1
            self._suspended[uid] = time.monotonic()
            self._condition(job, "Suspended", "True", "Suspended")
            return "queued"
        if stage == "running":
            return self._end(job)
        if stage == "struck" and owner["uid"] != self._owners[uid]:
            return "queued"  # by now another pod follows it
        if stage == "queued" and time.monotonic() - self._suspended[uid] > QUEUED_SECONDS:
            if of == STRUCK and self._strikes:
                self._owners[uid] = owner["uid"]
                self._strikes.pop(0)(owner["name"])
                return "struck"
            return self._start(job, of)
        return stage

    def _delete(self, pod: str) -> None:
        _kubectl(self._cluster, "delete", "pod", pod, "--wait=false")

    def _kill(self, pod: str) -> None:
        _kubectl(self._cluster, "exec", pod, "-c", "main", "--", "python3", "-c", KILL)

    def _start(self, job: dict[str, Any], of: str) -> str:
        fails = of == FAILED and not self.failed_pod
        pod = played_pod(job, release.names(self._cluster)["account"], HOPELESS if fails else None)
        run("kubectl", "create", "-f", "-", given=yaml.safe_dump(pod))
        if fails:
            self.failed_pod = pod["metadata"]["name"]
        self._condition(job, "Suspended", "False", "Resumed")
        return "running"

    def _end(self, job: dict[str, Any]) -> str:
        """End a TrainJob as its pod has ended."""
        asked = ("get", "pod", f"{job['metadata']['name']}-node-0-0-{job['metadata']['uid'][:5]}")
        phase = _kubectl(self._cluster, *asked, "-o", "jsonpath={.status.phase}")
        if phase not in {"Succeeded", "Failed"}:
            return "running"
        ended = ("Complete", "AllJobsCompleted") if phase == "Succeeded" else ("Failed", "FailedJobs")
        self._condition(job, ended[0], "True", ended[1])
        return "ended"

    def _condition(self, job: dict[str, Any], kind: str, status: str, reason: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        one = {"type": kind, "status": status, "reason": reason, "message": "played", "lastTransitionTime": now}
        patch = json.dumps({"status": {"conditions": [one]}})
        options = ("--subresource=status", "--type=merge", "-p", patch)
        _kubectl(self._cluster, "patch", NAME, job["metadata"]["name"], *options)


def _logs(cluster: Cluster, run_id: str) -> str:
    """Return the logs of all tries at the training steps, as a user reads them."""
    command = (sys.executable, "-m", "playscale.cli", "study", "logs", run_id, "--endpoint", cluster.endpoint)
    return run(*command, "--step", "train", check=False, seconds=120)


def _kubectl(cluster: Cluster, *arguments: str, **options: Any) -> str:
    return cluster.kubectl(*arguments, namespace=cluster.kubeflow, **options)
