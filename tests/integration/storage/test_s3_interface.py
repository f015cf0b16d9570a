"""S3 interfaces of other services, which lack what boto3 uses by itself: checksums in headers, DeleteObjects."""

import os
from pathlib import Path

import pytest
import s3_interface
import s3_server
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from playscale.storage.s3 import PART, S3Storage


@pytest.fixture
def refused(s3, s3_root, monkeypatch):
    """Clients of this process talk to such an interface, with the chart's `s3.checksums: when_required`."""
    with s3_interface.serving(s3_root[1]) as (endpoint, refused):
        for name, value in s3_server.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
            monkeypatch.setenv(name, "when_required")
        yield refused


def test_a_studys_files_go_both_ways(refused, tmp_path):
    storage = S3Storage("s3://bucket/of-others")
    storage.check_writable()
    for name, size in (("small.bin", 100), ("folder/large.bin", 2 * PART + 1)):
        file = tmp_path / "there.bin"
        file.write_bytes(os.urandom(size))
        storage.upload(file, name)
        storage.download(name, tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == file.read_bytes()
    assert storage.read("folder/large.bin", PART - 1, 3) == file.read_bytes()[PART - 1 : PART + 2]
    assert set(storage.walk()) == {"small.bin", "folder/large.bin"}
    storage.remove("small.bin")
    assert set(storage.walk()) == {"folder/large.bin"}
    assert refused == []


def test_artifacts_of_mlflow_go_both_ways_and_are_deleted(refused, tmp_path):
    repository = get_artifact_repository("s3-proxied://bucket/of-mlflow")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file.txt").write_text("kept")
    (tmp_path / "ab").write_text("beside")
    repository.log_artifacts(str(tmp_path), "run")
    assert Path(repository.download_artifacts("run/a/file.txt")).read_text() == "kept"
    repository.delete_artifacts("run/a")
    assert [info.path for info in repository.list_artifacts("run")] == ["run/ab"]
    assert refused == []


def test_without_the_setting_the_refusal_names_it(refused, monkeypatch):
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    with pytest.raises(ValueError, match="needs AWS_REQUEST_CHECKSUM_CALCULATION=when_required"):
        S3Storage("s3://bucket/of-others").check_writable()
    assert refused
