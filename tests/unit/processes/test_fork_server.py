"""Forks of a server that has imported modules behave as processes of their own."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from process_state import gone

from playscale.processes import fork_server
from playscale.processes.fork_server import ADDRESS, Fork, fork
from playscale.processes.worker import WorkerDiedError, WorkerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are started, not forked")


@pytest.fixture(scope="module")
def server():
    """A server that has imported a module of the standard library that nothing else does."""
    with fork_server.fork_server(["this_is_not_there", "colorsys"], {"PLANTED": "by the server"}):
        yield


def run(code, tmp_path):
    """Run code in a fork; its exit code, stdout and stderr."""
    files = [(tmp_path / name).open("w+b") for name in ("out", "err")]
    with Path(os.devnull).open() as null:
        process = fork(["-c", code], {0: null.fileno(), 1: files[0].fileno(), 2: files[1].fileno()})
    code = process.wait(60)
    for file in files:
        file.seek(0)
    return code, *(file.read().decode() for file in files)


def test_fork_runs_code_with_the_imports_of_the_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", "by the client")
    monkeypatch.chdir(tmp_path)
    code = 'import os, sys; print("colorsys" in sys.modules, os.environ["PLANTED"], os.getcwd(), __name__)'
    assert run(code, tmp_path) == (0, f"True by the client {tmp_path} __main__\n", "")


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import atexit; atexit.register(print, 'at exit')", 0, ""),
    ],
)
def test_exit_code_is_that_of_an_interpreter(server, tmp_path, code, exit_code, said):
    assert run(code, tmp_path)[::2] == (exit_code, said)


def test_fork_prints_its_traceback_and_runs_what_was_registered_for_the_exit(server, tmp_path):
    code, out, err = run("import atexit\natexit.register(print, 'left')\nraise ValueError('planted')", tmp_path)
    assert (code, out) == (1, "left\n")
    assert err.endswith("ValueError: planted\n")


def test_fork_waits_for_its_threads(server, tmp_path):
    code = "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()"
    assert run(code, tmp_path)[:2] == (0, "late\n")


def test_descriptors_have_the_numbers_asked_for_however_high(server, tmp_path):
    numbers = [1005, 1004, 1003, 40]
    files = [tmp_path / str(number) for number in numbers]
    for file in files:
        file.write_text(file.name)
    with ExitStack() as stack:
        opened = [stack.enter_context(file.open()) for file in [*[Path(os.devnull)] * 3, *files]]
        code = f"import os; assert [os.read(number, 9) for number in {numbers}] == [b'1005', b'1004', b'1003', b'40']"
        process = fork(["-c", code], dict(zip([0, 1, 2, *numbers], (file.fileno() for file in opened), strict=True)))
        assert process.wait(60) == 0


def test_waiting_ends_in_time_and_a_killed_fork_says_so(server):
    with Path(os.devnull).open("r+b", buffering=0) as null:
        process = fork(["-c", "import time; time.sleep(600)"], dict.fromkeys(range(3), null.fileno()))
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    process.kill()  # of one that has ended: nothing happens
    assert gone(process.pid, 10)


@contextmanager
def echo(setup):
    yield lambda message: [(setup, message, os.getppid(), os.getpgid(0))]


def test_worker_is_a_fork_of_the_server_in_a_group_of_its_own(server):
    with WorkerProcess("test_fork_server:echo", "setup") as worker:
        worker.send("message")
        setup, message, parent, group = worker.receive()
        assert (setup, message, group) == ("setup", "message", worker.pid)
        assert parent != os.getpid()
        assert psutil.Process(parent).ppid() == os.getpid()
    assert gone(worker.pid, 10)


def test_killed_worker_is_reported(server):
    with WorkerProcess("test_fork_server:echo", None) as worker:
        worker.send(1)
        worker.receive()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            worker.receive()


def test_client_that_is_gone_before_the_answer_leaves_the_server_to_others(server, tmp_path):
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0{os.environ[ADDRESS]}")
    assert run("", tmp_path)[0] == 0


def as_another_user(bytes_received):
    """Call a function in a fork that has given up its user; the pid of the fork, whose exit code is the answer."""
    if (pid := os.fork()) == 0:
        code = 99
        try:
            os.setuid(65534)
            code = bytes_received()
        finally:
            os._exit(code)
    return pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_server_forks_for_its_own_user_alone(server):
    def ask():
        connection = socket.socket(socket.AF_UNIX)
        connection.connect("\0" + os.environ[ADDRESS])
        return len(connection.recv(4))  # a process id has four bytes

    assert os.waitstatus_to_exitcode(os.waitpid(as_another_user(ask), 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_client_sends_nothing_to_another_users_server(monkeypatch):
    address = f"playscale-test-{os.urandom(8).hex()}"
    monkeypatch.setenv(ADDRESS, address)
    listens, ready = os.pipe()

    def listen():
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\0" + address)
        listener.listen()
        os.write(ready, b"x")
        connection, _ = listener.accept()
        return len(connection.recv(100))

    pid = as_another_user(listen)
    assert os.read(listens, 1) == b"x"
    assert fork(["-c", "pass"], {}) is None
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("address", ["", "nobody"])
def test_no_fork_without_a_server(monkeypatch, address):
    monkeypatch.setenv(ADDRESS, address)
    assert fork(["-c", ""], {}) is None


def test_fork_of_a_dead_server_has_ended():
    with fork_server.fork_server([], {}):
        with Path(os.devnull).open("r+b", buffering=0) as null:
            process = fork(["-c", "import time; time.sleep(600)"], dict.fromkeys(range(3), null.fileno()))
        assert isinstance(process, Fork)
        psutil.Process(psutil.Process(process.pid).ppid()).kill()
        assert process.wait(60) == -signal.SIGKILL
        os.kill(process.pid, signal.SIGKILL)
