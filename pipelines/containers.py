"""Tasks of a study in containers of this machine, with limited rights and a reliable exit code.

kfp.local 2.17 lets the daemon remove a container as soon as it ends, and takes one that is gone before its exit code is
read for a success (kubeflow/pipelines issue 13332). Here a container is removed after its exit code was read.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
import yaml
from docker.types import DeviceRequest, Mount
from kfp import local
from kfp.local import docker_task_handler

from playscale.storage.files import local_path
from playscale.study.spec import parse_spec
from playscale_components.image import IMAGE

STOP_SECONDS = 100.0  # within which tasks save their state: less than `study run` waits
OUT_LABEL = "playscale.out"  # label of a container: the directory of its study
PASSED_ON = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
    "OMP_NUM_THREADS", "PLAYSCALE_PROGRESS",
)  # fmt: skip


def connect(image: str) -> docker.DockerClient:
    """Connect to the Docker daemon, or podman's socket; ValueError when there is none or it lacks the image."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except docker.errors.DockerException as error:
        raise ValueError(
            f"no Docker daemon answers at {where}; start one, or podman's: podman system service --time=0 "
            "unix:///tmp/podman.sock, with DOCKER_HOST=unix:///tmp/podman.sock"
        ) from error
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound as error:
        raise ValueError(
            f"{where} has no image {image}; build it (docs/image.md) or name another by --image"
        ) from error
    return client


def check(spec: str) -> None:
    """Raise ValueError when a study cannot run in containers here: no daemon, no image, or a missing input."""
    absolute_inputs(spec)
    connect(IMAGE)


def absolute_inputs(spec: str) -> tuple[str, list[Path]]:
    """Return the spec with absolute paths of its local inputs, and these paths. ValueError for a missing one."""
    data, paths = yaml.safe_load(spec), []
    for name, given in parse_spec(spec).inputs().items():
        if "://" in given:
            continue
        group, key = name.split(".")
        path = local_path(given).resolve()
        if not path.exists():
            raise ValueError(f"{name}: {given} is not there")
        data[group][key] = str(path)
        paths.append(path)
    return (yaml.safe_dump(data, sort_keys=False), paths) if paths else (spec, paths)


@contextmanager
def containers(out: Path, inputs: list[Path]) -> Iterator[local.DockerRunner]:
    """Yield a runner for kfp.local. No container is left when this process has ended, even if it is killed."""
    client = connect(IMAGE)
    remove_containers(client, out)  # left when the machine went down
    docker_task_handler.run_docker_container = _run
    command = [sys.executable, "-P", "-m", "playscale_pipelines.containers", str(out)]
    cleaner = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    with cleaner:  # its stdin closes on leaving, and when this process ends in any way
        yield _runner(client, out, inputs)


def _runner(client: docker.DockerClient, out: Path, inputs: list[Path]) -> local.DockerRunner:
    """Return a runner: read-only except OUT and /tmp, no capabilities, the calling user, this machine's network."""
    info = client.info()
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    user = "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"  # rootless, the container's 0 is the calling user
    mounts = [Mount(str(out), str(out), type="bind")]
    mounts += [Mount(str(path), str(path), type="bind", read_only=True) for path in inputs]
    gpus: dict[str, Any] = {}
    if "nvidia" in (info.get("Runtimes") or {}):
        gpus = {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}
    return local.DockerRunner(
        user=user,
        read_only=True,
        tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108 - NetHack's library is loaded from a copy of it there
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        shm_size="1g",
        network_mode="host",
        mounts=mounts,
        labels={OUT_LABEL: str(out)},
        environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **gpus,
    )


def _run(client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
    """Run a command in a container, print its output, remove the container and return the exit code."""
    container = client.containers.create(
        image, entrypoint=command[:1], command=command[1:], volumes=volumes, **arguments
    )
    try:
        container.start()
        for line in container.logs(stream=True, follow=True):
            print(line.decode(errors="replace"), end="")  # kfp.local indents what is printed
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def remove_containers(client: docker.DockerClient, out: Path) -> None:
    """Remove every container, running or not, of the study in a directory. Running tasks first save their state.

    Their signal goes to all processes of the container but the first: that is a shell, which ignores it.
    """
    found = client.containers.list(all=True, ignore_removed=True, filters={"label": f"{OUT_LABEL}={out}"})
    running = [container for container in found if container.status == "running"]
    for container in running:
        with suppress(docker.errors.APIError):  # it was just ending
            container.exec_run(["sh", "-c", "kill -TERM -1"])
    deadline = time.monotonic() + STOP_SECONDS
    for container in running:
        with suppress(docker.errors.APIError, requests.RequestException):
            container.wait(timeout=max(1.0, deadline - time.monotonic()))
    for container in found:
        with suppress(docker.errors.NotFound):  # it was just being removed
            container.remove(force=True)


if __name__ == "__main__":  # waits for the end of the study's process
    sys.stdin.read()
    remove_containers(docker.from_env(), Path(sys.argv[1]))
