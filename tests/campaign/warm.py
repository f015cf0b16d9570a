"""Run many short commands without starting an interpreter for each: in forks of a process that has imported everything.

    python -m tests.campaign.warm        reads requests from stdin, answers on stdout, one JSON a line

The command goes through the command line's entry point, with arguments, environment, folder and output of its own. Its
worker processes are forks too; they run the code that fresh interpreters would.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

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
    "playscale_pipelines.compile",
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.backends.backend_agg",
    "nle",
    "torch._dynamo",  # which the first optimizer imports
    "toy_game",
)
CPU_SECONDS = 60  # a command reads a few small files; this is a hundred times what it needs
WALL_SECONDS = 300.0  # more, since the machine may be busy


@dataclass(frozen=True)
class Ended:
    """The end of a command. `left`: processes of its session that outlived it; `peak`: bytes of its largest process."""

    code: int
    hung: bool
    left: int
    peak: int
    stdout: str
    stderr: str


class Warm:
    """The warm process, seen from the campaign."""

    def __init__(self, environment: Mapping[str, str], root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.warm"],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, arguments: Sequence[str], folder: Path, temporary: Path, *, dry: bool = False) -> Ended:
        """Run `playscale ...` in a folder. `dry`: write a study's spec to spec.json instead of running the study."""
        logs = folder.with_name("stdout"), folder.with_name("stderr")
        request = [list(arguments), str(folder), str(temporary), *map(str, logs), dry]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(*answer, *(path.read_text(errors="replace") for path in logs))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Answer requests until stdin closes."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that the collector of a fork does not copy the pages of all these objects
    while line := os.read(0, 1 << 20):
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(*request)
        os.write(1, json.dumps(_watch(pid)).encode() + b"\n")


def _watch(pid: int) -> tuple[int, bool, int, int]:
    """Wait for a command; return exit code (minus the signal), whether it hung, processes left, peak memory."""
    deadline, hung = time.monotonic() + WALL_SECONDS, False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            hung = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    left = _session(pid)
    ends = time.monotonic() + 10
    while left and not hung and time.monotonic() < ends:
        time.sleep(0.05)
        left = _session(pid)
    for other in left:
        with suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    return code, hung or code == -signal.SIGXCPU, len(left), usage.ru_maxrss * 1024


def _session(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def _run(arguments: list[str], folder: str, temporary: str, stdout: str, stderr: str, dry: bool) -> NoReturn:
    """Be the command, in a fork."""
    os.setsid()
    _redirect(os.devnull, stdout, stderr)
    os.chdir(folder)
    os.environ["TMPDIR"] = temporary
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import playscale.processes

    playscale.processes.subprocess = _Forks  # type: ignore[attr-defined, assignment]
    if dry:
        from playscale.study.local_run import LocalStudy

        LocalStudy.run = _write_spec  # type: ignore[method-assign, assignment]
    from playscale.cli.app import main

    sys.argv = ["playscale", *arguments]
    main()
    sys.exit(0)


def _redirect(stdin: str, stdout: str, stderr: str) -> None:
    for fd, (path, flags) in enumerate(((stdin, os.O_RDONLY), (stdout, os.O_WRONLY), (stderr, os.O_WRONLY))):
        opened = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, fd)
        os.close(opened)


def _write_spec(study: Any, _: Any) -> NoReturn:
    """Write the spec as it was read, in place of LocalStudy.run."""
    runs = {name: run.model_dump(mode="json") for name, run in study.spec.runs().items()}
    text = json.dumps({"spec": study.spec.model_dump(mode="json", exclude_unset=True), "runs": runs})
    Path("spec.json").write_text(text)
    sys.exit(0)


class _Forks:
    """What playscale.processes uses of the module subprocess: a worker is a fork that runs the same code."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    class Popen:
        def __init__(self, command: list[str], *, stderr: int | None, pass_fds: Sequence[int], **_: Any) -> None:
            self.returncode: int | None = None
            sys.stdout.flush()
            sys.stderr.flush()
            self.pid = os.fork()
            if self.pid:
                return
            code = 1
            try:
                os.setpgid(0, 0)
                for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
                    if fd > 2 and fd not in pass_fds:
                        with suppress(OSError):
                            os.close(fd)
                _redirect(os.devnull, os.devnull, os.devnull if stderr == subprocess.DEVNULL else "/dev/fd/2")
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


if __name__ == "__main__":
    serve()
