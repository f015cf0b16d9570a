"""What `helm test` runs, against servers that are as they should not be: one line with the cause, and an early end."""

import subprocess
import sys
import threading

import pytest
from json_server import Handler, serving
from rendered import CHART
from s3_server import free_port

INFO = "/api/3.0/mlflow/server-info"
LIST = "/api/2.0/mlflow/experiments/search?max_results=1"


class Server(Handler):
    """Answers by path with what the test has put there; a path it does not know gets no answer until the test ends.

    The connections of the first `lost` requests end without an answer.
    """

    def do_GET(self):
        if self.server.lost:
            self.server.lost -= 1
            return
        if self.path not in self.server.answers:
            self.server.ended.wait(60)
            return
        status, value = self.server.answers[self.path]
        self.answer(value, status)


@pytest.fixture
def server():
    with serving(Server, answers={}, lost=0, ended=threading.Event()) as server:
        yield server
        server.ended.set()


def check(port, seconds=30, presigned="false", own="true", login="false"):
    """Run check.py; the one line that it ends with."""
    settings = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "CHECK_SECONDS": str(seconds)}
    done = subprocess.run(
        [sys.executable, CHART / "files/check.py"],
        env=settings | {"PRESIGNED_URLS": presigned, "OWN_SERVER": own, "LOGIN": login},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_check_names_a_server_that_sends_its_clients_to_s3(server):
    server.answers[INFO] = 200, {"multipart_downloads_enabled": True}
    line = check(server.server_port)
    assert "the server sends its clients to its S3" in line
    assert "s3-proxied://" in line


def test_check_names_a_server_that_answers_strangers(server):
    server.answers[INFO] = 200, {"multipart_downloads_enabled": True}
    server.answers[LIST] = 200, {}
    line = check(server.server_port, presigned="true")
    assert "got 200 in place of 403; see mlflow.allowedHosts" in line


def test_check_names_a_server_that_asks_nobody_for_a_login(server):
    server.answers[INFO] = 200, {}
    server.answers[LIST] = 200, {}
    line = check(server.server_port, own="false", login="true")  # of another's server, hosts are its own affair
    assert "asking without a login: ValueError: a request without a login got 200 in place of 401" in line


def test_check_ends_by_itself_when_there_is_no_answer(server):
    line = check(server.server_port, seconds=1)
    assert "no end after 1 s in all; its pod has to be ready, and the policies to let this pod reach it" in line


def test_check_names_a_server_that_is_not_there():
    assert "Connection refused" in check(free_port(), seconds=3)


def test_check_asks_again_while_the_server_is_out_of_reach(server):
    """As it is from a pod that has just started, until the network policies let it through."""
    server.answers |= {INFO: (200, {}), LIST: (200, {})}
    server.lost = 2
    assert "got 200 in place of 403; see mlflow.allowedHosts" in check(server.server_port)
    assert server.lost == 0
