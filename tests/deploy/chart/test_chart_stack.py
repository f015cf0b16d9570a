"""The release itself under podman: MLflow on Postgres and S3 as the chart renders them, a study logged from outside."""

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
from rendered import example, find, merged, render
from resources import need
from s3_server import free_port
from stack import Stack, podman

from playscale.points import read_points
from playscale.tracking.client import TrackingClient

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
IMAGE = "localhost/playscale/playscale:0.2.0"
POSTGRES, RCLONE = "localhost/playscale-test/postgres:15", "localhost/playscale-test/rclone:1"
NAME = "playscale-test"
SERVER, DATABASE, STORE = (f"{NAME}-{part}" for part in ("mlflow", "postgres", "s3"))
STUDY = "example"
REPORT = b"<h1>A study</h1>" + os.urandom(20_000_000)  # several parts of an upload and of a download

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The images of the release: ours, which .ci/containers builds, and two small ones."""
    need(shutil.which("podman"), "podman (.ci/containers installs it)")
    need(podman("images", "--quiet", IMAGE, check=False).strip(), f"image {IMAGE} (.ci/containers builds it)")
    context = tmp_path_factory.mktemp("rclone")
    shutil.copy(HERE / "images/rclone/Containerfile", context)
    shutil.copy(Path(sys.executable).parent / "rclone", context)
    for tag, folder in ((POSTGRES, HERE / "images/postgres"), (RCLONE, context)):
        podman("build", "--quiet", "--network=host", f"--tag={tag}", f"--file={folder}/Containerfile", folder)


@pytest.fixture(scope="module")
def values():
    image, _, tag = IMAGE.rpartition(":")
    return merged(
        example("kind"),
        {
            "image": {"repository": image, "tag": tag, "pullPolicy": "Never"},
            "mlflow": {"port": free_port()},
            "postgres": {"image": POSTGRES, "port": free_port(), "password": "p@ss/word %41 'quoted'"},
            "s3": {"image": RCLONE, "port": free_port()},
            "ingress": {"enabled": True, "hosts": ["mlflow.example"], "tlsSecret": "t"},
        },
    )


@pytest.fixture(scope="module")
def stack(images, values, tmp_path_factory):
    stack = Stack(render(values, name=NAME), tmp_path_factory.mktemp("stack"))
    stack.remove()
    stack.keep()
    yield stack
    stack.remove()


def start(stack, port):
    for name in (DATABASE, STORE):
        stack.play(name)
    deadline = time.monotonic() + 120
    while True:  # a cluster tries a pod again whose migration found no database
        stack.down(SERVER)
        try:
            stack.play(SERVER)
            break
        except AssertionError:
            assert time.monotonic() < deadline, stack.logs(SERVER) + stack.logs(DATABASE)
            time.sleep(1)
    while status(port, "/health") != 200:
        assert time.monotonic() < deadline, stack.logs(SERVER)
        time.sleep(0.5)


def status(port, path, host=None, **headers):
    """The HTTP status of a request; 0 while nobody listens. With `body`, a POST."""
    body = headers.pop("body", None)
    sent = {"Host": host} if host else {}
    sent |= {"Content-Type": "application/json"} | {k.title(): v for k, v in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def port(stack, values):
    """The server's, with a study logged to it."""
    port = values["mlflow"]["port"]
    start(stack, port)
    log_study(f"http://127.0.0.1:{port}", stack.folder)
    return port


def log_study(uri, folder):
    experiment = TrackingClient(STUDY, uri).connect()
    for point in read_points(ROOT / "studies/example/points.csv"):
        experiment.log_point(point)
    fit = experiment.start("fit", "fit")
    (folder / "report.html").write_bytes(REPORT)
    fit.log_artifacts(folder / "report.html", "report")
    fit.log_artifacts(ROOT / "docs/images", "figures")
    fit.finish()


def study(uri, folder):
    """The study as the server gives it back: its points and the bytes of its report."""
    experiment = TrackingClient(STUDY, uri).connect(create=False)
    (fit,) = experiment.runs("fit")
    path = experiment.client.download_artifacts(fit.info.run_id, "report/report.html", str(folder))
    return sorted(experiment.points(), key=str), Path(path).read_bytes()


def test_a_study_outlives_every_pod(stack, port, tmp_path):
    uri = f"http://127.0.0.1:{port}"
    points, report = study(uri, tmp_path)
    assert points == sorted(read_points(ROOT / "studies/example/points.csv"), key=str)
    assert len(points) >= 20
    assert report == REPORT
    for name in (SERVER, DATABASE, STORE):
        stack.down(name)
    assert status(port, "/health") == 0
    start(stack, port)
    (tmp_path / "again").mkdir()
    assert study(uri, tmp_path / "again") == (points, report)


def test_rows_are_in_postgres_and_artifacts_in_s3(stack, port, values):
    postgres, s3 = values["postgres"], values["s3"]
    query = "select count(*) from runs"
    asked = ["psql", "-h", "/var/run/postgresql", "-p", str(postgres["port"]), "-U", "mlflow", "-tAc", query, "mlflow"]
    assert int(podman("exec", f"{DATABASE}-postgres", *asked)) >= 25
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{s3['port']}",
        aws_access_key_id=s3["accessKey"],
        aws_secret_access_key=s3["secretKey"],
        region_name="us-east-1",
    )
    found = {o["Key"]: o["Size"] for o in client.list_objects_v2(Bucket="playscale", Prefix="mlflow/")["Contents"]}
    assert [size for key, size in found.items() if key.endswith("/report.html")] == [len(REPORT)]


def test_the_database_wants_its_password(stack, port, values):
    asked = [
        "psql",
        "-h",
        "127.0.0.1",
        "-p",
        str(values["postgres"]["port"]),
        "-U",
        "mlflow",
        "-c",
        "select 1",
        "mlflow",
    ]
    with pytest.raises(AssertionError, match="password"):
        podman("exec", "--env=PGPASSWORD=wrong", f"{DATABASE}-postgres", *asked)


LIST = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_names_of_the_cluster_are_answered(stack, port):
    for name in [n for n in stack.hosts if n.startswith(SERVER)]:
        assert status(port, LIST, host=name) == 200, name
        assert status(port, LIST, host=f"{name}:{port}") == 200, name
    for name in ("localhost:8080", f"127.0.0.1:{port}", "mlflow.example"):
        assert status(port, LIST, host=name) == 200, name


@pytest.mark.parametrize(
    "host",
    ["rebound.example", f"{SERVER}.elsewhere.svc", "10.0.0.1:5000", f"{SERVER}.space.svc.cluster.local.evil.example"],
)
def test_server_refuses_other_host_names(port, host):
    assert status(port, LIST, host=host) == 403
    assert status(port, "/health", host=host) == 200  # the kubelet asks with the pod's address


def test_server_accepts_writes_from_pages_of_the_ingress_alone(port):
    search = "/ajax-api/2.0/mlflow/experiments/search"
    body = json.dumps({"max_results": 1}).encode()
    assert status(port, search, host="mlflow.example", body=body, origin="https://mlflow.example") == 200
    assert status(port, search, host="mlflow.example", body=body, origin="https://evil.example") == 403


def test_metrics_for_prometheus(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert "mlflow_http_request_duration_seconds" in text


def test_helm_test_passes(stack, port):
    name = f"{NAME}-check"
    stack.play(name)
    assert podman("wait", f"{name}-check").strip() == "0", stack.logs(name)
    assert "read it back, artifact included" in stack.logs(name)
    stack.down(name)


def test_containers_run_as_rendered(stack, port):
    for name, container in ((SERVER, "mlflow"), (DATABASE, "postgres"), (STORE, "s3")):
        found = stack.inspect(f"{name}-{container}")
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["EffectiveCaps"] in (None, [])
        owner = "Deployment" if container == "mlflow" else "StatefulSet"
        wanted = find(stack.documents, owner, name)["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        assert podman("exec", f"{name}-{container}", "id", "-u").strip() == str(wanted)
        done = podman("exec", f"{name}-{container}", "sh", "-c", "touch /etc/x 2>&1; true")
        assert "Read-only" in done


def test_no_secret_is_on_a_command_line(stack, port, values):
    shown = podman("exec", f"{STORE}-s3", "cat", "/proc/1/cmdline")
    shown += podman("exec", f"{SERVER}-mlflow", "cat", "/proc/1/cmdline")
    assert values["s3"]["secretKey"] not in shown
    assert "quoted" not in shown


@pytest.mark.browser
def test_the_page_shows_the_study(stack, port, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    experiment = TrackingClient(STUDY, f"http://127.0.0.1:{port}").connect(create=False).id
    page.goto(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs")
    page.get_by_text("bc-lstm-25k-s0").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=os.environ.get("PLAYSCALE_SCREENSHOT", str(tmp_path / "mlflow.png")))
    page.close()
