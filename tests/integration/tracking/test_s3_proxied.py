"""An MLflow server on S3 that passes every artifact on itself, and clients that know nothing of it."""

import os
from pathlib import Path

import pytest
import requests
import s3_server
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer

CONTENT = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def server(s3_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment(s3_root[1]).items():
            patch.setenv(name, value)
        served = MlflowServer(f"sqlite:///{folder}/mlflow.db", "s3-proxied://bucket/prefix", folder / "log")
        served.start()
    yield served
    served.kill()


@pytest.fixture
def run(server, monkeypatch):
    """A client as anybody has it, without a way to S3; with a run."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    client = MlflowClient(server.url)
    return client, client.create_run("0").info.run_id


def test_repository_uses_the_keys_of_mlflows_own(s3, tmp_path):
    """So a server may change from one to the other."""
    proxied, plain = (get_artifact_repository(f"{scheme}://bucket/both") for scheme in ("s3-proxied", "s3"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file.txt").write_text("kept")
    plain.log_artifacts(str(tmp_path / "folder"), "of/plain")
    proxied.log_artifacts(str(tmp_path / "folder"), "of/proxied")
    for repository in (plain, proxied):
        assert [info.path for info in repository.list_artifacts("of")] == ["of/plain", "of/proxied"]
        assert Path(repository.download_artifacts("of/proxied/file.txt")).read_text() == "kept"
    proxied.delete_artifacts("of/plain")
    assert [info.path for info in plain.list_artifacts("of")] == ["of/proxied"]


@pytest.mark.slow  # a server starts
def test_server_announces_no_multipart_of_either_way(server):
    info = requests.get(f"{server.url}/api/3.0/mlflow/server-info", timeout=30).json()
    assert {key: value for key, value in info.items() if "multipart" in key} == {
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
    }


@pytest.mark.slow
@pytest.mark.parametrize("insisting", [False, True], ids=["plain", "insisting"])
def test_artifacts_go_through_the_server_both_ways(run, s3_root, tmp_path, monkeypatch, insisting):
    client, run_id = run
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")  # 500 MB by default
    if insisting:  # on presigned URLs, which the server then says it has not
        for way in ("UPLOAD", "DOWNLOAD"):
            monkeypatch.setenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "true")
    (tmp_path / "report.html").write_bytes(CONTENT)
    client.log_artifact(run_id, str(tmp_path / "report.html"), "folder")
    client.log_text(run_id, "beside", "folder/inner/file.txt")
    kept = s3_root[0] / "bucket/prefix/0" / run_id / "artifacts/folder/report.html"
    assert kept.read_bytes() == CONTENT
    assert {info.path: info.is_dir for info in client.list_artifacts(run_id, "folder")} == {
        "folder/inner": True,
        "folder/report.html": False,
    }
    target = tmp_path / "back"
    target.mkdir()
    back = Path(client.download_artifacts(run_id, "folder", str(target)))
    assert (back / "report.html").read_bytes() == CONTENT
    assert (back / "inner/file.txt").read_text() == "beside"
