"""A process that follows another ends with it, even when that one is killed."""

import os
import signal
import subprocess
import sys
import time


def test_follower_ends_when_the_followed_is_killed():
    followed = subprocess.Popen(["sleep", "60"])
    follow = f"from playscale.processes import follow; follow({followed.pid})"
    code = f"{follow}; print(1, flush=True); import time; time.sleep(60)"
    follower = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert follower.stdout.readline() == b"1\n"
    assert follower.poll() is None
    os.kill(followed.pid, signal.SIGKILL)
    followed.wait()
    assert follower.wait(timeout=60) == 1


def test_following_a_process_that_is_gone_ends_at_once():
    gone = subprocess.Popen(["true"])
    gone.wait()
    started = time.time()
    code = f"from playscale.processes import follow; import time; follow({gone.pid}); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    assert time.time() - started < 30
