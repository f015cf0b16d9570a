"""Console output of a study on this machine: its progress, then its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from playscale.cli.console import fit_tables, plain_console, points_table, show

if TYPE_CHECKING:
    from playscale.study.local_run import LocalStudy, StudyProgress, StudyResult

LINE_SECONDS = 15.0


@contextmanager
def study_progress(name: str) -> Iterator[Callable[[StudyProgress], None]]:
    """Return a callback that shows a study's progress: a live table on a terminal, lines elsewhere."""
    console = plain_console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:
            yield lambda progress: live.update(_progress_table(name, progress))
    else:
        yield _ProgressLines(console)


class _ProgressLines:
    """Prints a line when a task is done, and every 15 s the tasks that run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_line = time.time()
        self._done: set[str] = set()

    def __call__(self, progress: StudyProgress) -> None:
        clock = _clock(progress.elapsed)
        for task in progress.tasks:
            if task.state == "done" and task.task not in self._done:
                self._done.add(task.task)
                line = f"{clock} done {task.task} in {task.seconds:.0f} s: {task.what}"
                self._console.print(line, soft_wrap=True)
        running = [
            f"{task.task}: {task.what} ({100 * task.fraction:.0f} %)"
            for task in progress.tasks
            if task.state == "running"
        ]
        if running and time.time() - self._last_line > LINE_SECONDS:
            self._last_line = time.time()
            self._console.print(f"{clock} {progress.time_left}; " + "; ".join(running), soft_wrap=True)


def _progress_table(name: str, progress: StudyProgress) -> Table:
    title = f"{name}: {_clock(progress.elapsed)}, {progress.time_left}"
    table = Table(box=None, show_header=False, title=title)
    for task in progress.tasks:
        bar = "━" * round(20 * task.fraction)
        colour = {"done": "green", "failed": "red"}.get(task.state, "cyan")
        seconds = task.seconds if task.state != "running" else time.time() - task.started
        table.add_row(
            task.task, Text(f"{bar:<20}", colour), f"{100 * task.fraction:3.0f} %", f"{seconds:4.0f} s", task.what
        )
    return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def show_result(study: LocalStudy, result: StudyResult) -> None:
    """Print the points, the fits, the time of each task, and where to find the results."""
    times = Table(title="Wall time", title_justify="left", header_style="bold")
    times.add_column("step")
    times.add_column("seconds", justify="right")
    for task in result.tasks:
        times.add_row(task.task, f"{task.seconds:.1f}")
    times.add_row("whole study", f"{result.seconds:.1f}")
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in result.time.parts.items())
    tracking = study.tracking_uri
    show(points_table(result.points), *fit_tables(result.fit))
    show(times, f"seconds of tasks: {parts}; overhead {100 * result.time.overhead:.1f} %")
    show(
        f"report:  {study.uri}/report.html",
        f"MLflow:  mlflow ui --backend-store-uri {tracking}"
        if tracking.startswith("sqlite:")
        else f"MLflow:  {tracking}",
        f"points:  {study.uri}/points.csv",
    )
