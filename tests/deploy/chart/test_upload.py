"""The upload of the pipelines, with kfp's own client, to a server on loopback that keeps what it is given.

Kubeflow Pipelines itself cannot run here; the server answers the four requests that the upload makes as its API says.
"""

import json
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from json_server import Handler, serving

ROOT = Path(__file__).parents[3]


class Pipelines(Handler):
    """Pages by name, and the versions of the one page."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = urllib.parse.parse_qs(query)
        if path.endswith("/healthz"):
            return self.answer({"multi_user": False})
        if path.endswith("/versions"):
            return self.answer({"pipeline_versions": [{"display_name": name} for name in self.server.versions]})
        (predicate,) = json.loads(asked["filter"][0])["predicates"]
        found = [p for p in self.server.pages if p["display_name"] == predicate["stringValue"]]
        return self.answer({"pipelines": found})

    def do_POST(self):
        path, _, query = self.path.partition("?")
        (name,) = urllib.parse.parse_qs(query)["name"]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.server.tokens.append(self.headers.get("Authorization"))
        if path.endswith("/upload_version"):
            self.server.versions.append(name)
            return self.answer({"pipeline_version_id": name, "display_name": name})
        page = {"pipeline_id": "page", "display_name": name}
        self.server.pages.append(page)
        self.server.versions.append(name)
        return self.answer(page)


@pytest.fixture
def server():
    with serving(Pipelines, pages=[], versions=[], bodies=[], tokens=[]) as server:
        yield server


def run(*arguments):
    command = [sys.executable, "-m", "playscale_pipelines.upload", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    command = [sys.executable, "-m", "playscale.cli", "compile", "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / "study.yaml"


def test_uploaded_once_and_again_when_it_changed(server, compiled, tmp_path):
    endpoint = f"--endpoint=http://127.0.0.1:{server.server_port}"
    first = run(compiled, endpoint, "--name=study")
    assert first.returncode == 0, first.stderr
    assert [page["display_name"] for page in server.pages] == ["study"]
    assert b"playscale-study" in server.bodies[0]
    versions = list(server.versions)
    assert run(compiled, endpoint, "--name=study").returncode == 0
    assert server.versions == versions
    changed = tmp_path / "study.yaml"
    changed.write_text(compiled.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert run(changed, endpoint, "--name=study").returncode == 0
    assert len(server.versions) == len(versions) + 1
    assert len(server.pages) == 1


def test_a_token_is_sent(server, compiled, tmp_path):
    (tmp_path / "token").write_text("a-token", encoding="utf-8")
    done = run(compiled, f"--endpoint=http://127.0.0.1:{server.server_port}", f"--token={tmp_path}/token")
    assert done.returncode == 0, done.stderr
    assert set(server.tokens) == {"Bearer a-token"}


def test_upload_to_a_server_that_is_away_fails_in_one_line(compiled):
    done = run(compiled, "--endpoint=http://127.0.0.1:9")
    assert done.returncode == 1
    assert "did not take" in done.stderr
    assert "Traceback" not in done.stderr
