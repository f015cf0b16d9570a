"""Progress of the steps of a study, in small files that another process can read."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from playscale.processes.signals import STOPPED
from playscale.storage.files import atomic_file, is_input_error, read_json
from playscale.tracking.monitor import gauge

LINE_SECONDS = 30.0  # between two lines of progress in a step's log
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskProgress:
    """State of one task: its last message, the fraction done (0 to 1), unix times, and the state that it ended in.

    user_error: whether it failed because of its input
    parts: seconds by what they were spent on; at most `seconds` together
    """

    task: str
    what: str
    fraction: float
    started: float
    updated: float
    state: str = "running"  # running | done | failed
    user_error: bool = False
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.updated - self.started

    @property
    def stopped(self) -> bool:
        """Tell whether a signal ended it, which is no failure of its own."""
        return self.state == "failed" and self.what.startswith(STOPPED)


class ProgressFile:
    """A progress callback (what, fraction) that writes a JSON file, at most twice a second, and a log.

    The log has a line at the start and at the end, at most one every 30 s between them, and what log() is given.
    """

    def __init__(self, folder: Path, task: str) -> None:
        now = time.time()
        self._parts: dict[str, float] = {}
        self._line = 0.0  # when the log had its last line of progress
        self.path = folder / f"{task}.json"
        self.last_message = "done"
        self.current = TaskProgress(task, "starting", 0.0, now, now)
        self._write(self.current)
        self.log(f"{task}: starts")

    def __call__(self, what: str, fraction: float) -> None:
        now = time.time()
        self.last_message = what
        if now - self._line >= LINE_SECONDS:
            self._line = now
            self.log(f"{what} ({100 * fraction:.0f} %)")
        if now - self.current.updated >= 0.5:
            self._write(replace(self.current, what=what, fraction=min(max(fraction, 0.0), 1.0), updated=now))

    def log(self, line: str) -> None:
        """Write a line to the step's log: in a pod, its output."""
        log.info("%s", line)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the seconds inside as `part`, except those that a nested call counts as another part."""
        begin, counted = time.perf_counter(), sum(self._parts.values())
        try:
            yield
        finally:
            inside = sum(self._parts.values()) - counted
            self._parts[part] = self._parts.get(part, 0.0) + time.perf_counter() - begin - inside

    def move(self, seconds: float, part: str, other: str) -> None:
        """Move seconds that were counted as `part` to `other`."""
        self._parts[part] -= seconds
        self._parts[other] = self._parts.get(other, 0.0) + seconds

    def end(self, state: str, what: str, *, user_error: bool = False) -> None:
        """Write the final state, "done" or "failed", with a last message."""
        fraction = 1.0 if state == "done" else self.current.fraction
        self._write(
            replace(self.current, what=what, fraction=fraction, updated=time.time(), state=state, user_error=user_error)
        )
        self.log(f"{self.current.task}: {state} after {self.current.seconds:.0f} s: {what}")

    def _write(self, progress: TaskProgress) -> None:
        gauge("task_progress_ratio", progress.fraction)
        self.current = progress = replace(progress, parts=dict(self._parts))
        with atomic_file(self.path, "w") as file:
            json.dump(asdict(progress), file)


@contextmanager
def reporting(folder: Path, task: str) -> Iterator[ProgressFile]:
    """Report a task from its start to its end or failure."""
    progress = ProgressFile(folder, task)
    try:
        yield progress
    except BaseException as error:
        first_line = (str(error) or type(error).__name__).split("\n")[0]
        progress.end("failed", first_line, user_error=is_input_error(error))
        raise
    progress.end("done", progress.last_message)


def read_progress(folder: Path) -> list[TaskProgress]:
    """Return every task reported so far, in the order they started."""
    tasks = [TaskProgress(**read_json(path)) for path in folder.glob("*.json")]
    return sorted(tasks, key=lambda task: task.started)
