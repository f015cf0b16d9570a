"""Watch a submitted study until its end, and read the logs of its pods.

States and reasons come from Kubeflow's v1 API, else from the Kubernetes API where this machine has access to it.
Kubeflow also returns the log of a pod: from the pod, or after its end from the bucket that Argo keeps logs in.
"""

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kfp_server_api
import requests
import urllib3

from playscale.processes.signals import Stopped
from playscale.storage.storage import is_s3
from playscale.study.cluster_run import ClusterProgress, ClusterStep, forecast_parts, study_parts
from playscale.study.spec import StudySpec, parse_spec

from .submit import Server
from .workflow import loop_sizes, nodes_of, read_steps, read_tasks

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
PATIENCE = 300.0  # seconds without a response after which a running study is no longer watched
INTERVAL = 2.0  # seconds between two requests, less in the first ones
SHARE = 4.0  # pause after a request, in times what it took: a workflow of many runs has megabytes
TIMEOUT = 60.0  # seconds without a byte
LAST_LINES = 12  # of the log of a step that failed
NAMED = 3  # failed steps in the message at the end
LAUNCHER = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")  # a line of Kubeflow's own in the log of a pod
UNREACHED = (kfp_server_api.ApiException, urllib3.exceptions.HTTPError, requests.RequestException)


class RunFailedError(RuntimeError):
    """A run or some of its steps failed: submitted again, the study goes on where it was."""


def watch(server: Server, run_id: str, spec: StudySpec, show: Callable[[ClusterProgress], None]) -> None:
    """Watch a run until it ends.

    RunFailedError: it failed, or a step of it: Kubeflow 2.17 calls a run successful whose last step was left out since
    another had failed. RuntimeError: it was cancelled, or the server is away.
    """
    try:
        run, progress = _until_ended(server, run_id, spec, show)
    except Stopped as stop:  # submitted again, it would run twice
        raise Stopped(stop.number, f"the run goes on: {server.url(run_id)}") from stop
    if run.state == "SUCCEEDED" and progress.failed:
        raise RunFailedError(f"steps failed{_failed(progress)}; the laws are without them; {server.url(run_id)}")
    if run.state != "SUCCEEDED":
        kind = RunFailedError if run.state == "FAILED" else RuntimeError  # not where somebody has cancelled it
        raise kind(f"the run ended as {run.state}{_failed(progress)}; its page: {server.url(run_id)}")


def _until_ended(
    server: Server, run_id: str, spec: StudySpec, show: Callable[[ClusterProgress], None]
) -> tuple[Any, ClusterProgress]:
    """Show a run until it has ended, and return it as it is then."""
    begun = answered = time.monotonic()
    least = 0.0
    while True:
        asked = time.monotonic()
        try:
            run = server.client.get_run(run_id)
            least = 1.0 if run.state == "SUCCEEDED" else least
            progress = _progress(server, run, spec, asked - begun, least)
            answered = time.monotonic()
        except UNREACHED as error:
            if time.monotonic() - answered > PATIENCE:
                raise RuntimeError(
                    f"{server.endpoint}: no answer for {PATIENCE:.0f} s; the run may go on: {server.url(run_id)}"
                ) from error
            time.sleep(INTERVAL)
            continue
        least = progress.fraction
        show(progress)
        if run.state in ENDED:
            return run, progress
        time.sleep(max(min(INTERVAL, 0.2 + 0.1 * (answered - begun)), SHARE * (answered - asked)))


@dataclass(frozen=True)
class ClusterRun:
    """A run of the study pipeline, or of the forecast pipeline.

    Attributes:
        id: Its id in Kubeflow.
        state: Its state in Kubeflow.
        spec: The study's specification, as it was submitted.
        out: The study's directory in S3.
        progress: Its steps.
        budget: What a forecast is for, in training FLOPs; "" for a study.
    """

    id: str
    state: str
    spec: StudySpec
    out: str
    progress: ClusterProgress
    budget: str


def look(server: Server, given: str) -> ClusterRun:
    """Return a run as it is now, by what `run_of` takes. ValueError: there is none. RuntimeError: no answer."""
    run_id = run_of(server, given)
    with _answers(server, f"{run_id}: no such run"):
        run = server.client.get_run(run_id)
        parameters = _parameters(run)
        if not {"spec", "out"} <= parameters.keys():
            raise ValueError(f"{run_id}: not a run of the study pipeline: it has no spec and no out")
        spec = parse_spec(str(parameters["spec"]), f"the spec of {run_id}")
        out, budget = (str(parameters.get(name, "")) for name in ("out", "budget"))
        return ClusterRun(run_id, str(run.state), spec, out, _progress(server, run, spec, 0.0, 0.0), budget)


def _parameters(run: Any) -> dict[str, Any]:
    """Return the parameters that a run was submitted with."""
    return (run.runtime_config and run.runtime_config.parameters) or {}


def _progress(server: Server, run: Any, spec: StudySpec, elapsed: float, least: float) -> ClusterProgress:
    workflow = _workflow(server, run.run_id)
    steps = _steps(workflow, run)
    if "budget" in _parameters(run):
        return ClusterProgress(steps, forecast_parts(next(iter(loop_sizes(workflow)), 1)), elapsed, least)
    taught = sum(config.teacher_is_clone_of_study for config in spec.runs().values())
    known = [] if any(len(step.runs) > 1 for step in steps) else loop_sizes(workflow)  # of items, which may be groups
    sizes = known + [len(spec.runs()) - taught, taught + 1][len(known) :]  # the second loop has the references, too
    return ClusterProgress(steps, study_parts(sum(sizes) - 1), elapsed, least)


def _steps(workflow: dict[str, Any], run: Any) -> list[ClusterStep]:
    if nodes_of(workflow):
        return read_steps(workflow)
    return read_tasks((run.run_details and run.run_details.task_details) or ())


def _failed(progress: ClusterProgress) -> str:
    """Name the steps that failed, with their reasons; "" for none."""
    failed = [f"{step.title} ({step.reason})" if step.reason else step.title for step in progress.failed]
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return f" in {', '.join(failed[:NAMED])}{more}" if failed else ""


def _workflow(server: Server, run_id: str) -> dict[str, Any]:
    """Return the Argo workflow of a run; an empty one where neither Kubeflow nor Kubernetes returns it."""
    answer = server.http.get(f"{server.endpoint}/apis/v1beta1/runs/{run_id}", timeout=TIMEOUT)
    if answer.status_code >= requests.codes.server_error:
        answer.raise_for_status()  # it is asked again
    if answer.ok and "json" in answer.headers.get("Content-Type", ""):  # a proxy may answer with a page
        return json.loads(answer.json().get("pipeline_runtime", {}).get("workflow_manifest") or "{}")
    from . import cluster_api

    return cluster_api.workflow(server, run_id) or {}


def run_of(server: Server, given: str) -> str:
    """Return the id of a run: as given, of the address of its page, or the newest that writes to s3://BUCKET/PREFIX."""
    if not is_s3(given):
        return given.rpartition("/runs/details/")[2]
    token = ""
    while True:
        with _answers(server, f"{given}: no run writes there"):
            page = server.client.list_runs(token, page_size=20, sort_by="created_at desc", namespace=server.namespace)
        for run in page.runs or ():
            if str(_parameters(run).get("out", "")).rstrip("/") == given.rstrip("/"):
                return str(run.run_id)
        token = page.next_page_token or ""
        if not token:
            raise ValueError(f"{given}: no run on {server.endpoint} writes there")


def steps_of(server: Server, run_id: str) -> list[ClusterStep]:
    """Return the steps of a run that have begun. ValueError: there is no such run. RuntimeError: no answer."""
    with _answers(server, f"{run_id}: no such run"):
        return _steps(_workflow(server, run_id), server.client.get_run(run_id))


@contextmanager
def _answers(server: Server, missing: str) -> Iterator[None]:
    """Raise ValueError when the server does not have what it is asked for, and RuntimeError when it does not answer."""
    try:
        yield
    except UNREACHED as error:
        if isinstance(error, kfp_server_api.ApiException) and error.status == requests.codes.not_found:
            raise ValueError(f"{server.endpoint}: {missing}") from error
        reason = getattr(error, "reason", None) or type(error).__name__
        raise RuntimeError(f"{server.endpoint}: no answer ({reason})") from error


def read_log(server: Server, run_id: str, pod: str) -> str:
    """Return the log of a pod. RuntimeError: neither Kubeflow nor Kubernetes has it, or they cannot be reached."""
    address = f"{server.endpoint}/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"
    try:
        answer = server.http.get(address, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise RuntimeError(f"{server.endpoint}: no answer ({type(error).__name__})") from error
    answer.encoding = "utf-8"
    if answer.ok and '{"error_message":' not in answer.text.rpartition("\n")[2]:  # an error has status 200, too
        return answer.text
    from . import cluster_api

    if (log := cluster_api.pod_log(server, pod)) is not None:
        return log
    raise RuntimeError(f"Kubeflow has no log of it; try: kubectl -n {server.pods_namespace} logs {pod} -c main")


def pod_logs(server: Server, run_id: str, steps: Sequence[ClusterStep]) -> Iterator[str]:
    """Yield the log of each pod below a line that names it. RuntimeError, after the others: a log cannot be read."""
    missing = [] if all(step.pods for step in steps) else [_where(server, run_id)]
    for step in steps:
        for pod in step.pods:
            try:
                log = read_log(server, run_id, pod.name)
            except RuntimeError as error:
                missing.append(f"pod {pod.name} of {step.title}: {error}")
            else:
                yield f"--- {step.title}, {pod.state}, pod {pod.name}\n{log.rstrip()}"
    if missing:
        raise RuntimeError(missing[-1])


def _where(server: Server, run_id: str) -> str:
    return (
        f"Kubeflow does not name the pods; see: kubectl -n {server.pods_namespace} get pods -l pipeline/runid={run_id}"
    )


def explain(server: Server, run_id: str, step: ClusterStep) -> list[str]:
    """Return lines on a step that failed: its pod, the last lines of its log, and the command that shows the whole."""
    if not step.pods:
        return [_where(server, run_id)]
    pod, memory = step.pods[-1].name, "OOMKilled" in step.reason
    try:
        log = read_log(server, run_id, pod).split("\n")
    except RuntimeError as error:
        return [f"pod {pod}: {error}"]
    own = [line for line in log if line.strip() and not LAUNCHER.match(line)]
    command = ["playscale", "study", "logs", run_id, "--endpoint", server.endpoint, "--step", step.component]
    if step.runs:
        command += ["--run", step.runs[0]]
    return [
        f"pod {pod}",
        *(f"| {line}" for line in own[-LAST_LINES:]),
        f"the whole log: {shlex.join(command)}",
        *([f"more memory for it: {step.component}: {{memory: ...}} in the file of --pods"] if memory else []),
    ]
