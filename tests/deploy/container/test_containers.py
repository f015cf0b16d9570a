"""A study whose tasks run in containers: to its end, to its failure, and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import docker
import pytest
import yaml
from docker.types import Mount

from playscale.points import read_points
from playscale_pipelines.containers import OUT_LABEL, _run, absolute_inputs, containers, remove_containers

ROOT = Path(__file__).parents[3]
SPEC = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text())
BASE = "docker.io/library/debian:bookworm-slim"  # of the image: has no python


@pytest.fixture
def client(docker_host, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    client = docker.from_env()
    yield client
    client.close()


def of_study(client, out):
    return client.containers.list(all=True, ignore_removed=True, filters={"label": f"{OUT_LABEL}={out}"})


def write_spec(folder, **changes):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(SPEC | changes))
    return path


def test_a_small_study_runs_in_containers_to_its_points(cli, client, docker_host, tmp_path):
    small = {"sizes": ["10k"], "budgets": [4e9, 8e9], "held_out": [], "forecast": []}
    spec, out = write_spec(tmp_path, **small), tmp_path / "out"
    result = cli("study", "run", spec, "--out", out, "--runner", "docker", cwd=tmp_path, DOCKER_HOST=docker_host)
    assert result.returncode == 0, result.stderr + (out / "pipeline.log").read_text()[-3000:]
    print(result.stdout)
    points = read_points(out / "points.csv")
    assert [point.flops for point in sorted(points, key=lambda point: point.flops)] == [4e9, 8e9]
    assert all(point.episodes == 4 for point in points)
    assert "done train-bc-lstm-10k-s0" in result.stderr
    assert {path.stat().st_uid for path in out.rglob("*")} == {os.getuid()}
    assert of_study(client, out) == []


def test_a_component_that_finds_bad_input_fails_the_study_in_one_line(cli, docker_host, tmp_path):
    (tmp_path / "no-games").mkdir()
    spec = write_spec(tmp_path, source={"games": "no-games"})
    result = cli("study", "run", spec, "--runner", "docker", cwd=tmp_path, DOCKER_HOST=docker_host)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("playscale: prepare: ")
    assert "no-games" in result.stderr.splitlines()[-1]


def test_a_component_that_cannot_start_fails_the_study(cli, docker_host, tmp_path):
    """It ends at once and reports nothing, which kfp.local by itself takes for a success."""
    spec = write_spec(tmp_path)
    options = ("--out", tmp_path / "out", "--runner", "docker", "--image", BASE)
    result = cli("study", "run", spec, *options, cwd=tmp_path, DOCKER_HOST=docker_host)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "the pipeline ended with code 1" in result.stderr


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("sh -c 'kill -9 $$' || exit $?", 137)])
def test_the_exit_code_of_a_container_is_told_truly(client, command, code):
    assert [_run(client, BASE, ["sh", "-c", command], {}, network_mode="none") for _ in range(3)] == [code] * 3


def test_a_container_can_write_nothing_but_out_and_tmp(client, tmp_path, capfd):
    out, given = tmp_path / "out", tmp_path / "given"
    out.mkdir()
    given.mkdir()
    script = (
        "touch /tmp/a $OUT/a && for d in / /etc /opt $GIVEN; do touch $d/a 2>/dev/null && echo wrote $d; done;"
        "id -u; grep CapEff /proc/self/status"
    )
    with containers(out, [given]) as runner:
        arguments = dict(runner.container_run_args)
        arguments["environment"] = {"OUT": str(out), "GIVEN": str(given)}
        code = _run(client, BASE, ["sh", "-c", script], {}, **arguments)
    told = capfd.readouterr().out
    assert code == 0, told
    assert "wrote" not in told
    assert told.split() == [str(os.getuid()), "CapEff:", "0000000000000000"]
    assert (out / "a").exists()


def test_no_container_outlives_a_killed_study(client, docker_host, tmp_path):
    spec, out = write_spec(tmp_path), tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "playscale.cli",
        "study",
        "run",
        str(spec),
        "--out",
        str(out),
        "--runner",
        "docker",
    ]
    study = subprocess.Popen(command, env=os.environ | {"DOCKER_HOST": docker_host}, stderr=subprocess.PIPE)
    wait_for(lambda: of_study(client, out), study)
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    deadline = time.time() + 60
    while of_study(client, out):
        assert time.time() < deadline, "a container is left"
        time.sleep(0.2)


SAVES = """sh -c 'trap "touch $OUT/saved; exit 143" TERM; touch $OUT/ready; while :; do sleep 0.1; done'; exit $?"""


def test_running_task_saves_its_state_before_its_container_is_removed(client, tmp_path):
    client.containers.run(
        BASE,
        ["-c", SAVES],
        entrypoint=["sh"],
        detach=True,
        labels={OUT_LABEL: str(tmp_path)},
        environment={"OUT": str(tmp_path)},
        mounts=[Mount(str(tmp_path), str(tmp_path), type="bind")],
        network_mode="none",
    )
    deadline = time.time() + 60
    while not (tmp_path / "ready").exists():
        assert time.time() < deadline
        time.sleep(0.1)
    remove_containers(client, tmp_path)
    assert (tmp_path / "saved").exists()
    assert of_study(client, tmp_path) == []


def wait_for(what, process):
    deadline = time.time() + 120
    while not what():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.time() < deadline
        time.sleep(0.1)


def test_missing_daemon_or_image_is_one_line(cli, docker_host, tmp_path):
    spec = write_spec(tmp_path)
    run = ("study", "run", spec, "--out", tmp_path / "out", "--runner", "docker")
    nobody = cli(*run, cwd=tmp_path, DOCKER_HOST=f"unix://{tmp_path}/nobody")
    assert (nobody.returncode, len(nobody.stderr.splitlines())) == (2, 1), nobody.stderr
    assert "no Docker daemon answers" in nobody.stderr
    missing = cli(*run, "--image", "localhost/no/such:1", cwd=tmp_path, DOCKER_HOST=docker_host)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1), missing.stderr
    assert "has no image localhost/no/such:1" in missing.stderr
    assert not (tmp_path / "out").exists()


def test_inputs_are_mounted_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "games").mkdir()
    text, paths = absolute_inputs(write_spec(tmp_path, source={"games": "games"}).read_text())
    assert paths == [tmp_path / "games"]
    assert yaml.safe_load(text)["source"]["games"] == str(tmp_path / "games")
    remote = yaml.safe_dump(SPEC | {"source": {"corpus": "s3://bucket/corpus"}})
    assert absolute_inputs(remote) == (remote, [])
    with pytest.raises(ValueError, match=r"source\.games: nowhere is not there"):
        absolute_inputs(yaml.safe_dump(SPEC | {"source": {"games": "nowhere"}}))
