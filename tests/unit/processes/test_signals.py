"""Signals end a command, and a process ends with the one that it follows."""

import os
import signal
import subprocess
import sys
import time

import pytest


def test_follower_ends_when_the_followed_is_killed():
    followed = subprocess.Popen(["sleep", "60"])
    follow = f"from playscale.processes.signals import follow; follow({followed.pid})"
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
    code = f"from playscale.processes.signals import follow; import time; follow({gone.pid}); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    assert time.time() - started < 30


STOPPABLE = """
import sys, time
from playscale.processes.signals import Stopped, stop_held, stop_signal, stoppable
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
from playscale.processes import signals
signals._SAME_SECONDS = float(sys.argv[1])
with signals.stoppable(), signals.stop_held():
    print("ready", flush=True)
    while not signals.stop_signal():
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
from playscale.processes.signals import fill_standard_descriptors
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
