"""Copies of agents in MLflow's model registry: models:/playscale.STUDY@best-return, models:/playscale.STUDY/3."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import requests
from mlflow import artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from playscale.storage.sync import process_scratch
from playscale.tracking.client import settle_client
from playscale.tracking.store import store_errors, usable_uri
from playscale.tracking.uris import shown

DEFAULT = "sqlite:///mlflow.db"  # MLflow's own


def downloaded(uri: str) -> Path:
    """Return a copy of a registered agent's checkpoint, which is removed when this process ends.

    It is downloaded anew each time, since an alias may stand for another version by then. The registry is that of
    MLFLOW_TRACKING_URI, by default mlflow.db in the working directory.

    Raises:
        ValueError: It is no address of a version, or there is no such version.
        RuntimeError: The server does not answer.
    """
    found = re.fullmatch(r"models:/+([^@/]+)(?:@([\w-]+)|/(\d+))", uri)
    if found is None:
        raise ValueError(f"{uri}: not the address of a registered agent, which is models:/NAME@ALIAS or models:/NAME/3")
    name, alias, number = found.groups()
    where = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT
    missing = f"{uri}: {shown(where)} has no such agent; set MLFLOW_TRACKING_URI to the study's store or server"
    with store_errors(where):
        store = usable_uri(where, create=False)
        if store is None:
            raise ValueError(missing)
        settle_client()
        client = MlflowClient(store)
        try:
            version = number or client.get_model_version_by_alias(name, alias).version
            source = client.get_model_version_download_uri(name, str(version))
        except MlflowException as error:
            absent = error.get_http_status_code() in {requests.codes.not_found, requests.codes.bad_request}
            raise (ValueError(missing) if absent else error) from error
        folder = tempfile.mkdtemp(dir=process_scratch())
        return Path(artifacts.download_artifacts(source, dst_path=folder, tracking_uri=store))
