"""The image as a cluster runs it: any user, nothing writable but /tmp, no capabilities; and what is not in it."""

import json
import time

import pytest

TMP = "/tmp"  # noqa: S108 - of the container
HARDENED = ("--read-only", "--tmpfs", f"{TMP}:rw,exec,mode=1777", "--cap-drop=all", "--security-opt=no-new-privileges")
ARBITRARY = (*HARDENED, "--user", "12345:0", "--network", "none")
TIDY = """
import os, shutil, sys
found = [name for name in ("pip", "gcc", "cc", "g++", "make") if shutil.which(name)]
found += [f for f in ("/var/lib/apt/lists", "/root/.cache", "/build") if os.path.isdir(f) and os.listdir(f)]
found += [f for f in ("/etc/pip.conf", "/run/wheels", "/run/ca.crt") if os.path.exists(f)]
found += [d for d, _, _ in os.walk(sys.prefix) if d.endswith(("torch/include", "torch/test"))]
print(found)
"""


@pytest.fixture(scope="module")
def described(podman, image):
    return json.loads(podman("image", "inspect", image).stdout)[0]


def test_image_runs_as_any_user_with_a_read_only_root(podman, image):
    result = podman("run", "--rm", *ARBITRARY, image, "--help")
    assert result.returncode == 0, result.stderr
    assert "study" in result.stdout


def test_a_real_job_runs_as_anybody_with_a_read_only_root(podman, image, tmp_path):
    games = tmp_path / "games"
    games.mkdir(mode=0o777)
    games.chmod(0o777)
    arguments = ("collect", "--game", "nethack", "--games", "2", "--max-steps", "200", "--out", "/games/of")
    result = podman("run", "--rm", *ARBITRARY, "-v", f"{games}:/games", image, *arguments)
    assert result.returncode == 0, result.stderr
    recordings = list(games.rglob("*.ttyrec3.bz2"))
    assert len(recordings) == 2
    assert {path.stat().st_uid for path in recordings} == {12345}


@pytest.mark.parametrize("init", [(), ("--entrypoint", "playscale")], ids=["tini", "none"])
def test_stopped_container_ends_in_time_with_its_state_saved(podman, image, tmp_path, init):
    games = tmp_path / "games"
    games.mkdir(mode=0o777)
    games.chmod(0o777)
    arguments = ("collect", "--games", "500", "--max-steps", "50", "--workers", "1", "--out", "/games/of")
    started = podman("run", "--detach", *ARBITRARY, "-v", f"{games}:/games", *init, image, *arguments)
    assert started.returncode == 0, started.stderr
    container = started.stdout.strip()
    try:
        deadline = time.monotonic() + 120
        while not list(games.glob("of/game-*")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        podman("stop", "--time", "60", container)
        assert podman("wait", container).stdout.strip() == "143"  # killed, it would be 137
        rows = json.loads((games / "of/collect.json").read_text())["games"]
        assert len(rows) == len(list(games.glob("of/game-*")))
    finally:
        podman("rm", "--force", container)


def test_all_that_a_pod_uses_can_be_imported(podman, image):
    modules = (
        "torch nle mlflow kfp.dsl.executor_main playscale.study.steps playscale.training.bc playscale.report.report "
        "psycopg2 prometheus_flask_exporter playscale_pipelines.study_pipeline "
        "playscale.tracking.mlflow_tracker sklearn "
        "pandas matplotlib.pyplot"
    )
    code = f"import {', '.join(modules.split())}; print(torch.ones(2).sum().item())"
    result = podman("run", "--rm", *ARBITRARY, "--entrypoint", "python3", image, "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "2.0\n"


def test_the_mlflow_server_starts_in_it(podman, image):
    result = podman("run", "--rm", *ARBITRARY, "--entrypoint", "mlflow", image, "server", "--help")
    assert result.returncode == 0, result.stderr
    assert "--expose-prometheus" in result.stdout


def test_the_mlflow_server_knows_the_artifact_repository_of_the_chart(podman, image):
    code = "import mlflow.store.artifact.artifact_repository_registry as r; r.get_artifact_repository('s3-proxied://b')"
    result = podman("run", "--rm", *ARBITRARY, "--entrypoint", "python3", image, "-c", code)
    assert result.returncode == 0, result.stderr


def test_mlflow_in_it_reports_to_nobody(podman, image):
    code = "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    result = podman("run", "--rm", *ARBITRARY, "--entrypoint", "python3", image, "-c", code)
    assert result.stdout == "True\n", result.stderr


def test_nothing_of_the_build_is_left_in_it(podman, image):
    result = podman("run", "--rm", *ARBITRARY, "--entrypoint", "python3", image, "-c", TIDY)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_image_has_its_user_and_labels(described):
    assert described["Config"]["User"] == "10001:0"
    labels = described["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.2.0"
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert not [item for item in described["Config"]["Env"] if "CERT" in item or "PIP_" in item]


def test_image_is_not_larger_than_its_limit(described, image):
    size = described["Size"] / 1e9
    print(f"{image}: {size:.2f} GB")
    assert size < 2.0  # raise it when a dependency grew, not when a cache came in


def test_the_bill_of_materials_lists_what_is_installed(podman, image):
    shown = podman("run", "--rm", "--entrypoint=cat", image, "/opt/playscale/sbom.cdx.json")
    assert shown.returncode == 0, shown.stderr
    bill = json.loads(shown.stdout)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "playscale"
    listed = {f"{part['name'].lower()}=={part['version']}" for part in bill["components"]}
    code = "from importlib.metadata import distributions as d; print(*(f'{x.name.lower()}=={x.version}' for x in d()))"
    installed = podman("run", "--rm", "--entrypoint=python", image, "-c", code)
    assert installed.returncode == 0, installed.stderr
    assert listed == {pin for pin in installed.stdout.split() if not pin.startswith("playscale==")}
