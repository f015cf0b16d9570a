"""Worker processes answer, fail and end with their parent."""

import os
import signal
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from process_state import gone

import playscale
from playscale.processes import worker as worker_module
from playscale.processes.worker import WorkerDiedError, WorkerError, WorkerProcess, run_tasks


@contextmanager
def echo(setup):
    """A worker that answers its setup and the message."""
    yield lambda message: [(setup, message)]


@contextmanager
def where(setup):
    """A worker that answers from which files it would import these modules."""
    from importlib.util import find_spec

    yield lambda modules: [[find_spec(module).origin for module in modules]]


@contextmanager
def unready(setup):
    raise ValueError("cannot be set up")
    yield


def test_a_worker_answers():
    with WorkerProcess("test_worker:echo", "setup") as worker:
        worker.send(1)
        assert worker.receive() == ("setup", 1)
        pid = worker.pid
    assert gone(pid, 0.1)


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        ("test_worker:unready", ValueError, "cannot be set up"),
        ("test_worker:nothing", WorkerError, "AttributeError"),
        ("no_such_module:echo", WorkerError, "ModuleNotFoundError"),
    ],
)
def test_a_worker_that_cannot_start_says_why(entry, error, text):
    with WorkerProcess(entry, None) as worker, pytest.raises(error, match=text):
        worker.receive()


def test_workers_that_do_not_answer_are_named(monkeypatch):
    said = []
    with WorkerProcess("test_worker:echo", "setup") as worker:

        def warn(text, *values):
            said.append(text % values)
            os.kill(worker.pid, signal.SIGCONT)

        monkeypatch.setattr(worker_module, "SILENT_SECONDS", 0.01)
        monkeypatch.setattr(worker_module.log, "warning", warn)
        os.kill(worker.pid, signal.SIGSTOP)
        worker.send(1)
        assert worker_module.wait_for_any([worker], "workers of the test") == [worker]
        assert worker.receive() == ("setup", 1)
    assert said[0] == f"no answer for 0 s from the workers of the test with process id {worker.pid}"


def test_folders_of_the_user_hide_no_package(tmp_path, monkeypatch):
    """A working directory with a `playscale` of its own, which may lie on sys.path as it does in a notebook."""
    for name in ("playscale", "users_own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    with WorkerProcess("test_worker:where", None) as worker:
        worker.send(["playscale", "users_own"])
        ours, theirs = map(Path, worker.receive())
    assert ours == Path(playscale.__file__)
    assert theirs.resolve() == tmp_path / "users_own" / "__init__.py"


def task(number):
    if number == 2:
        raise ValueError("two")
    if number == 3:
        raise ZeroDivisionError("three")
    if number == 4:
        os._exit(5)
    if number == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    return os.getpid(), number**2


def test_tasks_fail_one_by_one():
    with closing(run_tasks(task, range(9), 2, quiet=True)) as results:
        found = dict(results)
    assert {number: found[number][1] for number in (0, 1, 6, 7, 8)} == {0: 0, 1: 1, 6: 36, 7: 49, 8: 64}
    assert str(found[2]) == "two"
    assert type(found[2]) is ValueError
    assert (type(found[3]), str(found[3])) == (WorkerError, "ZeroDivisionError: three")
    assert (type(found[4]), found[4].exit_code) == (WorkerDiedError, 5)
    assert (type(found[5]), found[5].exit_code) == (WorkerDiedError, -signal.SIGSEGV)
    assert all(gone(result[0], 0.1) for result in found.values() if isinstance(result, tuple))


def wait_long(number):
    time.sleep(60 * number)
    return os.getpid()


def test_tasks_at_work_are_ended_with_the_iterator():
    started = time.time()
    with closing(run_tasks(wait_long, [0, 1, 1], 2)) as results:
        _, pid = next(results)
    assert gone(pid, 0.1)
    assert time.time() - started < 30


def test_tasks_of_workers_that_cannot_start(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "unit" not in path])  # where `task` is found
    with closing(run_tasks(task, [0], 1)) as results, pytest.raises(OSError, match="could not start: ModuleNotFound"):
        next(results)


def test_worker_killed_at_its_start_says_so(tmp_path, monkeypatch):
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dies))
    large = bytes(10_000_000)  # does not fit into the socket
    with pytest.raises(WorkerDiedError, match=r"process \d+ was killed by SIGKILL \(out of memory\?\)"):
        WorkerProcess("test_worker:echo", large)
    with (
        closing(run_tasks(task, [0], 1)) as results,
        pytest.raises(OSError, match=r"a worker process could not start: worker process \d+ was killed by SIGKILL"),
    ):
        next(results)


def test_worker_leaves_signals_of_the_whole_job_to_its_parent():
    with WorkerProcess("test_worker:echo", "setup") as worker:
        worker.send(0)
        worker.receive()
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid, number)
        worker.send(1)
        assert worker.receive() == ("setup", 1)
