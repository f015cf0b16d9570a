"""A study's agents in MLflow's model registry.

A version is the checkpoint among the artifacts of a point's run: registering uploads a file `MLmodel` beside it, and no
weights. A version is known by the run and the digest of its weights, so that registering again makes no second one.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import yaml
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from playscale.tracking.uris import one_line

FOLDER = "checkpoint"  # of the run's artifacts
LOADER = "playscale.tracking.pyfunc_agent"
WEIGHTS = "playscale.weights"  # tag: SHA-256 of the weights
STORED = "stored_bytes"  # tag: size of the checkpoint, which is there once, among the run's artifacts
PARAMS = (
    {"name": "temperature", "type": "double", "default": 1.0, "shape": None},
    {"name": "seed", "type": "long", "default": None, "shape": None},
)
TOO_OFTEN, TIMEOUT, SERVER_ERROR = 429, 408, 500


def registered_name(study: str) -> str:
    """Return the name of a study's registered model; MLflow allows neither / nor : in it."""
    return f"playscale.{re.sub(r'[^A-Za-z0-9._-]', '-', study)}"


def mlmodel(run_id: str) -> str:
    """Return the file MLmodel of a checkpoint: the module that loads it, and the parameters that `predict` takes."""
    flavor = {"loader_module": LOADER, "python_version": platform.python_version()}
    return yaml.safe_dump(
        {
            "artifact_path": FOLDER,
            "flavors": {"python_function": flavor},
            "mlflow_version": mlflow.__version__,
            "run_id": run_id,
            "signature": {"inputs": None, "outputs": None, "params": json.dumps(PARAMS)},
        }
    )


def register(
    client: MlflowClient,
    run_id: str,
    model: str,
    *,
    aliases: Sequence[str],
    about: str,
    card: str,
    tags: Mapping[str, str],
) -> int:
    """Make the checkpoint of a run a version of a registered model, unless it is one; return the version.

    Args:
        client: MLflow's client.
        run_id: The run of a point.
        model: Name of the registered model, made when it is missing.
        aliases: Names that are to stand for the version.
        about: Description of the model, Markdown; one that is there stays.
        card: Description of the version, Markdown.
        tags: Tags of the version.

    Raises:
        ValueError: The run has no checkpoint, or MLflow refuses the request: trying again does not help.
    """
    with _refusals(f"{model}: run {run_id}"):
        files = {Path(file.path).name: file.file_size or 0 for file in client.list_artifacts(run_id, FOLDER)}
        if "checkpoint.json" not in files:
            raise ValueError("no checkpoint is among its artifacts")
        digest = _digest_of_weights(client, run_id)
        stored = sum(size for name, size in files.items() if name != "MLmodel")
        tags = {**tags, WEIGHTS: digest, STORED: str(stored)}
        text = mlmodel(run_id)
        card += _how_to_load(f"models:/{model}{f'@{aliases[0]}' if aliases else '/VERSION'}")
        card += (
            f"\n\n**Size**: {stored:,} bytes, which lie among the artifacts of its run. Registering it added a file "
            f"of {len(text)} bytes there and uploaded no weights again."
        )
        client.log_text(run_id, text, f"{FOLDER}/MLmodel")
        with suppress(MlflowException):  # it is there
            client.create_registered_model(model, description=about)
        version = _known(client, model, run_id, digest)
        if version is None:
            source = f"runs:/{run_id}/{FOLDER}"
            version = client.create_model_version(
                model, source, run_id, tags=tags, description=card, await_creation_for=0
            )
        else:
            _update(client, version, card, tags)
        there = client.get_registered_model(model).aliases
        for alias in aliases:
            if str(there.get(alias)) != str(version.version):
                client.set_registered_model_alias(model, alias, version.version)
        return int(version.version)


def _how_to_load(address: str) -> str:
    code = f'from playscale import load_policy\n\npolicy, checkpoint = load_policy("{address}")'
    return f"\n\n**To load it**:\n\n```python\n{code}\n```\n\n`mlflow.pyfunc.load_model` takes the same address."


def _digest_of_weights(client: MlflowClient, run_id: str) -> str:
    """Return the digest of the weights of a run's checkpoint. ValueError: it is damaged."""
    with TemporaryDirectory() as folder:
        file = client.download_artifacts(run_id, f"{FOLDER}/checkpoint.json", folder)
        try:
            return str(json.loads(Path(file).read_text(encoding="utf-8"))["sha256"]["policy.safetensors"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its checkpoint.json is damaged ({one_line(error)})") from error


def _known(client: MlflowClient, model: str, run_id: str, digest: str) -> ModelVersion | None:
    """Return the version of these weights. Versions of weights that the run had before are marked as replaced."""
    known = None
    for version in client.search_model_versions(f"name = '{model}' and run_id = '{run_id}'"):
        if version.tags.get(WEIGHTS) == digest:
            known = version
        elif "replaced" not in version.tags:
            client.set_model_version_tag(model, version.version, "replaced", "the run was trained again")
    return known


def _update(client: MlflowClient, version: ModelVersion, card: str, tags: Mapping[str, str]) -> None:
    """Write what has changed since a version was registered, as after another evaluation."""
    if version.description != card:
        client.update_model_version(version.name, version.version, card)
    for name, value in tags.items():
        if version.tags.get(name) != value:
            client.set_model_version_tag(version.name, version.version, name, value)


@contextmanager
def _refusals(where: str) -> Iterator[None]:
    """Raise what no later attempt changes as ValueError: a server may have no registry, or not for everybody."""
    try:
        yield
    except MlflowException as error:
        status: Any = error.get_http_status_code()
        if status < SERVER_ERROR and status not in {TIMEOUT, TOO_OFTEN}:
            raise ValueError(f"{where}: not registered ({one_line(error)})") from error
        raise
    except ValueError as error:
        raise ValueError(f"{where}: not registered ({one_line(error)})") from error
