"""A study on this machine: the pipeline runs in its own process, while this one reports its progress."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from playscale.points import Point, read_points
from playscale.processes.cores import usable_cores
from playscale.processes.signals import Stopped
from playscale.progress import TaskProgress, read_progress
from playscale.scaling.numbers import duration
from playscale.storage.files import local_path, read_json, write_json
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace
from playscale.study.context import PER_RUN, PROGRESS, REFERENCES, SUPERVISOR, default_tracking_uri
from playscale.study.spec import StudySpec, read_spec
from playscale.study.study_process import at_work

POLL_SECONDS = 0.2
STOP_SECONDS = 120.0  # after a signal, within which the tasks save their state
AT_ONCE = 2  # tasks that kfp.local runs side by side
LITTLE = 2**16  # bytes: with less free, a task cannot say in its progress file why it failed
MEASURABLE = 0.05  # fraction of a task that must be done before its speed says anything


@dataclass(frozen=True)
class StudyProgress:
    """The progress of a running study.

    Attributes:
        runs: Number of training runs.
        tasks: The tasks so far, in the order they started.
        elapsed: Seconds since the study was started.
    """

    runs: int
    tasks: Sequence[TaskProgress]
    elapsed: float

    @property
    def time_left(self) -> str:
        """The time left in words, as if a run that has not begun took as long as the mean of the others.

        It is not below that of the task at work that has most to do.
        """
        left = longest = 0.0
        runs = max(1, self.runs, sum(t.task.startswith("train") for t in self.tasks))
        for kind in ("train", "evaluate"):
            begun = [t for t in self.tasks if t.task.startswith(kind) and t.task != f"evaluate-{REFERENCES}"]
            known = [t for t in begun if t.fraction > MEASURABLE and t.seconds > 1]
            if not known and kind == "train":
                return "estimating the time left"
            whole = [t.seconds / t.fraction for t in known]
            # before the first evaluation: as long as training
            each = sum(whole) / len(whole) if known else left / runs
            left += (runs - sum(t.fraction for t in begun)) * each
            longest = max([longest, *(w * (1 - t.fraction) for w, t in zip(whole, known, strict=True))])
        return f"about {duration(60 * max(1, round(max(left / AT_ONCE, longest) / 60)))} left"


@dataclass(frozen=True)
class StudyResult:
    """The results of a finished study.

    Attributes:
        points: The points table.
        fit: The content of fit.json.
        tasks: The tasks, in the order they started.
        seconds: Seconds that the whole study took.
        time: Where the tasks' seconds went.
        failed: Tasks that failed; the runs that they are of are not in the laws.
    """

    points: Sequence[Point]
    fit: Mapping[str, Any]
    tasks: Sequence[TaskProgress]
    seconds: float
    time: StudyTime
    failed: Sequence[TaskProgress]

    @property
    def complaint(self) -> str:
        """The tasks that failed, and what to do, in one line; "" when nothing did."""
        if not self.failed:
            return ""
        each = "; ".join(f"{task.task}: {task.what if task.state == 'failed' else 'killed'}" for task in self.failed)
        return f"{each}. The laws are those of the other runs; the same command tries again what failed"


@dataclass(frozen=True)
class LocalStudy:
    """A study to run on this machine.

    Attributes:
        spec_path: Its specification, YAML.
        spec: The same, read.
        uri: Its directory, a path or s3://BUCKET/PREFIX.
        folder: The directory of its log, its lock and its tasks' progress; for a `uri` in S3 out/NAME.
        tracking_uri: URI of the MLflow server or store.
        runner: How kfp.local runs the components: subprocess or docker.
        include_forecasts: Whether agents of forecasts are fitted, too.
    """

    spec_path: Path
    spec: StudySpec
    uri: str
    folder: Path
    tracking_uri: str
    runner: str
    include_forecasts: bool = False

    @classmethod
    def open(
        cls,
        spec_path: Path,
        out: str | None = None,
        tracking_uri: str | None = None,
        runner: str = "subprocess",
        *,
        include_forecasts: bool = False,
    ) -> LocalStudy:
        """Read the specification; nothing is written yet.

        Args:
            spec_path: The study's specification, YAML.
            out: The study's directory, or s3://BUCKET/PREFIX. Default: out/NAME.
            tracking_uri: URI of the MLflow server or store. Default: see `default_tracking_uri`.
            runner: How kfp.local runs the components: subprocess or docker.
            include_forecasts: Fit agents of forecasts, too.

        Raises:
            ModuleNotFoundError: An extra of the package that a study needs is not installed.
            ValueError: The specification or its corpus is missing or wrong, S3 refuses to list what the study names
                there, or this machine lacks the device of a run.
            OSError: S3 cannot be reached.
        """
        _check_extras(runner)
        from playscale.tracking.uris import check_uri

        spec = read_spec(spec_path)
        default = Path("out") / spec.name
        folder = (default if out is None or is_s3(out) else local_path(out)).resolve()
        uri = out if out is not None and is_s3(out) else str(folder)
        tracking_uri = tracking_uri or default_tracking_uri(uri)
        check_uri(tracking_uri)
        for place in filter(is_s3, (uri, *spec.inputs().values())):
            S3Storage(place).sizes()  # its steps would wait for an endpoint that is wrong
        if spec.source and spec.source.corpus:
            from playscale.corpus.corpus import Corpus

            Corpus.open(spec.source.corpus)
        if runner == "subprocess":
            _check_devices(spec)
        return cls(spec_path, spec, uri, folder, tracking_uri, runner, include_forecasts)

    @property
    def command(self) -> str:
        """The command that goes on with the study, from any directory."""
        runner = [] if self.runner == "subprocess" else ["--runner", self.runner]
        return self.command_of("run", *runner, *(["--include-forecasts"] if self.include_forecasts else []))

    def command_of(self, name: str, *options: str) -> str:
        """Return a command on the study that can be given in any directory: `playscale study NAME ...`."""
        words = ["playscale", "study", name, str(self.spec_path.resolve()), "--out", self.uri, *options]
        if not self.tracking_uri.startswith("sqlite:"):
            from playscale.tracking.uris import shown

            words += ["--tracking-uri", shown(self.tracking_uri)]
        relative = [uri for uri in self.spec.inputs().values() if "://" not in uri and not Path(uri).is_absolute()]
        return (f"cd {shlex.quote(str(Path.cwd()))} && " if relative else "") + shlex.join(words)

    def run(self, on_progress: Callable[[StudyProgress], None]) -> StudyResult:
        """Run the study pipeline through kfp.local. Run again in the same directory, it resumes.

        Args:
            on_progress: Called several times a second while the pipeline runs, and once at its end.

        Raises:
            ValueError: The directory is in use, or a step found bad input.
            RuntimeError: A step failed, and there are no laws without it.
        """
        started = time.time()
        with at_work(self.folder, self.uri, self.command):
            failed = self.pipeline.run(on_progress, len(self.spec.runs()))
        points, fit = read_results(self.uri)
        tasks = read_progress(self.folder / "progress")
        study_time = StudyTime.of(tasks, started)
        write_json(self.folder / "seconds.json", study_time.to_dict())
        return StudyResult(points, fit, tasks, time.time() - started, study_time, failed)

    @property
    def pipeline(self) -> LocalPipeline:
        parameters = json.dumps({"include_forecasts": self.include_forecasts})
        return LocalPipeline(self.folder, (*self.arguments, "study", parameters))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that playscale_pipelines.local takes of every pipeline."""
        return str(self.spec_path.resolve()), self.uri, self.tracking_uri, self.runner


@dataclass(frozen=True)
class LocalPipeline:
    """A pipeline that kfp.local runs in a process of its own.

    Attributes:
        folder: The directory of its log, of its tasks' progress and of Kubeflow's artifacts.
        arguments: Those of playscale_pipelines.local.
        last: The task that comes last, whatever became of single runs.
    """

    folder: Path
    arguments: Sequence[str]
    last: str = "fit"

    def run(self, on_progress: Callable[[StudyProgress], None], runs: int) -> list[TaskProgress]:
        """Run the pipeline to its end, and return the tasks that failed, each of one training run.

        Args:
            on_progress: Called several times a second while the pipeline runs, and once at its end.
            runs: Number of training runs.

        Raises:
            ValueError: A step found bad input.
            RuntimeError: A step failed, and there is no result without it.
        """
        started = time.time()
        for stale in (self.folder / "progress").glob("*.json"):
            stale.unlink()
        with self._process() as process:
            running = True
            while running:
                time.sleep(POLL_SECONDS)
                running = process.poll() is None
                tasks = read_progress(self.folder / "progress")
                on_progress(StudyProgress(runs, tasks, time.time() - started))
                if running and any(task.state == "failed" and not _is_of_a_run(task) for task in tasks):
                    _stop(process.pid)  # kfp.local goes on with tasks that ignore what failed before them
        return self._failed(process.returncode)

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the pipeline's process, its output in pipeline.log; it is gone after this."""
        threads = str(max(1, usable_cores() // AT_ONCE))
        environment = (
            {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
            | os.environ
            | {
                SUPERVISOR: str(os.getpid()),
                PROGRESS: str(self.folder / "progress"),
                "PYTHONSAFEPATH": "1",  # the working directory may hold other packages `pipelines` or `playscale`
            }
        )
        command = [sys.executable, "-m", "playscale_pipelines.local", *self.arguments]
        with (self.folder / "pipeline.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                process_group=0,  # Ctrl-C is for this process, which then stops the tasks
            )
            try:
                yield process
            except Stopped:
                _stop(process.pid)
                raise
            finally:
                process.kill()
                process.wait()

    def _failed(self, returncode: int) -> list[TaskProgress]:
        """Return the tasks of runs that failed. Without the last task, raise the first error, or the pipeline's."""
        log = self.folder / "pipeline.log"
        tasks = read_progress(self.folder / "progress")
        unfinished = [task for task in tasks if task.state != "done"]
        ended = any(task.task == self.last and task.state == "done" for task in tasks)
        if returncode and ended and unfinished and all(map(_is_of_a_run, unfinished)):
            return unfinished
        # the last task fails for want of what others should have made, and says nothing of why
        failed = [
            task for task in unfinished if task.state == "failed" and (task.task != self.last or task is unfinished[0])
        ]
        if failed:
            text = f"{failed[0].task}: {failed[0].what}"
            raise ValueError(text) if failed[0].user_error else RuntimeError(f"{text} (log: {log})")
        if returncode:
            free = shutil.disk_usage(self.folder).free
            full = f", and its disk is full ({free} bytes are free)" if free < LITTLE else ""
            raise RuntimeError(f"the pipeline ended with code {returncode}{full}; its log is {log}")
        return []


def read_results(uri: str) -> tuple[list[Point], dict[str, Any]]:
    """Return the points and the fit.json of a study, whose directory is at `uri`."""
    with workspace(uri, "points.csv", "fit.json", store=False) as results:
        return read_points(results / "points.csv"), read_json(results / "fit.json")


def _is_of_a_run(task: TaskProgress) -> bool:
    """Return whether a task is one of many, without which the study goes on."""
    return task.task.partition("-")[0] in PER_RUN


def _stop(pipeline: int) -> None:
    """End the pipeline's processes by SIGTERM, at which its tasks save their state, and wait until all have left."""
    try:
        processes = psutil.Process(pipeline).children(recursive=True)
        os.killpg(pipeline, signal.SIGTERM)
    except (psutil.NoSuchProcess, ProcessLookupError):  # it has just ended
        return
    deadline = time.monotonic() + STOP_SECONDS
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _runs(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that nobody has waited for yet has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _check_devices(spec: StudySpec) -> None:
    """Raise ValueError where this machine lacks the device of a run: nothing is collected for it in vain."""
    for device in {run.device for run in spec.runs().values()} - {"auto", "cpu"}:
        from playscale.agents.device import resolve_device

        resolve_device(device)


def _check_extras(runner: str) -> None:
    """Raise ModuleNotFoundError when a study would fail because an extra of the package is not installed."""
    for module in ("kfp", "mlflow", "torch", "nle") if runner == "subprocess" else ("kfp", "docker", "sqlalchemy"):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


OVERHEAD = {
    "between tasks": "pipeline: from the end of a task to the start of the next",
    "starting": "not accounted for by the task: imports, helper processes",
    "saves": "resume states and checkpoints",
    "tracking": "MLflow",
}
"""Parts of a task's seconds that are overhead. All others are work, which takes as long without a study."""


@dataclass(frozen=True)
class StudyTime:
    """Seconds of tasks, by task and part. Tasks that run side by side each count; idle processors do not."""

    tasks: dict[str, dict[str, float]]

    @classmethod
    def of(cls, tasks: Sequence[TaskProgress], began: float) -> StudyTime:
        """Return the seconds of finished tasks, in the order they started.

        The time between tasks is counted from the end of the last task that ended before.

        Args:
            tasks: The tasks.
            began: Unix time at which the study began.
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
        """Seconds by part over all tasks, the largest first."""
        total: dict[str, float] = defaultdict(float)
        for parts in self.tasks.values():
            for part, seconds in parts.items():
                total[part] += seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    @property
    def overhead(self) -> float:
        """Fraction of all seconds that is overhead, 0..1."""
        parts = self.parts
        return sum(seconds for part, seconds in parts.items() if part in OVERHEAD) / max(sum(parts.values()), 1e-9)

    def to_dict(self) -> dict[str, Any]:
        return {"overhead": self.overhead, "parts": self.parts, "tasks": self.tasks}
