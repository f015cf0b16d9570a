"""Worker processes end with their parent, their failures are reported, and a container's CPU limit counts."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from process_state import gone

import playscale
from playscale.processes import WorkerDiedError, WorkerError, WorkerProcess, run_tasks, usable_cores

BOUND = len(os.sched_getaffinity(0))


def test_follower_ends_when_the_followed_is_killed():
    followed = subprocess.Popen(["sleep", "60"])
    follow = f"from playscale.processes import follow; follow({followed.pid})"
    code = f"{follow}; print(1, flush=True); import time; time.sleep(60)"
    follower = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert follower.stdout.readline() == b"1\n"
    assert follower.poll() is None
    os.kill(followed.pid, signal.SIGKILL)
    followed.wait()
    assert follower.wait(timeout=10) == 1


def test_following_a_process_that_is_gone_ends_at_once():
    gone = subprocess.Popen(["true"])
    gone.wait()
    started = time.time()
    code = f"from playscale.processes import follow; import time; follow({gone.pid}); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    assert time.time() - started < 30


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("max 100000\n", BOUND),
        (f"{BOUND * 100000 + 900000} 100000\n", BOUND),
    ],
)
def test_the_limit_of_the_container_counts_where_it_is_less(tmp_path, limit, cores):
    path = tmp_path / "cpu.max"
    path.write_text(limit)
    assert usable_cores(path) == cores


def test_without_a_cgroup_the_cores_this_process_is_bound_to_count(tmp_path):
    assert usable_cores(tmp_path / "nothing") == BOUND


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
    with WorkerProcess("test_processes:echo", "setup") as worker:
        worker.send(1)
        assert worker.receive() == ("setup", 1)
        pid = worker.pid
    assert gone(pid, 0.1)


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        ("test_processes:unready", ValueError, "cannot be set up"),
        ("test_processes:nothing", WorkerError, "AttributeError"),
        ("no_such_module:echo", WorkerError, "ModuleNotFoundError"),
    ],
)
def test_a_worker_that_cannot_start_says_why(entry, error, text):
    with WorkerProcess(entry, None) as worker, pytest.raises(error, match=text):
        worker.receive()


def test_folders_of_the_user_hide_no_package(tmp_path, monkeypatch):
    """A working directory with a `playscale` of its own, which may lie on sys.path as it does in a notebook."""
    for name in ("playscale", "users_own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    with WorkerProcess("test_processes:where", None) as worker:
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
