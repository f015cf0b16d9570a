"""A real MLflow server on a real PostgreSQL, which can be killed and started again, and a proxy that makes faults."""

import collections
import contextlib
import http.client
import http.server
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import s3_server


def postgres_tools():
    """The folder of PostgreSQL's programs, None where there are none."""
    found = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))
    path = found[-1] if found else shutil.which("initdb")
    return Path(path).parent if path else None


@contextlib.contextmanager
def postgres():
    """A database server of its own; its URI. It refuses to run as root: then as the user that Debian made for it."""
    tools, port = postgres_tools(), s3_server.free_port()
    folder = Path(tempfile.mkdtemp(prefix="playscale-postgres-"))
    settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder}
    if os.geteuid() == 0:
        settings |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    data = folder / "data"
    subprocess.run([tools / "initdb", "-D", data, "-A", "trust", "-U", "playscale", "-N"], check=True, **settings)
    options = ["-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    process = subprocess.Popen([tools / "postgres", *options], **settings)
    try:
        ready = [tools / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "playscale", "-d", "postgres"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, 60, "PostgreSQL did not start")
        yield f"postgresql+psycopg2://playscale@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


class MlflowServer:
    """`mlflow server` on a database, artifacts proxied to a folder; always on the same port."""

    def __init__(self, database, artifacts, log):
        self.port = s3_server.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", database, "--artifacts-destination", str(artifacts), "--serve-artifacts",
        ]  # fmt: skip
        self._process = None

    def start(self):
        hidden = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._healthy() or self._process.poll() is not None, 180, "MLflow hangs")
        assert self._process.poll() is None, self.log.read_text()[-3000:]

    def _healthy(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        return False

    def kill(self):
        """With all its workers, at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


FAULTS = ("refuse", "lost", "cut", "stall", "503")


class FaultyProxy(http.server.ThreadingHTTPServer):
    """Forwards HTTP to a server; while `share` is above 0 that share of the requests gets a fault instead.

    refuse  the connection is closed before the request is forwarded
    lost    the server carries the request out, its answer is thrown away
    cut     the answer breaks off in its middle
    stall   the client hears nothing for longer than it waits; then the request is forwarded, late
    503     what a gateway answers whose server is not there

    `counts` are the faults made.
    """

    daemon_threads = True

    def __init__(self, server, seed=0, stall_seconds=2.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.stall_seconds = server, stall_seconds
        self.share, self.counts = 0.0, collections.Counter()
        self._dice, self._lock = random.Random(seed), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def fault(self):
        with self._lock:
            if self._dice.random() >= self.share:
                return None
            fault = self._dice.choice(FAULTS)
            self.counts[fault] += 1
            return fault

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """One client of the proxy."""

    protocol_version = "HTTP/1.1"

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault == "refuse":
            return self.hang_up()
        if fault == "503":
            return self.answer(503, b"no healthy upstream", "text/plain")
        if fault == "stall":
            time.sleep(self.server.stall_seconds)
        answer = self.forward(body)
        if answer is None or fault in {"lost", "stall"}:
            return self.hang_up()
        return self.answer(*answer, cut=fault == "cut")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def forward(self, body):
        """The status, body and type of the server's answer; None when it is not there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind.port, timeout=60)
        headers = dict(self.headers.items()) | {"Content-Length": str(len(body))}
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers.get("Content-Type", "")
        return None

    def answer(self, status, body, kind, cut=False):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.hang_up()

    def hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


def wait_until(condition, seconds, otherwise):
    """Wait for it; fails with `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
