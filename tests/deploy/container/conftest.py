"""Podman with the image of .ci/containers; without it a skip, but in CI (PLAYSCALE_REQUIRE_CLUSTER) a failure."""

import shutil
import subprocess
import time

import pytest
from resources import need

IMAGE = "playscale/playscale:0.2.0"


@pytest.fixture(scope="session")
def image():
    return IMAGE


@pytest.fixture(scope="session")
def podman():
    """Run `podman ...`; returns the completed process."""

    def run(*arguments, timeout=300):
        command = ["podman", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)

    need(shutil.which("podman"), "podman (.ci/containers installs it)")
    need(run("image", "exists", IMAGE).returncode == 0, f"image {IMAGE} (.ci/containers builds it)")
    return run


@pytest.fixture(scope="session")
def docker_host(podman, tmp_path_factory):
    """The address of podman's Docker socket."""
    address = f"unix://{tmp_path_factory.mktemp('podman')}/socket"
    service = subprocess.Popen(["podman", "system", "service", "--time=0", address])
    deadline = time.time() + 30
    while podman("--url", address, "--remote", "info").returncode:
        assert service.poll() is None, "podman's service ended"
        assert time.time() < deadline, "podman's service does not answer"
        time.sleep(0.2)
    yield address
    service.terminate()
    service.wait()
