"""A study on this machine: the pipeline runs in a process of its own, this one shows how far it is.

Where a study's seconds went: what its tasks worked on, and what it cost to run them.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from playscale.cli.console import fit_tables, points_table, show
from playscale.points import read_points
from playscale.processes import usable_cores
from playscale.progress import TaskProgress, read_progress
from playscale.storage.files import local_path, read_json, write_json
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace
from playscale.study.spec import StudySpec, read_spec
from playscale.study.steps import PROGRESS, REFERENCES, SUPERVISOR, default_tracking_uri

LINE_SECONDS = 15.0
AT_ONCE = 2  # tasks that kfp.local runs side by side
MEASURABLE = 0.05  # of a task, before which its speed says little


def run_study(spec_path: Path, out: str | None, tracking_uri: str | None, runner: str = "subprocess") -> None:
    """Run the study pipeline through kfp.local and print its outcome.

    With `out` in S3, the log, the lock and the tasks' progress still lie in out/NAME.
    ValueError: a bad spec, a directory in use, or bad input found by a step. RuntimeError: a step failed.
    A rerun in the same directory goes on where the last one stopped.
    """
    _check_extras(runner)
    spec = read_spec(spec_path)
    usual = Path("out") / spec.name
    place = (usual if out is None or is_s3(out) else local_path(out)).resolve()
    uri = out if out is not None and is_s3(out) else str(place)
    tracking = tracking_uri or default_tracking_uri(uri)
    place.mkdir(parents=True, exist_ok=True)
    started = time.time()
    show(f"study {spec.name}: {len(spec.runs())} training runs, {len(spec.budgets + spec.held_out)} budgets, in {uri}")
    with _locked(place), (place / "pipeline.log").open("a") as log:
        for stale in (place / "progress").glob("*.json"):
            stale.unlink()
        threads = str(max(1, usable_cores() // AT_ONCE))
        own = {SUPERVISOR: str(os.getpid()), PROGRESS: str(place / "progress")}
        own["PYTHONSAFEPATH"] = "1"  # the working directory may hold somebody's own `pipelines` or `playscale`
        environment = {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"} | os.environ | own
        command = [sys.executable, "-m", "playscale_pipelines.local", str(spec_path.resolve()), uri, tracking, runner]
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            _watch(process, place, spec, started)
        finally:
            process.kill()
            process.wait()
    _check(process.returncode, place)
    with workspace(uri, "points.csv", "fit.json", store=False) as results:
        show(points_table(read_points(results / "points.csv")), *fit_tables(read_json(results / "fit.json")))
    _summary(place, uri, tracking, started)


def _check_extras(runner: str) -> None:
    """Raise ModuleNotFoundError when a study would fail for want of an extra of the package."""
    for module in ("kfp", "mlflow", "torch", "nle") if runner == "subprocess" else ("kfp", "docker"):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{place}: another study is running in this directory; wait for it or give another --out"
            ) from error
        yield


def _watch(process: subprocess.Popen[bytes], place: Path, spec: StudySpec, started: float) -> None:
    """Show progress until the pipeline ends: a live table on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:
            while process.poll() is None:
                live.update(_picture(read_progress(place / "progress"), spec, started))
                time.sleep(0.5)
            live.update(_picture(read_progress(place / "progress"), spec, started))
        return
    spoken = time.time()
    done: set[str] = set()
    while process.poll() is None:
        time.sleep(0.2)
        tasks = read_progress(place / "progress")
        for task in tasks:
            if task.state == "done" and task.task not in done:
                done.add(task.task)
                console.print(
                    f"{_clock(time.time() - started)} done {task.task} in {task.seconds:.0f} s: {task.what}",
                    soft_wrap=True,
                )
        running = [
            f"{task.task}: {task.what} ({100 * task.fraction:.0f} %)" for task in tasks if task.state == "running"
        ]
        if running and time.time() - spoken > LINE_SECONDS:
            spoken = time.time()
            console.print(
                f"{_clock(time.time() - started)} {_left(tasks, spec)}; " + "; ".join(running), soft_wrap=True
            )


def _picture(tasks: list[TaskProgress], spec: StudySpec, started: float) -> Table:
    table = Table(
        box=None,
        show_header=False,
        title=f"{spec.name}: {_clock(time.time() - started)}, {_left(tasks, spec)}",
    )
    for task in tasks:
        bar = "━" * round(20 * task.fraction)
        colour = {"done": "green", "failed": "red"}.get(task.state, "cyan")
        seconds = task.seconds if task.state != "running" else time.time() - task.started
        table.add_row(
            task.task, f"[{colour}]{bar:<20}[/]", f"{100 * task.fraction:3.0f} %", f"{seconds:4.0f} s", task.what
        )
    return table


def _left(tasks: list[TaskProgress], spec: StudySpec) -> str:
    """The time left: every run takes about as long to train as every other (the same FLOPs), and so to evaluate."""
    runs = len(spec.runs())
    left = 0.0
    for kind in ("train", "evaluate"):
        begun = [t for t in tasks if t.task.startswith(kind) and t.task != f"evaluate-{REFERENCES}"]
        known = [t.seconds / t.fraction for t in begun if t.fraction > MEASURABLE and t.seconds > 1]
        if not known and kind == "train":
            return "estimating the time left"
        each = (
            sum(known) / len(known) if known else left / max(1, runs)
        )  # before the first evaluation: as long as training
        left += (runs - sum(t.fraction for t in begun)) * each
    return f"about {max(1, round(left / AT_ONCE / 60))} min left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _check(returncode: int, place: Path) -> None:
    failed = [task for task in read_progress(place / "progress") if task.state == "failed"]
    if failed:
        text = f"{failed[0].task}: {failed[0].what}"
        raise ValueError(text) if failed[0].user_error else RuntimeError(f"{text} (log: {place / 'pipeline.log'})")
    if returncode:
        raise RuntimeError(f"the pipeline ended with code {returncode}; its log is {place / 'pipeline.log'}")


def _summary(place: Path, uri: str, tracking: str, started: float) -> None:
    """Where the time went (also in seconds.json), and where to look next."""
    times = Table(title="Wall time", title_justify="left", header_style="bold")
    times.add_column("step")
    times.add_column("seconds", justify="right")
    tasks = read_progress(place / "progress")
    for task in tasks:
        times.add_row(task.task, f"{task.seconds:.1f}")
    times.add_row("whole study", f"{time.time() - started:.1f}")
    spent = StudyTime.of(tasks, started)
    write_json(place / "seconds.json", spent.to_dict())
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in spent.parts.items())
    show(times, f"seconds of tasks: {parts}; overhead {100 * spent.overhead:.1f} %")
    show(
        f"report:  {uri}/report.html",
        f"MLflow:  mlflow ui --backend-store-uri {tracking}"
        if tracking.startswith("sqlite:")
        else f"MLflow:  {tracking}",
        f"points:  {uri}/points.csv",
    )


OVERHEAD = {
    "between tasks": "the pipeline: from the end of a task to the first line of the next",
    "starting": "what a task does not account for: imports, helper processes",
    "saves": "resume states and checkpoints",
    "tracking": "MLflow",
}
"""Every other part is work: it would take as long without a study around it."""


@dataclass(frozen=True)
class StudyTime:
    """Seconds of tasks, by task and part. Tasks that run side by side count each; idle processors do not count."""

    tasks: dict[str, dict[str, float]]

    @classmethod
    def of(cls, tasks: Sequence[TaskProgress], began: float) -> StudyTime:
        """Of finished tasks in the order they started, in a study that began at that unix time.

        A task waited for whichever task before it ended last.
        """
        seconds = {}
        for task in tasks:
            ends = [other.updated for other in tasks if other.updated <= task.started]
            between = task.started - max([began, *ends])
            parts = {part: value for part, value in task.parts.items() if part != "starting"}
            starting = task.seconds - sum(parts.values())
            seconds[task.task] = {"between tasks": max(0.0, between), "starting": max(0.0, starting), **parts}
        return cls(seconds)

    @property
    def parts(self) -> dict[str, float]:
        """Over all tasks, the largest first."""
        total: dict[str, float] = defaultdict(float)
        for parts in self.tasks.values():
            for part, seconds in parts.items():
                total[part] += seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    @property
    def overhead(self) -> float:
        """The share of all seconds that is overhead, 0..1."""
        parts = self.parts
        return sum(seconds for part, seconds in parts.items() if part in OVERHEAD) / max(sum(parts.values()), 1e-9)

    def to_dict(self) -> dict[str, Any]:
        return {"overhead": self.overhead, "parts": self.parts, "tasks": self.tasks}
