"""The steps of a submitted study, read from the Argo workflow that runs it.

Kubeflow's list of a run's tasks (`task_details`) gives neither pods nor reasons, and does not say which task belongs to
which item of a loop. The workflow has all of that. The first run's training, for instance, is there as

    root.grid.runs.for-loop-1.iteration-iterations(0:0).iteration-item.train-driver(0)      Kubeflow's driver, a pod
    root.grid.runs.for-loop-1.iteration-iterations(0:0).iteration-item.train                the task
    root.grid.runs.for-loop-1.iteration-iterations(0:0).iteration-item.train(0).executor(0) the component's pod

where (0), (1) may follow each name: Argo numbers the tries of whatever it may try again.
"""

import base64
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from playscale.study.cluster_run import ClusterStep, StepPod

from .pods import COMPONENTS

COMPONENT = re.compile(rf"({'|'.join(COMPONENTS)})(-2)?")
TRY = re.compile(r"\(\d+\)")
ITEM = re.compile(r"\((\d+):")
STATES = {
    "Pending": "waiting", "Running": "running", "Succeeded": "done", "Skipped": "done", "Omitted": "omitted",
    "Failed": "failed", "Error": "failed",
}  # fmt: skip
STARTING = {"ContainerCreating", "PodInitializing"}
DRIVER, EXECUTOR = "-driver", ".executor"
Node = Mapping[str, Any]


def read_steps(workflow: Mapping[str, Any]) -> list[ClusterStep]:
    """Return the steps that have begun, in the order they did."""
    places: dict[str, list[Node]] = defaultdict(list)
    for node in in_order(workflow):
        places[TRY.sub("", node["name"])].append(node)
    tasks = [place.removesuffix(DRIVER) for place in places if place.endswith(DRIVER)]
    steps = [_step(workflow["metadata"]["name"], task, places) for task in tasks]
    return [step for step in steps if not step.component.endswith(DRIVER) or step.state == "failed" or step.reason]


def _step(workflow: str, place: str, places: Mapping[str, list[Node]]) -> ClusterStep:
    drivers, executors = (_pods(places.get(place + kind, ())) for kind in (DRIVER, EXECUTOR))
    pods = tuple(_pod(workflow, node) for node in executors or drivers)
    task = place.rpartition(".")[2]
    component = _component(task)
    state = _state(places[place + DRIVER])
    if component and state == "done":
        state = _state(places.get(place, ())) or "running"
    if state in {"running", "waiting"}:
        state = "waiting" if pods and pods[-1].state == "waiting" else "running"
    name = component or task + DRIVER
    if name == "plan" and place != f"{workflow}.root.plan":
        name = "plan-taught"
    run = _run([*executors, *drivers]) or "".join(f"run {int(number) + 1}" for number in ITEM.findall(place)[-1:])
    return ClusterStep(name, run, state, place, pods, _seconds([*drivers, *executors]) if state == "done" else None)


def _component(task: str) -> str:
    """Return the component of a task; the second call of `forecast` is "score"; "" for a task of none."""
    if task == "forecast-2":
        return "score"
    return found[1] if (found := COMPONENT.fullmatch(task)) else ""


def _seconds(pods: list[Node]) -> float:
    """Return the seconds from the start of the first pod to the end of the last."""
    began, ended = pods[0].get("startedAt"), pods[-1].get("finishedAt")
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds() if began and ended else 0.0


def _pods(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node["type"] == "Pod"]


def _state(nodes: Iterable[Node]) -> str:
    """Return the state of a task from its nodes: where Argo tries it again, that of all tries together; "" for none."""
    nodes = list(nodes)
    whole = [node for node in nodes if not node["name"].endswith(")")] or nodes
    return STATES.get(whole[-1].get("phase", ""), "waiting") if whole else ""


def _pod(workflow: str, node: Node) -> StepPod:
    """Return a pod by its node. Argo names it after the workflow, the template, and the number in the node's id."""
    name = f"{workflow}-{node['templateName']}-{node['id'].rpartition('-')[2]}"
    state = STATES.get(node.get("phase", ""), "waiting")
    reason = str(node.get("message", "")).removeprefix("main: ")
    if state == "waiting":
        reason = (
            "" if reason in STARTING else reason.partition(". ")[0].rstrip(".")
        )  # after "0/3 nodes are available: ..."
        state = "waiting" if reason else "running"
    return StepPod(name, state, reason if state in {"waiting", "failed"} else "")


def _run(nodes: Iterable[Node]) -> str:
    """Return the training run that a task was given, from the patch with which Kubeflow starts its pod; "" for none."""
    for node in nodes:
        for side in ("inputs", "outputs"):
            for parameter in node.get(side, {}).get("parameters", ()):
                if parameter["name"] == "pod-spec-patch":
                    with suppress(ValueError, KeyError, IndexError, TypeError):  # a format of Kubeflow's own
                        command = json.loads(parameter["value"])["containers"][0]["command"]
                        given = json.loads(command[command.index("--executor_input") + 1])
                        return str(given["inputs"]["parameterValues"].get("run", ""))
    return ""


def loop_sizes(workflow: Mapping[str, Any]) -> list[int]:
    """Return the number of items of each loop whose items are known, in the order the loops began."""
    sizes = {}
    for node in in_order(workflow):
        for parameter in node.get("outputs", {}).get("parameters", ()):
            if parameter["name"] == "iteration-count" and str(parameter.get("value", "")).isdigit():
                sizes[TRY.sub("", node["name"])] = int(parameter["value"])
    return [size for place, size in sizes.items() if place.endswith(".iteration" + DRIVER)]


def in_order(workflow: Mapping[str, Any]) -> list[Node]:
    """Return the nodes of a workflow in the order they began; those that have not come last."""
    return sorted(nodes_of(workflow).values(), key=lambda node: (node.get("startedAt") or "~", node["name"]))


def nodes_of(workflow: Mapping[str, Any]) -> dict[str, Node]:
    """Return the nodes of a workflow by id; those of a large one are compressed."""
    status = workflow.get("status") or {}
    if packed := status.get("compressedNodes"):
        return json.loads(gzip.decompress(base64.b64decode(packed)))
    return status.get("nodes") or {}


def read_tasks(tasks: Iterable[Any]) -> list[ClusterStep]:
    """Return the steps from Kubeflow's own list of tasks, where the workflow cannot be read: without runs and pods."""
    states = {"RUNNING": "running", "SUCCEEDED": "done", "SKIPPED": "done", "FAILED": "failed", "CANCELED": "failed"}
    return [
        ClusterStep(component, "", states.get(task.state, "waiting"), str(task.task_id))
        for task in tasks
        if (component := _component(task.display_name or ""))
    ]
