"""A real S3 server (rclone's) on loopback, and a proxy that breaks connections off."""

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# What lies in the folder is what the server shows, at once, and the other way round. (With 0s in place of 1ms it takes
# a whole core, and requests that come side by side may wait for one another for ever.)
UNCACHED = ("--vfs-cache-mode=off", "--dir-cache-time=1ms")
ACCESS, SECRET = "PLAYSCALETESTACCESS0", "playscale-test-secret"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(endpoint):
    """Variables by which boto3 finds the server and its keys."""
    keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"} | keys


@contextlib.contextmanager
def serve(root):
    """An S3 endpoint whose buckets are the folders of `root`."""
    port = free_port()
    beside = Path(sys.executable).parent / "rclone"
    rclone = str(beside) if beside.exists() else shutil.which("rclone")
    arguments = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS},{SECRET}", "--config", "/dev/null"]
    with subprocess.Popen(
        [rclone, "serve", "s3", *arguments, *UNCACHED, str(root)],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.time() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.time() < deadline, "rclone did not start"
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextlib.contextmanager
def breaking_proxy(endpoint, after, times):
    """Forwards to an endpoint, but breaks the first `times` answers of more than `after` bytes off there."""
    host, port = endpoint.removeprefix("http://").split(":")
    left, broken = threading.Semaphore(times), []

    def pump(source, sink, sent_limit):
        sent = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sent += len(data)
                if sent_limit and sent > after and left.acquire(blocking=False):
                    broken.append(sent)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                threading.Thread(target=pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, True), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", broken
        listener.shutdown(socket.SHUT_RDWR)
