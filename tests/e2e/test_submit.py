"""`playscale study submit` against a server that speaks the API over HTTP: the run, its end, and what goes wrong."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from argo_workflow import OOM, UNSCHEDULABLE, in_loop, loop_of, pod_name, task, workflow
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
    assert " done collect in " in result.stderr
    assert "done train bc-lstm-10k-s0 in " in result.stderr
    assert backend.broken == 0
    (run,) = backend.runs
    assert backend.experiments[0]["display_name"] == "smoke"
    assert run["service_account"] == "playscale-pipeline"
    given = run["runtime_config"]["parameters"]
    assert given == {"spec": SPEC.read_text(), "out": "s3://bucket/mine", "tracking_uri": ""}
    text = yaml.safe_dump(run["pipeline_spec"])
    assert "registry.example.org/p:1" in text
    assert "nvidia.com/gpu" in text


def test_submit_of_a_forecast_sends_its_pipeline_and_what_is_asked(cli, tmp_path):
    of_runs = [
        task(f"{in_loop(1, i)}.{name}", "Succeeded", ["Succeeded"]) for name in ("train", "evaluate") for i in (0, 1)
    ]
    steps = [task("root.forecast", "Succeeded", ["Succeeded"]), loop_of(1, 2), *of_runs]
    backend = Backend("FAILED", workflows=[workflow(*steps, task("root.forecast-2", "Failed", ["Failed"]))])
    asked = ("--budget", "3.2e10", "--for", "loss", "--seeds", "0,1", "--include-forecasts")
    with kfp_server(backend) as url:
        result = cli("study", "forecast", SPEC, *asked, "--endpoint", url, *OPTIONS, "--wait", cwd=tmp_path)
        seen = json.loads(status(cli, tmp_path, "run-1", "--endpoint", url, "--json").stdout)
        wrong = cli("study", "forecast", SPEC, "--budget", "1", "--for", "x", "--endpoint", url, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "failed score" in result.stderr
    assert result.stdout.startswith(f"submitted: {url}/#/runs/details/run-1\nwrites to: s3://playscale/studies/smoke\n")
    assert seen["parts"] == {"forecast": [1, 1], "train": [2, 2], "evaluate": [2, 2], "score": [0, 1]}
    assert seen["note"].startswith("forecast of 3.2e10 FLOPs; http")
    assert seen["go_on"].startswith("playscale study forecast SPEC --budget 3.2e10 --endpoint ")
    (run,) = backend.runs
    given = run["runtime_config"]["parameters"]
    wanted = {"budget": "3.2e10", "targets": "loss", "seeds": "0,1", "include_forecasts": True}
    assert {name: given[name] for name in wanted} == wanted
    assert "name: playscale-forecast" in yaml.safe_dump(run["pipeline_spec"])
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
    assert "--for: 'x' is unknown" in wrong.stderr


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("FAILED", "ended as FAILED in train bc-lstm-20k-s0; its page"),
        pytest.param("CANCELED", "ended as CANCELED", marks=pytest.mark.slow),
    ],
)
def test_submit_fails_when_the_run_does(cli, tmp_path, ending, said):
    with kfp_server(Backend(ending)) as url:
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, "--wait", cwd=tmp_path)
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert f"{url}/#/runs/details/run-1" in result.stderr.splitlines()[-1]


TRAIN = f"{in_loop(1, 0)}.train"
LOG = """I1129 20:00:00.000000 1 launcher_v2.go:86] input
[KFP Executor 2026-11-29 20:00:09,120 INFO]: train-bc-lstm-10k-s0: starts
MemoryError: no room for 8 GiB
F1129 20:00:10.000000 1 main.go:59] failed to execute component: exit status 1
"""


def tried(phase, *pods):
    return workflow(task(TRAIN, phase, pods, run="bc-lstm-10k-s0"))


def test_submit_says_why_a_step_waits_is_tried_again_and_fails(cli, tmp_path):
    waits, twice = ("Pending", UNSCHEDULABLE), [("Failed", OOM), ("Failed", OOM)]
    looks = [tried("Running", waits), tried("Running", twice[0], "Running"), tried("Failed", *twice)]
    pod = pod_name(TRAIN, 1)
    with kfp_server(Backend("FAILED", workflows=looks, logs={pod: LOG})) as url:
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, "--wait", cwd=tmp_path)
        lost = "train bc-lstm-10k-s0 (OOMKilled (exit code 1))"
        command = f"playscale study logs run-1 --endpoint {url} --step train --run bc-lstm-10k-s0"
        assert result.returncode == 1
        assert [re.sub(r"^\d+:\d\d ", "", line) for line in result.stderr.splitlines()][1:] == [
            "train bc-lstm-10k-s0 waits: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu",
            "train bc-lstm-10k-s0 is tried again (try 2): OOMKilled (exit code 1)",
            "failed train bc-lstm-10k-s0: OOMKilled (exit code 1), tried 2 times",
            f"    pod {pod}",
            "    | [KFP Executor 2026-11-29 20:00:09,120 INFO]: train-bc-lstm-10k-s0: starts",
            "    | MemoryError: no room for 8 GiB",
            f"    the whole log: {command}",
            "    more memory for it: train: {memory: ...} in the file of --pods",
            f"playscale: the run ended as FAILED in {lost}; its page: {url}/#/runs/details/run-1",
        ]


@pytest.mark.slow
def test_submit_names_the_kubectl_command_where_no_log_is_read(cli, tmp_path):
    with kfp_server(Backend("FAILED", workflows=[tried("Failed", ("Failed", OOM))])) as url:
        submit = ("study", "submit", SPEC, "--endpoint", url, *OPTIONS, "--wait")
        result = cli(*submit, cwd=tmp_path, KUBECONFIG=str(tmp_path / "none"))
    assert f"; try: kubectl -n kubeflow logs {pod_name(TRAIN)} -c main\n" in result.stderr


@pytest.mark.slow
def test_submit_shows_steps_where_only_kubeflows_list_of_tasks_is_served(cli, tmp_path):
    with kfp_server(Backend("FAILED", v1=False)) as url:
        submit = ("study", "submit", SPEC, "--endpoint", url, *OPTIONS, "--wait")
        result = cli(*submit, cwd=tmp_path, KUBECONFIG=str(tmp_path / "none"))
    assert result.returncode == 1
    assert " done collect\n" in result.stderr
    assert (
        "failed train: no reason given\n    Kubeflow does not name the pods; see: kubectl -n kubeflow get"
        in result.stderr
    )


def test_submit_of_a_study_that_lost_a_run_names_it(cli, tmp_path):
    lost = workflow(
        task(TRAIN, "Failed", [("Failed", OOM)], run="bc-lstm-10k-s0"), task("root.fit", "Succeeded", ["Succeeded"])
    )
    with kfp_server(Backend(workflows=[lost], logs={pod_name(TRAIN): LOG})) as url:
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, "--wait", cwd=tmp_path)
    assert result.returncode == 1
    reason = OOM.removeprefix("main: ")
    assert f"steps failed in train bc-lstm-10k-s0 ({reason}); the laws are without them; {url}" in result.stderr


@pytest.fixture(scope="module")
def submitted(cli, tmp_path_factory):
    """The URL of a server on which the smoke study has run: its backend, too."""
    place = tmp_path_factory.mktemp("logs")
    run = workflow(
        task("root.collect", "Succeeded", ["Succeeded"]),
        task(TRAIN, "Failed", [("Failed", OOM), ("Failed", OOM)], run="bc-lstm-10k-s0"),
    )
    logs = {pod_name("root.collect"): "8 games ✓\n", pod_name(TRAIN, 1): LOG}
    with kfp_server(Backend("FAILED", workflows=[run], logs=logs)) as url:
        assert cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, cwd=place).returncode == 0
        yield url


@pytest.mark.parametrize("study", ["run-1", "s3://playscale/studies/smoke/", "{url}/#/runs/details/run-1"])
def test_logs_are_those_of_a_run_by_id_page_or_directory(cli, tmp_path, submitted, study):
    result = cli(
        "study", "logs", study.format(url=submitted), "--endpoint", submitted, "--step", "collect", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"--- collect, done, pod {pod_name('root.collect')}\n8 games ✓\n"


def test_logs_of_a_run_are_all_that_can_be_read(cli, tmp_path, submitted):
    options = ("--endpoint", submitted, "--run", "bc-lstm-10k-s0")
    result = cli("study", "logs", "run-1", *options, cwd=tmp_path, KUBECONFIG=str(tmp_path / "none"))
    assert result.stdout == f"--- train bc-lstm-10k-s0, failed, pod {pod_name(TRAIN, 1)}\n{LOG}"
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert f"pod {pod_name(TRAIN, 0)} of train bc-lstm-10k-s0: Kubeflow has no log of it" in result.stderr


@pytest.mark.parametrize(
    ("study", "options", "said"),
    [
        ("run-1", ("--step", "trian"), "run-1: no such step; there are: collect, train bc-lstm-10k-s0"),
        ("run-2", (), "run-2: no such run"),
        ("s3://playscale/studies/other", (), "s3://playscale/studies/other: no run on http://"),
        (".", (), ".: a study on this machine; its log is ./pipeline.log"),
    ],
)
def test_bad_logs_is_one_line(cli, tmp_path, submitted, study, options, said):
    result = cli(
        "study", "logs", study, "--endpoint", submitted, *options, cwd=tmp_path, KUBECONFIG=str(tmp_path / "none")
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert said in result.stderr


@pytest.mark.slow
def test_a_run_that_failed_is_submitted_again_until_it_succeeds(cli, tmp_path):
    backend = Backend("FAILED", "FAILED", "SUCCEEDED", "FAILED")
    with kfp_server(backend) as url:
        again = ("--wait", "--resubmit", 5)
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, *again, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (len(backend.runs), result.stdout.count("submitted: ")) == (3, 3)
    assert len({yaml.safe_dump(run["pipeline_spec"]) for run in backend.runs}) == 1
    assert result.stdout.endswith("succeeded\n")
    assert "ended as FAILED in train" in result.stderr
    assert "submitting it again, 2 of 5" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("endings", "submitted"), [(["FAILED"] * 3, 2), (["CANCELED", "SUCCEEDED"], 1)])
def test_a_run_is_not_submitted_more_often_than_said_nor_when_it_was_cancelled(cli, tmp_path, endings, submitted):
    backend = Backend(*endings)
    with kfp_server(backend) as url:
        again = ("--wait", "--resubmit", 1)
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, *again, cwd=tmp_path)
    assert (result.returncode, len(backend.runs)) == (1, submitted), result.stderr
    assert f"ended as {endings[0]}" in result.stderr.splitlines()[-1]


def test_resubmit_without_wait_is_refused_in_one_line(cli, tmp_path):
    result = cli("study", "submit", SPEC, "--endpoint", "http://127.0.0.1:9", "--resubmit", 2, cwd=tmp_path)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "--resubmit: " in result.stderr


def test_submit_without_wait_returns_at_once(cli, tmp_path):
    backend = Backend("FAILED")
    with kfp_server(backend) as url:
        result = cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, cwd=tmp_path)
    assert (result.returncode, backend.looks, len(backend.runs)) == (0, 0, 1), result.stderr
    assert "writes to: s3://playscale/studies/smoke" in result.stdout


@pytest.mark.slow
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


def status(cli, folder, *arguments):
    """Look at a study, without a way into S3 and Kubernetes."""
    nowhere = {"KUBECONFIG": str(folder / "none"), "AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_CONFIG_FILE": "none"}
    nowhere |= {"AWS_EC2_METADATA_DISABLED": "true"}
    return cli("study", "status", *arguments, cwd=folder, **nowhere)


def test_status_of_a_run_has_its_parts_and_the_step_that_failed(cli, tmp_path, submitted):
    result = status(cli, tmp_path, "s3://playscale/studies/smoke", "--endpoint", submitted, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["name"], found["state"], found["place"]) == ("smoke", "failed", "s3://playscale/studies/smoke")
    assert (found["parts"]["collect"], found["parts"]["train"]) == ([1, 1], [0, 3])
    assert found["failed"] == {"train-bc-lstm-10k-s0": OOM.removeprefix("main: ")}
    assert found["note"].endswith("/#/runs/details/run-1")
    assert found["go_on"] == f"playscale study submit SPEC --endpoint {submitted} --out s3://playscale/studies/smoke"


@pytest.mark.slow
def test_watched_status_of_a_run_ends_with_the_run(cli, tmp_path):
    with kfp_server(Backend()) as url:
        assert cli("study", "submit", SPEC, "--endpoint", url, *OPTIONS, cwd=tmp_path).returncode == 0
        result = status(cli, tmp_path, "run-1", "--endpoint", url, "--watch")
    assert result.returncode == 0, result.stderr
    assert "done train bc-lstm-10k-s0" in result.stderr
    assert result.stdout.startswith("study smoke in s3://playscale/studies/smoke: finished, 100 %")


def test_watched_status_in_json_ends_with_a_line_of_the_failed_run(cli, tmp_path, submitted):
    result = status(cli, tmp_path, "run-1", "--endpoint", submitted, "--watch", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["state"] for line in lines] == ["running", "failed"]
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run-1",), "run-1: no such directory; of a run in Kubeflow, give its --endpoint"),
        (("run-2", "--endpoint"), "run-2: no such run"),
        ((".", "--endpoint"), ".: a study on this machine; leave out --endpoint"),
        ((".",), ".: no study there: it has no plan.json"),
    ],
)
def test_bad_status_is_one_line(cli, tmp_path, submitted, arguments, said):
    given = (*arguments, submitted) if "--endpoint" in arguments else arguments
    result = status(cli, tmp_path, *given)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert said in result.stderr
