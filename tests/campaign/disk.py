"""A command fills its disk: one line and exit code 1; run again with space, it ends as on a large disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from .commands import COMMANDS, PATIENCE, Bench, Outcome
from .kills import LEAVE
from .processes import stat_of, temporary_files
from .snapshot import differences

MOST_SHOWN = 4
PAGE = 4096
MOUNTED = "playscale-campaign-"  # begins the names of the file systems that campaigns mount


@dataclass(frozen=True)
class FullDisk:
    """A command, and the size of its disk as a fraction of what it writes; or of that of its temporary files."""

    case: str
    command: str
    where: str  # run: the folder of --out and of MLflow's database; tmp: TMPDIR
    fraction: float


def full_disks(seed: int, count: int) -> Iterator[FullDisk]:
    """Draw cases; every command has its turn. A quarter of them fills the disk of temporary files."""
    names = list(COMMANDS)
    for number in range(count):
        draw = random.Random(f"{seed}/disk/{number}")
        where = "tmp" if number // len(names) % 4 == 3 else "run"
        yield FullDisk(f"disk:{number}", names[number % len(names)], where, draw.uniform(0.0, 1.0))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of so many bytes at `folder`. PermissionError: this process may not."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={max(PAGE, size)}", _name(os.getpid()), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _name(pid: int) -> str:
    """Return the name of the file systems that a process mounts. OSError: there is no such process."""
    return f"{MOUNTED}{pid}-{stat_of(str(pid))[2]}"


def unmount_left() -> None:
    """Unmount what campaigns that were killed have left mounted."""
    for disk in psutil.disk_partitions(all=True):
        if disk.device.startswith(MOUNTED):
            pid = int(disk.device.removeprefix(MOUNTED).partition("-")[0])
            with suppress(OSError):
                if disk.device == _name(pid):
                    continue
            subprocess.run(["umount", "--lazy", disk.mountpoint], check=False)


def unmount_at(*signals: signal.Signals) -> None:
    """Let these signals unmount what this process has mounted before they end it."""

    def end(number: int, _: object) -> None:
        for disk in psutil.disk_partitions(all=True):
            if disk.device == _name(os.getpid()):
                subprocess.run(["umount", "--lazy", disk.mountpoint], check=False)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in signals:
        signal.signal(number, end)


def mountable() -> bool:
    """Return whether small file systems can be mounted here. Those of dead campaigns are unmounted."""
    if os.geteuid() != 0:
        return False
    unmount_left()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", PAGE):
                return True
        except (PermissionError, FileNotFoundError):
            return False


def run_full(bench: Bench, full: FullDisk) -> Outcome:
    """Run a command on a small disk, then with space, and return what is wrong."""
    undisturbed = bench.undisturbed(full.command)
    case = bench.folder / full.case.replace(":", "-")
    shutil.rmtree(case, ignore_errors=True)
    line = bench.line(COMMANDS[full.command].arguments)
    size = int(full.fraction * (undisturbed.bytes if full.where == "run" else 4 * PAGE))
    faults, ended = [], "fitted"
    with small_disk(case / full.where, size):
        started = bench.start(line, case / "run", case / "tmp")
        code = started.wait(PATIENCE)
        if code is None:
            faults.append(f"hangs for {PATIENCE:.0f} s")
        elif left := started.left_after(LEAVE):
            faults.append(f"processes left: {'; '.join(left)}")
        started.kill_all()
        errors = started.errors()
        said = [line for line in errors.splitlines() if line.startswith("playscale: ")]
        if code:
            ended = f"exit {code}"
            faults += [f"exit code {code}, not 1: {errors[-300:]}"] if code != 1 else []
            faults += [f"not one line: {errors[-300:]}"] if len(said) != 1 else []
            faults += [f"says nothing of space: {said[0]}"] if said and "space" not in said[0] else []
        if "Traceback (most recent call last)" in errors:
            faults.append(f"traceback: {errors.strip().splitlines()[-1][:200]}")
        subprocess.run(["mount", "-o", "remount,size=1g", str(case / full.where)], check=True)
        if code:
            started = bench.start(line, case / "run", case / "tmp")
            if (code := started.wait(PATIENCE)) != 0:
                faults.append(f"the rerun with space ends with {code}: {started.errors()[-300:]}")
            started.kill_all()
        if code == 0:
            lines = differences(bench.results(full.command, case), undisturbed.found)
            faults += lines[:MOST_SHOWN]
            faults += [f"temporary file left: {name}" for name in temporary_files(case / "tmp")]
        if faults:
            shutil.copytree(case / "run", case / "kept", dirs_exist_ok=True, symlinks=True)
    if not faults:
        shutil.rmtree(case, ignore_errors=True)
    what = f"{size:,} bytes for {'its output' if full.where == 'run' else 'temporary files'}"
    return Outcome(full.case, full.command, what, ended, tuple(faults))
