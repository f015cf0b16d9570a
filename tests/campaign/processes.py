"""Start a command with a mark in its environment, by which all its processes are found, whoever their parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "PLAYSCALE_CAMPAIGN"
POLL = 0.01


class Started:
    """A command that runs: its first process `pid`, the mark of all its processes, the files of its output."""

    def __init__(self, pid: int, mark: str, stdout: Path, stderr: Path) -> None:
        self.pid, self.mark, self.stdout, self.stderr = pid, mark, stdout, stderr

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, minus the signal where one ended it; None: not within so many seconds."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Return the living processes, the first one first, the others by age."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                with suppress(OSError):
                    state, session, age = stat_of(entry.name)
                    ours = session == self.pid or wanted in Path(entry.path, "environ").read_bytes().split(b"\0")
                    if ours and state not in "ZX":
                        found.append((age, int(entry.name)))
        return sorted((pid for _, pid in sorted(found)), key=lambda pid: pid != self.pid)

    def kill_all(self) -> None:
        """Kill every process at once, and those that were being started."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL)

    def left_after(self, seconds: float) -> list[str]:
        """Return the command lines of the processes that are still there after so many seconds."""
        deadline = time.monotonic() + seconds
        while pids := self.pids():
            if time.monotonic() > deadline:
                return [_command_line(pid) for pid in pids]
            time.sleep(0.05)
        return []

    def errors(self) -> str:
        return self.stderr.read_text(errors="replace")


class Interpreter(Started):
    """A command in an interpreter of its own, as a shell starts it."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], temporary: Path) -> None:
        mark, stdout, stderr = outputs(folder, temporary)
        with stdout.open("wb") as out, stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "playscale.cli", *arguments],
                cwd=folder,
                env={**environment, MARK: mark, "TMPDIR": str(temporary)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        super().__init__(self._process.pid, mark, stdout, stderr)

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def outputs(folder: Path, temporary: Path) -> tuple[str, Path, Path]:
    """Make the folders of a command; return a mark and the files of its output, which lie beside its folder."""
    logs = folder.parent / "logs"
    for path in (folder, temporary, logs):
        path.mkdir(parents=True, exist_ok=True)
    number = len(list(logs.glob("stdout.*")))
    stdout, stderr = logs / f"stdout.{number}", logs / f"stderr.{number}"
    stdout.touch()
    return uuid.uuid4().hex, stdout, stderr


def stat_of(pid: str) -> tuple[str, int, int]:
    """Return a process's state, session and time of start."""
    fields = Path("/proc", pid, "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[3]), int(fields[19])


def shared_memory() -> set[str]:
    """Return the names of the package's shared memory."""
    return {path.name for path in Path("/dev/shm").iterdir() if "playscale" in path.name}  # noqa: S108


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return str(pid)


def temporary_files(folder: Path) -> list[str]:
    """Return what is left in a folder of temporary files, but for PyTorch's empty cache folder, one per user."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("torchinductor_"))
