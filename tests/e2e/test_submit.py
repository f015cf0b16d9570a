"""`playscale study submit` against a server that speaks the API over HTTP: the run, its end, and what goes wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp_server import Backend, kfp_server

from playscale.cli.study import study_submit

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "studies" / "smoke.yaml"
TOKEN, VARIABLE = "t0ken", "PLAYSCALE_KFP_TOKEN"
OPTIONS = ("--image", "registry.example.org/p:1")


def test_submit_sends_the_run_and_waits_for_its_end(cli, tmp_path):
    backend = Backend(broken=2)  # the server restarts meanwhile
    with kfp_server(backend) as url:
        more = ("--out", "s3://bucket/mine", "--pods", ROOT / "studies" / "pods" / "gpu.yaml", "--wait")
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, *more, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"submitted: {url}/#/runs/details/run-1\nwrites to: s3://bucket/mine\nsucceeded\n"
    assert "tasks done; " in result.stderr
    assert backend.broken == 0
    (run,) = backend.runs
    assert backend.experiments[0]["display_name"] == "smoke"
    assert run["service_account"] == "playscale-pipeline"
    given = run["runtime_config"]["parameters"]
    assert given == {"spec": SPEC.read_text(), "out": "s3://bucket/mine", "tracking_uri": ""}
    text = yaml.safe_dump(run["pipeline_spec"])
    assert "registry.example.org/p:1" in text
    assert "nvidia.com/gpu" in text


@pytest.mark.parametrize(
    ("ending", "said"), [("FAILED", "ended as FAILED in train"), ("CANCELED", "ended as CANCELED")]
)
def test_submit_fails_when_the_run_does(cli, tmp_path, ending, said):
    with kfp_server(Backend(ending)) as url:
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, "--wait", cwd=tmp_path)
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert f"{url}/#/runs/details/run-1" in result.stderr.splitlines()[-1]


def test_submit_without_wait_returns_at_once(cli, tmp_path):
    backend = Backend("FAILED")
    with kfp_server(backend) as url:
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, cwd=tmp_path)
    assert (result.returncode, backend.looks, len(backend.runs)) == (0, 0, 1), result.stderr
    assert "writes to: s3://playscale/studies/smoke" in result.stdout


def test_submit_sends_the_token_of_the_environment(cli, tmp_path):
    with kfp_server(Backend(token=TOKEN)) as url:
        submit = ("study", "submit", SPEC, "--endpoint", url, *OPTIONS)
        refused = cli(*submit, cwd=tmp_path)
        taken = cli(*submit, cwd=tmp_path, **{VARIABLE: TOKEN})
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert VARIABLE in refused.stderr
    assert taken.returncode == 0, taken.stderr


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, ("--endpoint", "http://127.0.0.1:9"), "http://127.0.0.1:9: no Kubeflow Pipelines server can be reached"),
        ({}, ("--endpoint", "http://127.0.0.1:9", "--out", "/data/out"), "--out: /data/out is a path of this machine"),
        ({"source": {"games": "/data/g"}}, ("--endpoint", "http://127.0.0.1:9"), "source.games: /data/g is a path"),
        ({"sises": ["10k"]}, ("--endpoint", "http://127.0.0.1:9"), "unknown key 'sises'"),
        ({}, ("--endpoint", "http://127.0.0.1:9", "--pods", "none.yaml"), "none.yaml: no such file of pod settings"),
    ],
)
def test_bad_submit_is_one_line(cli, tmp_path, change, options, said):
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(yaml.safe_load(SPEC.read_text()) | change))
    result = cli("study", "submit", spec, *OPTIONS, *options, cwd=tmp_path)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert said in result.stderr


@pytest.mark.slow
def test_submit_example_of_help_and_kfp_command_of_the_docs_run(tmp_path):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    shutil.copytree(ROOT / "pipelines" / "compiled", tmp_path / "pipelines" / "compiled")
    example = study_submit.__doc__.split("Example:\n")[1].strip()
    documented = (ROOT / "docs" / "image.md").read_text().split("```sh\nkfp ", 1)[1].split("```")[0]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    for command in (example.replace("playscale", f"{sys.executable} -m playscale.cli", 1), f"kfp {documented}"):
        backend = Backend()
        with kfp_server(backend) as url:
            shell = ["sh", "-c", command.replace("http://localhost:8888", url)]
            result = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        (run,) = backend.runs
        given = run["runtime_config"]["parameters"]
        assert given["spec"].strip() == SPEC.read_text().strip()
        assert given.get("gpus", "0") == "0"
