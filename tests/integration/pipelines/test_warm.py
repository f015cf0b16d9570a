"""Tasks forked from a warm process behave as if started by a plain interpreter."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from process_state import gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere tasks are started, not forked")

ROOT = Path(__file__).parents[3]
PLAIN = sys.executable


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A module for tasks to run; it does what its arguments say."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "errand.py").write_text(
        textwrap.dedent("""
            import os, sys, signal, threading
            assert __name__ == "__main__"
            print("task", sys.argv[1:], os.environ["PLANTED"], os.getcwd(), "colorsys" in sys.modules, flush=True)
            print(threading.active_count(), file=sys.stderr)
            if sys.argv[2:] == ["0"]:
                print("TMPDIR", os.environ.get("TMPDIR"))
            what = sys.argv[1]
            if what == "exit":
                sys.exit(int(sys.argv[2]))
            if what == "raise":
                raise ValueError("planted")
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    return folder


def run(module, *arguments, environment=None):
    """The errand as kfp.local runs a task: through the shell, with sys.executable."""
    line = f"{sys.executable} -m errand " + " ".join(arguments)
    environment = os.environ | {"PLANTED": "planted", "PYTHONPATH": f"{module}:{ROOT}"} | (environment or {})
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, cwd=module, check=False)


@pytest.fixture(scope="module")
def warmed(module, tmp_path_factory):
    """Inside `warm`, with the errand's folder on the path that the warm process inherits."""
    from playscale_pipelines.warm import warm

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{module}:{ROOT}")
        patch.setattr("playscale_pipelines.warm.PRELOADED", ("colorsys",))  # the real ones take 10 s
        with warm(tmp_path_factory.mktemp("code")):
            assert sys.executable != PLAIN
            yield module
    assert sys.executable == PLAIN


def test_a_task_is_what_it_would_be(warmed):
    done = run(warmed, "exit", "0")
    place = os.environ["PLAYSCALE_TMPDIR"] or None  # TMPDIR as it was before the warm process
    assert done.stdout == f"task ['exit', '0'] planted {warmed} True\nTMPDIR {place}\n"
    assert done.stderr == "1\n"
    assert done.returncode == 0
    assert run(warmed, "exit", "3").returncode == 3
    failed = run(warmed, "raise")
    assert failed.returncode == 1
    assert "ValueError: planted" in failed.stderr
    assert run(warmed, "killed").returncode == 137


def test_folders_of_code_are_in_one_that_goes(module, tmp_path, monkeypatch):
    from playscale_pipelines.warm import warm

    monkeypatch.setattr("sys.executable", PLAIN)  # also inside another
    monkeypatch.setattr("playscale_pipelines.warm.PRELOADED", ())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = tmp_path / "kfp" / "code"
    (code / "tmp.of-a-killed-study").mkdir(parents=True)
    with warm(code):
        assert list(code.iterdir()) == []
        line = f"mktemp -d; {sys.executable} -m errand exit 0"
        environment = os.environ | {"PLANTED": "planted", "PYTHONPATH": f"{module}:{ROOT}"}
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=environment)
        made, _, place = done.stdout.splitlines()
        assert Path(made).parent == code
        assert place == f"TMPDIR {tmp_path}"
    assert not code.exists()
    assert os.environ["TMPDIR"] == str(tmp_path)


def test_task_is_started_as_a_process_where_no_warm_one_is(warmed):
    done = run(warmed, "exit", "4", environment={"PLAYSCALE_FORK_SERVER": "nobody"})
    assert done.stdout == f"task ['exit', '4'] planted {warmed} False\n"
    assert done.returncode == 4


@pytest.mark.slow
def test_the_warm_process_ends_with_its_parent(tmp_path):
    code = """
import pathlib, subprocess, sys, time
from playscale_pipelines import warm
started = subprocess.Popen
def note(*arguments, **more):
    process = started(*arguments, **more)
    print(process.pid, flush=True)
    return process
subprocess.Popen = note
with warm.warm(pathlib.Path(sys.argv[1])):
    time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [PLAIN, "-c", code, str(tmp_path / "code")], stdout=subprocess.PIPE, text=True, env=environment
    )
    warm_pid = int(parent.stdout.readline())
    assert not gone(warm_pid, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(warm_pid, 600)  # after its imports, which a busy machine takes a minute for
