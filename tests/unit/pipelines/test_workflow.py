"""The steps of a study as read from the Argo workflow that runs it."""

import base64
import gzip
import json

import pytest
from argo_workflow import (
    NAME,
    OOM,
    TEMPLATE,
    UNSCHEDULABLE,
    driver_of,
    in_loop,
    loop_of,
    node,
    pod_name,
    task,
    workflow,
)

from playscale.study.cluster_run import StepPod
from playscale_pipelines.workflow import loop_sizes, read_steps

TRAIN = f"{in_loop(1, 2)}.train"


def only_step(*tasks):
    (step,) = read_steps(workflow(*tasks))
    return step


@pytest.mark.parametrize(
    ("phase", "pods", "state", "reason", "failures"),
    [
        ("Succeeded", ["Succeeded"], "done", "", 0),
        ("Running", ["Running"], "running", "", 0),
        ("Running", [("Pending", "PodInitializing")], "running", "", 0),
        (
            "Running",
            [("Pending", UNSCHEDULABLE)],
            "waiting",
            "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu",
            0,
        ),
        ("Running", [("Failed", OOM), "Running"], "running", "", 1),
        ("Running", [("Failed", OOM)], "running", "OOMKilled (exit code 1)", 1),
        ("Failed", [("Error", "pod deleted"), ("Failed", OOM)], "failed", "OOMKilled (exit code 1)", 2),
    ],
)
def test_state_of_a_step_is_that_of_its_tries_together(phase, pods, state, reason, failures):
    step = only_step(task(TRAIN, phase, pods, run="bc-lstm-10k-s0"))
    assert (step.title, step.state, step.reason, step.failures) == ("train bc-lstm-10k-s0", state, reason, failures)
    assert [pod.name for pod in step.pods] == [pod_name(TRAIN, number) for number in range(len(pods))]


def test_step_whose_driver_runs_has_the_number_of_its_run():
    step = only_step(task(TRAIN, "Running", driver="Running"))
    assert (step.title, step.state) == ("train run 3", "running")


def test_step_has_its_run_before_its_pod():
    step = only_step(task(TRAIN, "Running", run="bc-lstm-10k-s0"))
    assert (step.title, step.state) == ("train bc-lstm-10k-s0", "running")


def test_step_whose_inputs_have_another_format_has_the_number_of_its_run():
    other = task(TRAIN, "Running", ["Running"], run="x")
    for made in other:
        for side in ("inputs", "outputs"):
            for parameter in made.get(side, {}).get("parameters", []):
                parameter["value"] = '{"containers": []}'
    assert only_step(other).title == "train run 3"


def test_step_whose_driver_failed_failed():
    step = only_step(
        [*task(TRAIN, "Omitted", driver=("Failed", "main: Error (exit code 1)")), node(TRAIN, "Skipped", "Omitted")]
    )
    assert (step.state, step.reason) == ("failed", "Error (exit code 1)")
    (pod,) = step.pods
    assert pod.name.startswith(f"{NAME}-system-container-driver-")


def test_drivers_of_kubeflow_are_steps_only_when_they_wait_or_fail():
    loop = "root.for-loop-1(0).iteration"
    assert read_steps(workflow(driver_of("root", "Succeeded"), driver_of(loop, "Running"))) == []
    step = only_step(driver_of("root", "Succeeded"), driver_of(loop, ("Pending", UNSCHEDULABLE)))
    assert (step.title, step.state) == ("iteration-driver", "waiting")


def test_loop_that_argo_tries_again_shows_its_newest_try():
    again = TRAIN.replace("iteration-item(0)", "iteration-item(1)")
    step = only_step(
        task(TRAIN, "Error", [("Error", "pod deleted")], run="a"), task(again, "Running", ["Running"], run="a")
    )
    assert (step.state, step.failures, len(step.pods)) == ("running", 1, 2)


def test_names_of_parts_are_those_of_a_local_study():
    tasks = [
        task(f"root.{name}", "Succeeded", ["Succeeded"]) for name in ("plan", "grid(0).runs.onExit(0).taught(0).plan")
    ]
    second = task(f"{in_loop(2, 0)}.evaluate", "Succeeded", ["Succeeded"], run="references")
    steps = read_steps(workflow(*tasks, second))
    assert [step.title for step in steps] == ["plan", "plan-taught", "evaluate references"]
    assert [step.part for step in steps] == ["plan", "plan-taught", "references"]
    assert steps[0].seconds == 45  # from the start of the driver's pod to the end of its own


def test_evaluation_that_follows_a_failed_training_of_several_runs_has_their_names():
    failed = task(TRAIN, "Failed", [("Failed", OOM)], run="a,b")
    played = task(f"{TRAIN}.onExit(0).evaluate", "Succeeded", ["Succeeded"], run="a,b")
    steps = read_steps(workflow(failed, played))
    assert [(step.title, step.state, step.runs) for step in steps] == [
        ("train a, b", "failed", ("a", "b")),
        ("evaluate a, b", "done", ("a", "b")),
    ]


def test_nodes_of_a_large_workflow_are_unpacked():
    large = workflow(task("root.collect", "Succeeded", ["Succeeded"]), loop_of(1, 60))
    nodes = large["status"].pop("nodes")
    large["status"]["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    assert [step.title for step in read_steps(large)] == ["collect"]
    assert loop_sizes(large) == [60]


def test_workflow_without_nodes_has_no_steps():
    assert read_steps({}) == read_steps({"metadata": {"name": NAME}, "status": {}}) == []
    assert loop_sizes({}) == []


def test_sizes_of_loops_come_in_the_order_they_began():
    running = driver_of("root.for-loop-3(0).iteration", "Running")
    assert loop_sizes(workflow(loop_of(2, 3), loop_of(1, 5), running)) == [3, 5]


def test_pod_of_a_step_is_named_as_argo_names_it():
    made = node("root.fit(0).executor(0)", "Pod", "Running") | {"id": f"{NAME}-42", "startedAt": "2026-01-01T00:00:00Z"}
    tasks = [*task("root.fit", "Running"), made]
    assert only_step(tasks).pods == (StepPod(f"{NAME}-{TEMPLATE}-42", "running", ""),)
