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
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from forks import PRELOADED, ForksHere, redirect

from .processes import MARK, Started, outputs


class Warm:
    """The warm process, seen from the campaign. One command at a time."""

    def __init__(self, environment: Mapping[str, str], root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.warm"],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that select() sees every answer
        )

    def start(self, arguments: Sequence[str], folder: Path, temporary: Path, *, dry: bool = False) -> Fork:
        """Start `playscale ...` in a folder. `dry`: write a study's spec to spec.json instead of running the study."""
        mark, *logs = outputs(folder, temporary)
        request = [list(arguments), str(folder), str(temporary), *map(str, logs), mark, dry]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return Fork(json.loads(self._process.stdout.readline()), mark, *logs, answers=self._process.stdout)


class Fork(Started):
    """A command in a fork of the warm process. `peak`: bytes of its largest process, when it has ended."""

    peak = 0

    def __init__(self, pid: int, mark: str, stdout: Path, stderr: Path, answers: IO[bytes]) -> None:
        super().__init__(pid, mark, stdout, stderr)
        self._answers = answers
        self._code: int | None = None

    def wait(self, seconds: float) -> int | None:
        if self._code is None and select.select([self._answers], [], [], seconds)[0]:
            self._code, self.peak = json.loads(self._answers.readline())
        return self._code


def serve() -> None:
    """Answer requests until stdin closes."""
    for name in (*PRELOADED, "toy_game"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that the collector of a fork does not copy the pages of all these objects
    while line := os.read(0, 1 << 20):
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(*request)
        os.write(1, b"%d\n" % pid)
        _, status, usage = os.wait4(pid, 0)
        os.write(1, b"[%d, %d]\n" % (os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024))


def _run(arguments: list[str], folder: str, temporary: str, stdout: str, stderr: str, mark: str, dry: bool) -> NoReturn:
    """Be the command, in a fork."""
    os.setsid()
    redirect(os.devnull, stdout, stderr)
    os.chdir(folder)
    os.environ.update({"TMPDIR": temporary, MARK: mark})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import playscale.processes.worker

    playscale.processes.worker.subprocess = ForksHere  # type: ignore[attr-defined, assignment]
    if dry:
        from playscale.study.local_run import LocalStudy

        LocalStudy.run = _write_spec  # type: ignore[method-assign, assignment]
    from playscale.cli.app import main

    sys.argv = ["playscale", *arguments]
    main()
    sys.exit(0)


def _write_spec(study: Any, _: Any) -> NoReturn:
    """Write the spec as it was read, in place of LocalStudy.run."""
    runs = {name: run.model_dump(mode="json") for name, run in study.spec.runs().items()}
    text = json.dumps({"spec": study.spec.model_dump(mode="json", exclude_unset=True), "runs": runs})
    Path("spec.json").write_text(text)
    sys.exit(0)


if __name__ == "__main__":
    serve()
