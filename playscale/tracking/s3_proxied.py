"""An artifact repository with which an MLflow server passes all artifacts on itself, between its clients and S3.

On `s3://` destinations MLflow 3.17 tells every client to store and fetch artifacts in S3 itself, by presigned URLs: in
a cluster S3 has a name of the cluster, and is closed to most. The server asks its repository alone whether it can make
such URLs. `mlflow server --artifacts-destination s3-proxied://BUCKET/PREFIX` names this one: pyproject.toml registers
the scheme, as an entry point of the group `mlflow.artifact_repository`.
"""

from __future__ import annotations

import posixpath

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

SCHEME = "s3-proxied"


class ProxiedS3ArtifactRepository(ArtifactRepository):
    """Store artifacts as MLflow's own S3 repository does, under the same keys, but without its presigned URLs."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        s3_uri = "s3" + artifact_uri.removeprefix(SCHEME)
        self._s3 = S3ArtifactRepository(s3_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        return self._s3.list_artifacts(path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._s3._download_file(remote_file_path, local_path)  # noqa: SLF001 - the hook of every repository

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or all below a folder, one by one: not every S3 service has DeleteObjects."""
        bucket, root = self._s3.parse_s3_compliant_uri(self._s3.artifact_uri)
        path = posixpath.join(root, artifact_path or "").rstrip("/")
        client = self._s3._get_s3_client()  # noqa: SLF001
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=path):
            for key in (one["Key"] for one in page.get("Contents", [])):
                if not path or key == path or key.startswith(f"{path}/"):
                    client.delete_object(Bucket=bucket, Key=key)
