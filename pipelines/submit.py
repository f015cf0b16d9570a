"""Submit the study pipeline to a Kubeflow Pipelines server."""

import contextlib
import io
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import requests

from .compile import compile_pipeline
from .pods import Pods

TOKEN = "PLAYSCALE_KFP_TOKEN"  # noqa: S105 - the name of a variable, which holds a bearer token for a server that needs one
KUBEFLOW = "kubeflow"  # namespace of a Kubeflow Pipelines that is not a multi-user one


@dataclass(frozen=True)
class Server:
    """A Kubeflow Pipelines server that responded.

    Attributes:
        client: Kubeflow's own client.
        http: The same server for what that client lacks, with the same token.
        endpoint: The server's URL.
        namespace: That of a multi-user installation, else None.
        kube_context: The context of ~/.kube/config for the Kubernetes API; None: the current one.
    """

    client: kfp.Client
    http: requests.Session
    endpoint: str
    namespace: str | None
    kube_context: str | None = None

    def url(self, run_id: str) -> str:
        return f"{self.endpoint}/#/runs/details/{run_id}"

    @property
    def pods_namespace(self) -> str:
        return self.namespace or KUBEFLOW


def reach(endpoint: str, namespace: str | None = None, kube_context: str | None = None) -> Server:
    """Connect to a server; ValueError of one line when it cannot be reached, needs a login, or is another service."""
    endpoint = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
    token, http = os.environ.get(TOKEN), requests.Session()
    if token:
        http.headers["Authorization"] = f"Bearer {token}"
    health = f"{endpoint}/apis/v2beta1/healthz"
    try:
        answer = http.get(health, timeout=10, allow_redirects=False)
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
        client = kfp.Client(host=endpoint, existing_token=token, namespace=namespace or KUBEFLOW)
    return Server(client, http, endpoint, namespace, kube_context)


def submit(
    server: Server,
    arguments: dict[str, Any],
    pods: Pods,
    experiment: str,
    service_account: str,
    pipeline: str = "study",
) -> str:
    """Start a run of a pipeline with `arguments` and return its id; ValueError when the server refuses it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # kfp prints links
        package = str(compile_pipeline(Path(folder), pods, pipeline))
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
