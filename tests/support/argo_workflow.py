"""Argo workflows as Kubeflow Pipelines 2.17 makes them of the study pipeline: the nodes that show how far a run is."""

import itertools
import json
import zlib
from datetime import UTC, datetime, timedelta

NAME = "playscale-study-x7k2p"
TEMPLATE = "metadata-0-2-retry-system-container-impl"
UNSCHEDULABLE = (
    "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes "
    "are available: 1 No preemption victims found for incoming pod."
)
OOM = "main: OOMKilled (exit code 1)"


LOOPS = {
    1: "root(0).grid(0).runs(0).for-loop-1(0)",
    2: "root(0).grid(0).runs.onExit(0).taught(0).runs(0).for-loop-1(0)",
}
"""The loop over the runs, and that over those that are taught and the references."""


def in_loop(loop, item):
    """The place of an item of a loop."""
    return f"{LOOPS[loop]}.iteration-iterations({item}:{item})(0).iteration-item(0)"


def task(place, phase, pods=(), run="", driver="Succeeded"):
    """The nodes of a component's task. pods: phases of its tries, or (phase, message)."""
    patch = [{"name": "pod-spec-patch", "value": pod_spec_patch(run)}] if run else []
    made = driver_of(place, driver, patch if driver == "Succeeded" else [])
    if driver == "Succeeded":
        made += [node(place, "Retry", phase), node(f"{place}(0)", "DAG", phase)]
        made += [node(f"{place}(0).executor", "Retry", phase)] if pods else []
    for number, pod in enumerate(pods):
        ended, message = (pod, "") if isinstance(pod, str) else pod
        name = f"{place}(0).executor({number})"
        made.append(node(name, "Pod", ended, message=message, inputs={"parameters": patch}))
    return made


def driver_of(place, phase, outputs=()):
    """The nodes of the driver of a task. phase: of its pod, or (phase, message)."""
    phase, message = (phase, "") if isinstance(phase, str) else phase
    pod = node(f"{place}-driver(0)", "Pod", phase, "system-container-driver", message=message)
    return [node(f"{place}-driver", "Retry", phase), pod | {"outputs": {"parameters": list(outputs)}}]


def loop_of(loop, items):
    """The nodes that give the number of items of a loop."""
    return driver_of(f"{LOOPS[loop]}.iteration", "Succeeded", [{"name": "iteration-count", "value": str(items)}])


def pod_spec_patch(run):
    given = {"inputs": {"parameterValues": {"out": "s3://b/o", "run": run, "spec": "name: smoke"}}}
    command = ["/kfp-launcher/launch", "--executor_input", json.dumps(given), "--component_spec", "{}", "--"]
    return json.dumps({"containers": [{"name": "main", "command": command}]})


def node(name, kind, phase, template=TEMPLATE, **more):
    full = f"{NAME}.{name}"
    made = {"id": f"{NAME}-{zlib.crc32(full.encode())}", "name": full, "displayName": name.rpartition(".")[2]}
    return made | {"type": kind, "phase": phase, "templateName": template, **more}


def pod_name(place, number=0):
    """The name that Argo gives to a pod of a task."""
    return f"{NAME}-{TEMPLATE}-{zlib.crc32(f'{NAME}.{place}(0).executor({number})'.encode())}"


def workflow(*tasks):
    """A workflow of the nodes of tasks, each of which started 10 s after the one before."""
    nodes = {}
    for number, made in enumerate(itertools.chain(*tasks)):
        start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=10 * number)
        times = {"startedAt": start.isoformat()}
        if made["phase"] not in {"Running", "Pending"}:
            times["finishedAt"] = (start + timedelta(seconds=5)).isoformat()
        nodes[made["id"]] = made | times
    return {"metadata": {"name": NAME}, "status": {"nodes": nodes}}
