"""Upload a compiled pipeline to Kubeflow Pipelines: `python -m playscale_pipelines.upload study.yaml --endpoint URL`.

A version is named by the digest of its YAML, so that uploading the same again changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Annotated

import typer
from kfp.client import Client, ServiceAccountTokenVolumeCredentials
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import HTTPError

log = logging.getLogger(__name__)


def upload(pipeline: Path, client: Client, name: str) -> str:
    """Create the pipeline if there is none, add this version if it is new, and return the version's name."""
    version = hashlib.sha256(pipeline.read_bytes()).hexdigest()[:12]
    page = client.get_pipeline_id(name) or client.upload_pipeline(str(pipeline), name).pipeline_id
    listed = client.list_pipeline_versions(page, page_size=100, sort_by="created_at desc").pipeline_versions or []
    if version not in {known.display_name for known in listed}:
        client.upload_pipeline_version(str(pipeline), pipeline_version_name=version, pipeline_id=page)
    return version


def main(
    pipeline: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Compiled pipeline, from `playscale compile`.")
    ],
    endpoint: Annotated[str, typer.Option(help="URL of the Kubeflow Pipelines API.")],
    name: Annotated[str, typer.Option(help="Name of the pipeline on the server.")] = "playscale-study",
    token: Annotated[Path | None, typer.Option(help="File with the token of a service account.")] = None,
) -> None:
    """Upload a compiled pipeline."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    credentials = ServiceAccountTokenVolumeCredentials(str(token)) if token else None
    try:
        version = upload(pipeline, Client(endpoint, credentials=credentials), name)
    except (ApiException, HTTPError) as error:
        log.error("%s did not take %s: %s", endpoint, pipeline, " ".join(str(error).split()))  # noqa: TRY400
        raise typer.Exit(1) from None
    log.info("%s: version %s at %s", name, version, endpoint)


if __name__ == "__main__":
    typer.run(main)
