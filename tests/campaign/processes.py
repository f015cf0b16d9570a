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
from dataclasses import dataclass
from pathlib import Path

MARK = "PLAYSCALE_CAMPAIGN"
POLL = 0.01


@dataclass
class Started:
    """A command that runs in `folder`; what it writes is in stdout.N and stderr.N beside that."""

    process: subprocess.Popen[bytes]
    mark: str
    stdout: Path
    stderr: Path

    def pids(self) -> list[int]:
        """Return the command's living processes, its own first, the others by age."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                with suppress(OSError):
                    if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                        fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                        if fields[0] not in "ZX":
                            found.append((int(fields[19]), int(entry.name)))
        pids = [pid for _, pid in sorted(found)]
        return sorted(pids, key=lambda pid: pid != self.process.pid)

    def kill_all(self) -> None:
        """Kill every process at once, and those that were being started."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(POLL)
        self.process.wait()

    def left_after(self, seconds: float) -> list[str]:
        """Return the command lines of the processes that are still there after so many seconds."""
        deadline = time.monotonic() + seconds
        while pids := self.pids():
            if time.monotonic() > deadline:
                return [_command_line(pid) for pid in pids]
            time.sleep(0.1)
        return []

    def wait(self, seconds: float) -> int | None:
        """Return the exit code; None when it has not ended within so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def errors(self) -> str:
        return self.stderr.read_text(errors="replace")


def start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], temporary: Path) -> Started:
    """Start `playscale ...` in `folder`, in a process group of its own."""
    mark = uuid.uuid4().hex
    logs = folder.parent / "logs"
    for path in (folder, temporary, logs):
        path.mkdir(parents=True, exist_ok=True)
    number = len(list(logs.glob("stdout.*")))
    stdout, stderr = logs / f"stdout.{number}", logs / f"stderr.{number}"
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "playscale.cli", *arguments],
            cwd=folder,
            env={**environment, MARK: mark, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            process_group=0,
        )
    return Started(process, mark, stdout, stderr)


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
