"""Worker processes end with their parent, signals end a command, and a container's CPU limit counts."""

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
from playscale import processes
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


ONE, HALF, ALL, MANY = "100000 100000", "50000 100000", "max 100000", f"{BOUND * 100000 + 900000} 100000"


@pytest.mark.parametrize(
    ("own", "limits", "cores"),
    [
        (None, {}, BOUND),
        (None, {"cpu.max": ONE}, 1),
        (None, {"cpu.max": HALF}, 1),
        (None, {"cpu.max": ALL}, BOUND),
        (None, {"cpu.max": MANY}, BOUND),
        ("0::/job/step", {"cpu.max": ALL, "job/cpu.max": ONE, "job/step/cpu.max": ALL}, 1),  # of a batch system
        ("0::/job/step", {"job/step/cpu.max": ONE}, 1),
        ("0::/docker/abc", {"cpu.max": ONE}, 1),  # the path is one of the host
        ("4:cpu,cpuacct:/docker/abc", {"cpu": ONE}, 1),
        ("4:cpuacct,cpu:/job", {"cpu/job": ONE, "cpu": "-1 100000"}, 1),
        ("1:cpu:/", {"cpu": "-1 100000"}, BOUND),
        ("3:cpuset:/", {"cpu": "what"}, BOUND),
    ],
)
def test_cpu_limits_of_control_groups_count_where_they_are_less(tmp_path, own, limits, cores):
    if own is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"{own}\n9:memory:/other\n")
    for name, text in limits.items():
        path = tmp_path / "sys/fs/cgroup" / name
        if name.endswith("cpu.max"):  # version 2
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        else:
            path.mkdir(parents=True, exist_ok=True)
            for kind, value in zip(("quota", "period"), text.split(), strict=False):
                (path / f"cpu.cfs_{kind}_us").write_text(value + "\n")
    assert usable_cores(tmp_path) == cores


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


def test_workers_that_do_not_answer_are_named(monkeypatch):
    said = []
    with WorkerProcess("test_processes:echo", "setup") as worker:

        def warn(text, *values):
            said.append(text % values)
            os.kill(worker.pid, signal.SIGCONT)

        monkeypatch.setattr(processes, "SILENT_SECONDS", 0.01)
        monkeypatch.setattr(processes.log, "warning", warn)
        os.kill(worker.pid, signal.SIGSTOP)
        worker.send(1)
        assert processes.wait_for_any([worker], "workers of the test") == [worker]
        assert worker.receive() == ("setup", 1)
    assert said[0] == f"no answer for 0 s from the workers of the test with process id {worker.pid}"


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


def test_worker_killed_at_its_start_says_so(tmp_path, monkeypatch):
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dies))
    large = bytes(10_000_000)  # does not fit into the socket
    with pytest.raises(WorkerDiedError, match=r"process \d+ was killed by SIGKILL \(out of memory\?\)"):
        WorkerProcess("test_processes:echo", large)
    with (
        closing(run_tasks(task, [0], 1)) as results,
        pytest.raises(OSError, match=r"a worker process could not start: worker process \d+ was killed by SIGKILL"),
    ):
        next(results)


def test_worker_leaves_signals_of_the_whole_job_to_its_parent():
    with WorkerProcess("test_processes:echo", "setup") as worker:
        worker.send(0)
        worker.receive()
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid, number)
        worker.send(1)
        assert worker.receive() == ("setup", 1)


STOPPABLE = """
import sys, time
from playscale.processes import Stopped, stop_held, stop_signal, stoppable
with stoppable():
    if sys.argv[1] == "held":
        with stop_held():
            print("ready", flush=True)
            while not stop_signal():
                time.sleep(0.01)
            print("saved", flush=True)
    print("ready", flush=True)
    time.sleep(60)
"""
ENDS_IN_TIME = 30


def start(code, *arguments):
    """Start Python; signals have their usual meaning, also where this test runs in the background of a shell."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-c", code, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes)
    signal.signal(signal.SIGINT, usual)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("when", ["at once", "held"])
def test_signals_end_a_command_with_their_exit_code(when, number, code):
    process = start(STOPPABLE, when)
    process.send_signal(number)
    out, err = process.communicate(timeout=ENDS_IN_TIME)
    assert (process.returncode, out) == (code, "saved\n" if when == "held" else "")
    assert "Traceback" not in err
    assert ("saving, then ending" in err) == (when == "held")


SAVES_FOR_LONG = """
import sys, time
from playscale import processes
processes._SAME_SECONDS = float(sys.argv[1])
with processes.stoppable(), processes.stop_held():
    print("ready", flush=True)
    while not processes.stop_signal():
        time.sleep(0.01)
    print("saving", flush=True)
    sys.stdin.read() if sys.argv[1] == "0" else time.sleep(0.5)
    print("saved", flush=True)
"""


@pytest.mark.parametrize(("same_seconds", "out"), [("0", ""), ("60", "saved\n")])
def test_second_signal_ends_at_once_unless_it_is_the_first_delivered_twice(same_seconds, out):
    process = start(SAVES_FOR_LONG, same_seconds)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=ENDS_IN_TIME)[0] == out
    assert process.returncode == (143 if out else 130)


def test_ignored_signal_stays_ignored():
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN){STOPPABLE}"
    process = start(ignoring, "at once")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=ENDS_IN_TIME)
    assert process.returncode == 143


FILLED = """
import os, sys
from playscale.processes import fill_standard_descriptors
fill_standard_descriptors()
print("out"), sys.stderr.write("err"), sys.stdin.read()
open(sys.argv[1], "w").write(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3)))
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_descriptors_are_filled(tmp_path, closed):
    (tmp_path / "file").touch()
    redirected = " ".join(f"{number}>&-" if number in closed else f"{number}<>file" for number in range(3))
    command = f'exec "$0" -c "$1" seen {redirected}'
    subprocess.run(["sh", "-c", command, sys.executable, FILLED], check=True, cwd=tmp_path)
    seen = (tmp_path / "seen").read_text().split()
    assert [number for number, name in enumerate(seen) if name == "/dev/null"] == list(closed)
