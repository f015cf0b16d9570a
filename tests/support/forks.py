"""Commands and workers of tests that need not start an interpreter: forks of a process that has imported everything.

The process is the fork server of `multiprocessing`, one of each pytest process. A fork runs the code that a fresh
interpreter would, with an environment, a working directory and output of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, reduction
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from s3_server import free_port

from playscale.processes.fork_server import place_descriptors

PRELOADED = (
    "playscale.cli.app",
    "playscale.cli.console",
    "playscale.cli.study_console",
    "playscale.corpus.prepare",
    "playscale.report.report",
    "playscale.report.figures",
    "playscale.report.reproduction_page",
    "playscale.rollout.collect",
    "playscale.rollout.evaluate",
    "playscale.scaling.methods",
    "playscale.study.local_run",
    "playscale.tracking.client",
    "playscale.training.bc",
    "playscale.training.impala",
    "playscale.training.trainer",
    "kfp.kubernetes",  # but no pipeline of ours: one takes its image from the environment when it is imported
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.backends.backend_agg",
    "nle",
    "forks",
)
STOPS = (signal.SIGTERM, signal.SIGINT)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOADED))


def run_command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], logs: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run `playscale ...` in a folder, as subprocess.run() does; its output passes through files in `logs`."""
    stdout, stderr = logs / "stdout", logs / "stderr"
    for path in (stdout, stderr):
        path.write_text("")
    process = start_command(arguments, folder, environment, stdout, stderr)
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(list(arguments), seconds)
    output = stdout.read_text(errors="replace"), stderr.read_text(errors="replace")
    return subprocess.CompletedProcess(["playscale", *arguments], process.exitcode, *output)


def start_command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: Path, stderr: Path
) -> BaseProcess:
    """Start `playscale ...` in a folder; its output is appended to the files."""
    given = (list(map(str, arguments)), str(folder), dict(environment), str(stdout), str(stderr))
    process = CONTEXT.Process(target=_command, args=given)
    process.start()
    return process


def start_script(script: Path, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> BaseProcess:
    """Start a Python script; its output is appended to a file. Its workers are interpreters of their own."""
    process = CONTEXT.Process(target=_script, args=(str(script), list(arguments), dict(environment), str(log)))
    process.start()
    return process


def run_two_ranks(script: Path, arguments: Sequence[str], folder: Path) -> list[str]:
    """Run a Python script in two processes, as torchrun starts them; return what each printed. Logs are in `folder`."""
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    logs = [folder / f"log-{rank}" for rank in range(2)]
    ranks = [
        start_script(script, arguments, os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, log)
        for rank, log in enumerate(logs)
    ]
    for rank in ranks:
        rank.join(300)
    said = [log.read_text() for log in logs]
    assert [rank.exitcode for rank in ranks] == [0, 0], "".join(said)[-3000:]
    return said


def _script(script: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    redirect(os.devnull, log, log)
    _move_to(str(Path.cwd()), environment)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def _command(arguments: list[str], folder: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    redirect(os.devnull, stdout, stderr)
    _move_to(folder, environment)
    import playscale.processes.worker

    playscale.processes.worker.subprocess = ForksHere  # type: ignore[attr-defined, assignment]
    from playscale.cli.app import main

    sys.argv = ["playscale", *arguments]
    main()


def redirect(stdin: str, stdout: str, stderr: str) -> None:
    """Let this process read and write files in place of its standard streams."""
    for fd, (path, flags) in enumerate(((stdin, os.O_RDONLY), (stdout, os.O_WRONLY), (stderr, os.O_WRONLY))):
        opened = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, fd)
        os.close(opened)


def _move_to(folder: str, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR may be another
    os.chdir(folder)
    for place in filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)):
        if (customised := Path(place, "sitecustomize.py")).exists():  # as an interpreter does when it starts
            runpy.run_path(str(customised))


class _SameNumber:
    """A file descriptor that the fork has under the same number."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _SameNumber._taken, (reduction.DupFd(self._fd), self._fd)

    @staticmethod
    def _taken(sent: Any, fd: int) -> tuple[int, int]:
        """Return the number that the descriptor has here for now, and the one that it will have."""
        return sent.detach(), fd


ensure_server = forkserver.ensure_running
"""Start the server, which the first fork does otherwise: from then on it is a child of this process."""


class ForksOfServer:
    """What processes/worker.py uses of the module subprocess, in a pytest process: a worker is a fork of the server."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    class Popen:
        def __init__(self, command: list[str], *, stderr: int | None, pass_fds: Sequence[int], **_: Any) -> None:
            fds = [_SameNumber(fd) for fd in pass_fds]
            log = os.devnull if stderr == subprocess.DEVNULL else "/dev/fd/2"
            given = (command[-1], fds, str(Path.cwd()), dict(os.environ), log)
            self._process = CONTEXT.Process(target=_worker, args=given)
            self._process.start()

        @property
        def pid(self) -> int | None:
            return self._process.pid

        def kill(self) -> None:
            self._process.kill()

        def poll(self) -> int | None:
            return self._process.exitcode

        def wait(self, timeout: float | None = None) -> int:
            self._process.join(timeout)
            if self._process.exitcode is None:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            return self._process.exitcode


def _worker(code: str, fds: list[tuple[int, int]], folder: str, environment: dict[str, str], stderr: str) -> None:
    os.setpgid(0, 0)
    place_descriptors([fd for _, fd in fds], [sent for sent, _ in fds])
    redirect(os.devnull, os.devnull, stderr)
    _move_to(folder, environment)
    import playscale.processes.worker

    playscale.processes.worker.subprocess = ForksHere  # type: ignore[attr-defined, assignment]
    exec(code, {"__name__": "__main__"})  # noqa: S102 - the code that the interpreter would run


class ForksHere:
    """What processes/worker.py uses of the module subprocess, in a fork: a worker is a fork of this process."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    class Popen:
        def __init__(self, command: list[str], *, stderr: int | None, pass_fds: Sequence[int], **_: Any) -> None:
            self.returncode: int | None = None
            sys.stdout.flush()
            sys.stderr.flush()
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # Python ignores what a handler raises in os.fork()
            self.pid = os.fork()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            if self.pid:
                return
            code = 1
            try:
                os.setpgid(0, 0)
                for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
                    if fd > 2 and fd not in pass_fds:
                        with suppress(OSError):
                            os.close(fd)
                redirect(os.devnull, os.devnull, os.devnull if stderr == subprocess.DEVNULL else "/dev/fd/2")
                exec(command[-1], {"__name__": "__main__"})  # noqa: S102 - the code that the interpreter would run
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            finally:
                with suppress(Exception):
                    sys.stderr.flush()
                os._exit(code)

        def kill(self) -> None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

        def poll(self) -> int | None:
            if self.returncode is None:
                done, status = os.waitpid(self.pid, os.WNOHANG)
                if done:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

        def wait(self, timeout: float | None = None) -> int:
            deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
            while (code := self.poll()) is None:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired("worker", timeout or 0.0)
                time.sleep(0.002)
            return code
