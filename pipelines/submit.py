"""Submit the study pipeline to a Kubeflow Pipelines server, and wait for its end."""

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import requests
import urllib3

from .compile import compile_study
from .pods import Pods

TOKEN = "PLAYSCALE_KFP_TOKEN"  # noqa: S105 - the name of a variable, which holds a bearer token for a server that needs one
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
PATIENCE = 300.0  # seconds without a response after which a running study is no longer watched
INTERVAL = 2.0  # seconds between two requests, less in the first ones


@dataclass(frozen=True)
class Server:
    """A Kubeflow Pipelines server that responded. `namespace`: that of a multi-user installation, else None."""

    client: kfp.Client
    endpoint: str
    namespace: str | None

    def url(self, run_id: str) -> str:
        return f"{self.endpoint}/#/runs/details/{run_id}"


def reach(endpoint: str, namespace: str | None = None) -> Server:
    """Connect to a server; ValueError of one line when it cannot be reached, needs a login, or is another service."""
    endpoint = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
    token = os.environ.get(TOKEN)
    health = f"{endpoint}/apis/v2beta1/healthz"
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.get(health, headers=headers, timeout=10, allow_redirects=False)
        answer.json()
    except requests.exceptions.JSONDecodeError as error:
        wants = f"; if it wants a login, give a token in ${TOKEN}" if answer.status_code in {302, 401, 403} else ""
        raise ValueError(
            f"{endpoint}: answered {health} with {answer.status_code} and no JSON: no Kubeflow Pipelines server{wants}"
        ) from error
    except requests.exceptions.SSLError as error:
        raise ValueError(
            f"{endpoint}: no secure connection ({getattr(error.args[0], 'reason', error)}); of a server without TLS, "
            f"the endpoint is {endpoint.replace('https', 'http', 1)}"
        ) from error
    except requests.exceptions.RequestException as error:
        raise ValueError(
            f"{endpoint}: no Kubeflow Pipelines server can be reached there ({type(error).__name__}); inside a cluster "
            "that is http://ml-pipeline.kubeflow:8888, from outside after kubectl port-forward http://localhost:8888"
        ) from error
    if answer.status_code >= requests.codes.server_error:
        raise RuntimeError(f"{health}: the server answered with {answer.status_code}; try again later")
    if not answer.ok:
        login = answer.status_code in {requests.codes.unauthorized, requests.codes.forbidden}
        why = f"is {TOKEN} set to a valid token?" if login else "no Kubeflow Pipelines server of version 2"
        raise ValueError(f"{endpoint}: answered {health} with {answer.status_code}; {why}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it needs a server of version 2
        client = kfp.Client(host=endpoint, existing_token=token, namespace=namespace or "kubeflow")
    return Server(client, endpoint, namespace)


def submit(server: Server, arguments: dict[str, str], pods: Pods, experiment: str, service_account: str) -> str:
    """Start a run of the study pipeline with `arguments` and return its id; ValueError when the server refuses it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # kfp prints links
        package = str(compile_study(Path(folder), pods))
        try:
            run = server.client.create_run_from_pipeline_package(
                package,
                arguments=arguments,
                run_name=f"{experiment} {time.strftime('%Y-%m-%d %H:%M:%S')}",
                experiment_name=experiment,
                namespace=server.namespace,
                service_account=service_account,
            )
        except kfp_server_api.ApiException as error:
            raise ValueError(
                f"{server.endpoint}: refused the run: {error.status} {error.reason} {error.body}"
            ) from error
    return str(run.run_id)


def wait(server: Server, run_id: str, progress: Callable[[str, float], None]) -> None:
    """Watch a run until it ends. RuntimeError when it fails, or when the server does not respond for minutes."""
    begun = answered = time.monotonic()
    while True:
        try:
            run = server.client.get_run(run_id)
            answered = time.monotonic()
        except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError) as error:
            if time.monotonic() - answered > PATIENCE:
                raise RuntimeError(
                    f"{server.endpoint}: no answer for {PATIENCE:.0f} s; the run may go on: {server.url(run_id)}"
                ) from error
            time.sleep(INTERVAL)
            continue
        tasks = _tasks(run)
        progress(_status(tasks), _fraction(tasks))
        if run.state in ENDED:
            break
        time.sleep(min(INTERVAL, 0.2 + 0.1 * (time.monotonic() - begun)))
    if run.state != "SUCCEEDED":
        failed = ", ".join(sorted({task.display_name for task in tasks if task.state == "FAILED"}))
        why = f": {run.error.message}" if run.error and run.error.message else ""
        which = f" in {failed}" if failed else ""
        raise RuntimeError(f"the run ended as {run.state}{which}{why}; its logs: {server.url(run_id)}")


def _tasks(run: Any) -> list[Any]:
    """Return the tasks that are components, without the loops around them and the drivers that Kubeflow adds."""
    details = run.run_details.task_details if run.run_details else None
    parents = {task.parent_task_id for task in details or ()}
    return [
        task
        for task in details or ()
        if task.task_id not in parents and task.display_name and not task.display_name.endswith("-driver")
    ]


def _status(tasks: list[Any]) -> str:
    running = Counter(task.display_name for task in tasks if task.state == "RUNNING")
    now = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(running.items()))
    return f"{sum(task.state in ENDED for task in tasks)} of {len(tasks)} tasks done" + (f"; {now}" if now else "")


def _fraction(tasks: list[Any]) -> float:
    """Return the fraction done of the tasks known so far; later ones appear when they start."""
    return sum(task.state in ENDED for task in tasks) / max(1, len(tasks))
