"""Console output of a study: its progress on this machine or on a cluster, and its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from playscale.cli.console import fit_tables, plain_console, points_table, show
from playscale.cli.options import echo
from playscale.config import budget_name
from playscale.processes.cores import cpu_matmul_rate
from playscale.report.text import printable

if TYPE_CHECKING:
    from playscale.study.cluster_run import ClusterProgress, ClusterStep
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


@contextmanager
def cluster_progress(
    name: str, explain: Callable[[ClusterStep], Sequence[str]]
) -> Iterator[Callable[[ClusterProgress], None]]:
    """Return a callback that shows a study on a cluster: a live table on a terminal, lines elsewhere.

    explain: returns the lines that a step which failed is shown with
    """
    console = plain_console(stderr=True)
    events = _ClusterEvents(console, explain)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:

            def show(progress: ClusterProgress) -> None:
                events.failures(progress)
                live.update(_cluster_table(name, progress))

            yield show
    else:
        yield events


class _ClusterEvents:
    """Prints a line when a step is done, waits or fails, and every 15 s how far the study is."""

    def __init__(self, console: Console, explain: Callable[[ClusterStep], Sequence[str]]) -> None:
        self._console, self._explain = console, explain
        self._last_line = time.time()
        self._said: set[tuple[str, ...]] = set()

    def __call__(self, progress: ClusterProgress) -> None:
        clock = _clock(progress.elapsed)
        for step in progress.steps:
            if step.state == "done" and step.part:
                self._say(clock, step, f"done {step.title}" + (f" in {step.seconds:.0f} s" if step.seconds else ""))
            elif step.state == "waiting" and step.reason:
                self._say(clock, step, f"{step.title} waits: {step.reason}")
        self.failures(progress)
        if time.time() - self._last_line > LINE_SECONDS:
            self._last_line = time.time()
            self._print(f"{clock} {100 * progress.fraction:.0f} %: {progress.summary}")

    def failures(self, progress: ClusterProgress) -> None:
        """Print, once each, the steps that failed, and those that are tried again."""
        clock = _clock(progress.elapsed)
        for step in progress.steps:
            failures = [pod.reason for pod in step.pods if pod.state == "failed"]
            if step.state == "failed":
                tries = f", tried {len(step.pods)} times" if len(step.pods) > 1 else ""
                if self._say(clock, step, f"failed {step.title}: {step.reason or 'no reason given'}{tries}"):
                    for line in self._explain(step):
                        self._print(f"    {printable(line)}")
            elif failures and step.state != "done":
                self._say(clock, step, f"{step.title} is tried again (try {len(failures) + 1}): {failures[-1]}")

    def _say(self, clock: str, step: ClusterStep, text: str) -> bool:
        """Print a line on a step, and return whether it had not been printed before."""
        if new := (step.place, text) not in self._said:
            self._said.add((step.place, text))
            self._print(f"{clock} {printable(text)}")
        return new

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


def _cluster_table(name: str, progress: ClusterProgress) -> Table:
    title = f"{name}: {_clock(progress.elapsed)}, {100 * progress.fraction:.0f} %"
    table = Table(box=None, show_header=False, title=title)
    for part in progress.parts:
        bar = "━" * round(20 * part.done / max(1, part.total))
        table.add_row(part.name, Text(f"{bar:<20}", "cyan"), f"{part.done} of {part.total}", _open_steps(part.open))
    return table


def _open_steps(steps: Sequence[ClusterStep]) -> str:
    """Name the runs at work, and those that wait with their reasons."""
    runs = ", ".join(", ".join(step.runs) or "running" for step in steps if step.state == "running")
    waits = [f"{', '.join(step.runs)} waits: {step.reason}".strip() for step in steps if step.state == "waiting"]
    return printable("; ".join([runs, *waits] if runs else waits))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def show_result(study: LocalStudy, result: StudyResult) -> None:
    """Print the points, the fits, the time of each task, and in five lines what was made and found."""
    from playscale.study.summary import summary

    times = Table(title="Wall time", title_justify="left", header_style="bold")
    times.add_column("step")
    times.add_column("seconds", justify="right")
    for task in result.tasks:
        times.add_row(task.task, f"{task.seconds:.1f}")
    times.add_row("whole study", f"{result.seconds:.1f}")
    rate = f"fp32 matmul here: {cpu_matmul_rate() / 1e9:.0f} GFLOP/s"
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in result.time.parts.items())
    tracking = study.tracking_uri
    show(points_table(result.points), *fit_tables(result.fit))
    show(times, f"seconds of tasks: {parts}; overhead {100 * result.time.overhead:.1f} %; {rate}")
    pages = f"mlflow ui --backend-store-uri {tracking}" if tracking.startswith("sqlite:") else tracking
    show(f"points: {study.uri}/points.csv; MLflow: {pages}", "")
    lines = summary(result.points, result.fit, f"{study.uri}/report.html", _next_step(study, result))
    for name, text in lines.items():  # a line is whole: its command can be copied
        echo(f"{name:<9}{printable(text)}")


def _next_step(study: LocalStudy, result: StudyResult) -> str:
    """Return the command that says what a forecast of twice the budget would cost, or goes on after a failure."""
    if result.failed:
        return study.command
    budget = budget_name(2 * max(point.flops for point in result.points))
    methods = study.spec.method
    method = ["--method", methods[0]] if len(methods) > 1 else []
    return study.command_of("forecast", "--budget", budget, *method, "--dry-run")
