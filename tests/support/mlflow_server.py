"""A real MLflow server on a real PostgreSQL, which can be killed and started again."""

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import s3_server


def postgres_tools():
    """The folder of PostgreSQL's programs, None where there are none."""
    found = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))
    path = found[-1] if found else shutil.which("initdb")
    return Path(path).parent if path else None


@contextlib.contextmanager
def postgres(*arguments):
    """A database server of its own; its URI. It refuses to run as root: then as the user that Debian made for it.

    `arguments` go to the server's command line.
    """
    tools, port = postgres_tools(), s3_server.free_port()
    folder = Path(tempfile.mkdtemp(prefix="playscale-postgres-"))
    settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder}
    if os.geteuid() == 0:
        settings |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    data = folder / "data"
    subprocess.run([tools / "initdb", "-D", data, "-A", "trust", "-U", "playscale", "-N"], check=True, **settings)
    options = [
        "-D",
        data,
        "-p",
        str(port),
        "-k",
        folder,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
        *arguments,
    ]
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
    """`mlflow server` on a database, artifacts proxied to a folder; always on the same port.

    `arguments` and `environment` are added to its command line and its variables.
    """

    def __init__(self, database, artifacts, log, *arguments, environment=None):
        self.port = s3_server.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", database, "--artifacts-destination", str(artifacts), "--serve-artifacts", *arguments,
        ]  # fmt: skip
        self._environment = environment or {}
        self._process = None

    def start(self):
        hidden = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment |= self._environment
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._healthy() or self._process.poll() is not None, 600, "MLflow hangs")
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


def wait_until(condition, seconds, otherwise):
    """Wait for it; fails with `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
