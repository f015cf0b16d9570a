"""A run of a study that a TrainJob of Kubeflow Trainer trains: made, followed to its end, cleaned up.

The step's own pod has no GPU and touches no file of the study: it makes the TrainJob and follows it. In the TrainJob's
pod torchrun starts this module, once for each GPU, and the module calls the step `train`, which works in the study's
directory in S3 as in any other pod.

A TrainJob is named by the run and the study's directory, so that there is one of them however often the step is tried
or the study submitted. It belongs to the pod that follows it, and is deleted with it.

- The step ends by a signal (its run was cancelled, its pod deleted): the TrainJob is deleted. Its pod saves its state.
- The step ends otherwise, killed or since the API was away for too long: the TrainJob trains on. The next try finds it.
- The TrainJob failed: it stays to be looked at. The next try deletes it and makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from playscale.processes.signals import Stopped, stoppable
from playscale.storage.sync import patient_reads
from playscale.study.context import REFERENCES
from playscale.study.kubernetes_api import CONTAINER, Object, TrainJobs
from playscale.study.spec import parse_spec
from playscale.tracking.prometheus import served

POLL = 10.0  # seconds between two looks at a TrainJob
READ_LINES, LAST_LINES = 200, 20  # of a failed pod's log: those that are read, and shown
TORCHRUN = re.compile(r"E\d{4} .* torch/distributed/elastic/")  # begins torchrun's report of a failure
FAILURE = re.compile(r"train-\S+: failed after \d+ s: (.*)")  # the last line of the step's own log
QUEUE = "kueue.x-k8s.io/queue-name"  # label of what Kueue queues
RUN_ID = "playscale/kubeflow-run"  # label: the run of the pipeline that made the TrainJob
POD = ("POD_NAME", "POD_UID", "POD_NAMESPACE")  # variables that tell a step's pod its own metadata
log = logging.getLogger(__name__)


def train_by_job(spec: str, run: str, out: str, tracking_uri: str, gpus: str, gpu_type: str, job: str) -> str:
    """Train one model through its budgets by a TrainJob; return the directory of its checkpoints, "" of the references.

    Args:
        spec: YAML text of the study's specification.
        run: Name of the run.
        out: The study's directory, s3://BUCKET/PREFIX.
        tracking_uri: URI of the MLflow server; "" for the default.
        gpus: Number of GPUs, and of processes; "0": one process, on the CPU.
        gpu_type: Resource name of the GPUs.
        job: The TrainJob as the settings of pods make it (JSON).

    Raises:
        RuntimeError: The TrainJob failed, or was deleted; or this is no pod of a cluster.
        ValueError: The cluster has no TrainJobs or refuses this one, or another one trains the run.
        OSError: The Kubernetes API could not be reached for minutes.
    """
    if run == REFERENCES:
        return ""
    wanted = complete(json.loads(job), [spec, run, out, tracking_uri], int(gpus or 0), gpu_type)
    with stoppable(), served(task="train", run=run), patient_reads():
        jobs = TrainJobs(wanted["metadata"]["namespace"])
        try:
            follow(jobs, begin(jobs, wanted))
        except Stopped:
            _delete_own(jobs, wanted)
            raise
    return f"{out.rstrip('/')}/train/{run}/checkpoints"


def complete(job: Object, arguments: list[str], gpus: int, gpu_type: str) -> Object:
    """Return a TrainJob with what is known in the step alone: name, labels, owner, command, processes and GPUs."""
    spec, run, out, _ = arguments
    missing = [name for name in POD if not os.environ.get(name)]
    if missing:
        raise RuntimeError(f"a TrainJob is made by a step of a compiled pipeline alone: {missing[0]} is not set")
    pod, uid, namespace = (os.environ[name] for name in POD)
    pipeline_run = os.environ.get("KFP_RUN_ID", "")
    named = {"playscale/study": parse_spec(spec).name, "playscale/run": run, RUN_ID: pipeline_run}
    job["metadata"] |= {
        "name": job_name(run, out),
        "namespace": namespace,
        "labels": job["metadata"].get("labels", {}) | {key: _label(value) for key, value in named.items()},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}],
    }
    trainer = job["spec"]["trainer"]
    trainer["command"] = ["torchrun", "-m", "playscale.study.train_job", *arguments]
    trainer["numProcPerNode"] = max(gpus, 1)
    if gpus:
        for kind in ("requests", "limits"):
            trainer["resourcesPerNode"][kind][gpu_type] = str(gpus)
    trainer["env"].append({"name": "KFP_RUN_ID", "value": pipeline_run})
    return job


def job_name(run: str, out: str) -> str:
    """Return the name of a run's TrainJob. Names of its pods are longer by 15 characters, and may have 63."""
    digest = hashlib.sha256(f"{out.rstrip('/')}/{run}".encode()).hexdigest()[:8]
    return f"{re.sub('[^a-z0-9]+', '-', f'train-{run}'.lower())[:38].strip('-')}-{digest}"


def _label(text: str) -> str:
    """Return a text as the value of a label."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("._-")


def begin(jobs: TrainJobs, wanted: Object) -> Object:
    """Return the TrainJob to follow: the one that is there, made ours, or a new one.

    One that has failed, or that another run of the pipeline has completed, is deleted first. ValueError: one that goes
    on trains for another specification.
    """
    name = wanted["metadata"]["name"]
    while True:
        found = jobs.get(name)
        if found is None:
            if made := jobs.create(wanted):
                log.info("TrainJob %s: made", name)
                return made
        elif "deletionTimestamp" in found["metadata"]:
            log.info("TrainJob %s: an earlier one is being deleted", name)
            time.sleep(POLL)
        elif (ended := _ended(found)) and not (ended["type"] == "Complete" and _label_of(found) == _label_of(wanted)):
            log.info("TrainJob %s: an earlier one has ended (%s), and is deleted", name, ended["type"])
            jobs.delete(name)
        elif found["spec"]["trainer"].get("command") != wanted["spec"]["trainer"]["command"]:
            raise ValueError(
                f"TrainJob {name} trains this run for another specification: wait for its end, or delete it "
                f"(kubectl -n {wanted['metadata']['namespace']} delete trainjob {name})"
            )
        else:
            log.info("TrainJob %s: found, and followed on", name)
            jobs.own(name, wanted["metadata"]["ownerReferences"][0])
            return found


def _label_of(job: Object) -> str | None:
    label: str | None = job["metadata"].get("labels", {}).get(RUN_ID)
    return label


def follow(jobs: TrainJobs, job: Object) -> None:
    """Follow a TrainJob to its end, with a line for each of its states. RuntimeError: it failed, or was deleted."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    said, failed = "", dict[str, str]()
    while True:
        now = jobs.get(name)
        if now is None or now["metadata"]["uid"] != uid or "deletionTimestamp" in now["metadata"]:
            raise RuntimeError(f"TrainJob {name}: somebody deleted it before its end")
        pods = jobs.pods(name)
        for pod in pods:
            if pod["status"].get("phase") == "Failed" and pod["metadata"]["name"] not in failed:
                failed[pod["metadata"]["name"]] = _report_failure(jobs, pod)
        if ended := _ended(now):
            if ended["type"] == "Complete":
                log.info("TrainJob %s: complete", name)
                return
            why = [f"{ended.get('reason', '')}: {ended.get('message', '')}".strip(": "), *list(failed.values())[-1:]]
            raise RuntimeError(f"TrainJob {name} failed: {'; '.join(filter(None, why))}")
        if (state := _state(now, pods)) != said:
            said = state
            log.info("TrainJob %s: %s", name, state)
        time.sleep(POLL)


def _ended(job: Object) -> Object | None:
    """Return the condition that says that a TrainJob has ended."""
    return next((one for one in _conditions(job, True) if one["type"] in {"Complete", "Failed"}), None)


def _conditions(of: Object, holds: bool) -> Iterator[Object]:
    """Yield the conditions that hold, or that do not, of a TrainJob or a pod."""
    return (one for one in of.get("status", {}).get("conditions", ()) if one["status"] == str(holds))


def _state(job: Object, pods: list[Object]) -> str:
    """Return what a TrainJob that goes on is at."""
    if any(one["type"] == "Suspended" for one in _conditions(job, True)) or job["spec"].get("suspend"):
        queue = job["metadata"].get("labels", {}).get(QUEUE)
        return f"waits in the queue {queue}" if queue else "is suspended"
    if not pods:
        return "waits for its pod, which Kubeflow Trainer makes"
    name, status = pods[-1]["metadata"]["name"], pods[-1]["status"]
    if status.get("phase") == "Pending":
        return f"pod {name} waits{_waiting(pods[-1])}"
    node = pods[-1]["spec"].get("nodeName", "")
    return f"pod {name} on {node}: {str(status.get('phase', '')).lower()}"


def _waiting(pod: Object) -> str:
    """Return why a pod has not started; "" where it just starts."""
    for one in _conditions(pod, False):
        if one["type"] == "PodScheduled":
            return f": {one.get('reason', '')}: {one.get('message', '').partition('. ')[0]}"
    waiting = [one for one in _container_states(pod, "waiting") if one.get("reason") != "ContainerCreating"]
    return f": {waiting[0].get('reason', '')}: {waiting[0].get('message', '')}".rstrip(": ") if waiting else ""


def _container_states(pod: Object, kind: str) -> list[Mapping[str, Any]]:
    statuses = pod["status"].get("containerStatuses", ())
    return [one["state"][kind] for one in statuses if one["name"] == CONTAINER and kind in one.get("state", {})]


def _report_failure(jobs: TrainJobs, pod: Object) -> str:
    """Log that a pod failed, and the end of its log; return the reason in a few words."""
    ended = [
        f"{one.get('reason', 'Error')} (exit code {one['exitCode']})" for one in _container_states(pod, "terminated")
    ]
    status, name = pod["status"], pod["metadata"]["name"]
    reason = (ended or [f"{status.get('reason', 'Failed')} {status.get('message', '')}".strip()])[0]
    log.warning("pod %s failed: %s", name, reason)
    try:
        lines = _before_torchruns(jobs.last_lines(name, READ_LINES))
    except ValueError as error:
        lines = [str(error)]
    for line in lines[-LAST_LINES:]:
        log.warning("| %s", line)
    own = [found[1] for line in lines if (found := FAILURE.search(line))]
    return ": ".join([f"pod {name}", reason, *own[-1:]])


def _before_torchruns(lines: list[str]) -> list[str]:
    """Return the lines before torchrun's own report of a failure, which says which process failed, but not why."""
    return lines[: next((number for number, line in enumerate(lines) if TORCHRUN.match(line)), len(lines))]


def _delete_own(jobs: TrainJobs, wanted: Object) -> None:
    """Delete the TrainJob that this pod made or took over, unless another pod has taken it over since.

    The step has a second: nothing waits here for an API server that is away.
    """
    name, owners = wanted["metadata"]["name"], wanted["metadata"]["ownerReferences"]
    with suppress(OSError, ValueError):
        found = jobs.get(name)
        if found and [one["uid"] for one in found["metadata"].get("ownerReferences", ())] == [owners[0]["uid"]]:
            jobs.delete(name, foreground=False)
            log.info("TrainJob %s: deleted", name)


def main() -> None:
    """Train a run of a study, under torchrun: what the pod of a TrainJob does. The arguments are those of the step."""
    from playscale.study import steps

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    steps.train(*sys.argv[1:])


if __name__ == "__main__":
    main()
