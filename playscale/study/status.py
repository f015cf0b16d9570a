"""The status of a study: what is done, at work and failed, how long yet, and its result.

Everything is read from what the steps leave (StudyFiles). What a study has done is counted by what it would keep after
a kill, so that a percentage never falls: checkpoints, saves of the training state, evaluations.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from playscale.config import TrainConfig, budget_name, parse_size
from playscale.points import Point, read_curve, read_points
from playscale.progress import TaskProgress
from playscale.scaling import numbers
from playscale.storage.files import read_document, read_json, read_text
from playscale.storage.storage import is_s3
from playscale.study.cluster_run import StudyPart
from playscale.study.context import PER_RUN, REFERENCES, cell, measured, missing_runs, own_cells, planned_budgets
from playscale.study.forecast_status import ForecastStatus, forecast_status
from playscale.study.local_run import AT_ONCE, MEASURABLE
from playscale.study.outcome import best_of, learns_badly, outlook, result_of
from playscale.study.study_files import StudyFiles
from playscale.study.study_process import StudyProcess, evidence, read_process, seems_to_run
from playscale.training.schedule import Cell, Work, plan_cells

RECENT = 5  # lines of a learning curve that the speed is taken over
LAST = ("fit", "check")  # tasks after which a study ends
BEFORE_RUNS = ("collect", "prepare", "plan")


@dataclass(frozen=True)
class RunStatus:
    """A planned training run.

    Attributes:
        run: Its name.
        state: done, running, failed, unfinished or waiting.
        budgets: Number of its budgets.
        trained: Those that it is trained to.
        evaluated: Those whose agents are evaluated.
        fraction: Fraction of its training that is saved, 0..1.
        dev_loss: That of the largest budget so far.
        return_mean: That of the largest budget so far.
        note: Why it will probably end badly; "" if it will not.
        outlook: Of a run at work: what its learning curve forecasts of its end; "" where that cannot be told yet.
    """

    run: str
    state: str
    budgets: int
    trained: int
    evaluated: int
    fraction: float
    dev_loss: float | None
    return_mean: float | None
    note: str
    outlook: str = ""


@dataclass(frozen=True)
class StudyStatus:
    """The status of a study.

    Attributes:
        name: Its name.
        place: Its directory, or s3://BUCKET/PREFIX.
        state: running, finished, failed or stopped (not running, and unfinished).
        note: What the state was taken from, where that needs to be said.
        fraction: Fraction of its steps that is done and kept, 0..1.
        parts: Its parts, in order.
        now: The tasks at work, each with what it does.
        failed: The tasks that failed, each with the reason.
        runs: The planned runs, in order; none before the plan.
        points: Number of points that are evaluated.
        planned: Number of points that are planned; None before the plan.
        left_out: Cells of the grid that are not trained, by reason.
        seconds_left: Seconds that the rest takes; None where that cannot be told.
        at_least: Whether it takes longer than that, since nothing is known of its evaluations yet.
        changed: Unix time of the last change.
        best: The best dev loss and return so far, "" for none.
        result: What the laws say, in a line; "" before there are some.
        report: Where the report is; "" for none.
        go_on: The command that goes on with it; "" when it runs or is finished.
        forecast: The status of its forecasts; None where none is at work, interrupted or open.
    """

    name: str
    place: str
    state: str
    note: str = ""
    fraction: float = 0.0
    parts: Sequence[StudyPart] = ()
    now: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    runs: Sequence[RunStatus] = ()
    points: int = 0
    planned: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    seconds_left: float | None = None
    at_least: bool = False
    changed: float | None = None
    best: str = ""
    result: str = ""
    report: str = ""
    go_on: str = ""
    forecast: ForecastStatus | None = None

    @property
    def ended(self) -> bool:
        """Tell whether neither the study nor a forecast of it runs."""
        return "running" not in {self.state, self.forecast and self.forecast.state}

    @property
    def at_work(self) -> Mapping[str, str]:
        """The tasks at work, those of a forecast too."""
        return {**self.now, **(self.forecast.now if self.forecast else {})}

    @property
    def failures(self) -> Mapping[str, str]:
        """The tasks that failed, those of a forecast too."""
        return {**self.failed, **(self.forecast.failed if self.forecast else {})}

    @property
    def time_left(self) -> str:
        """The time left in words; "" when nothing is left."""
        if self.state == "finished":
            return ""
        if self.seconds_left is None:
            return "time left unknown"
        return f"{'at least' if self.at_least else 'about'} {numbers.duration(self.seconds_left)} left"


def read_status(files: StudyFiles) -> StudyStatus:
    """Return how far a study is by its files, which were looked at. ValueError: there is none, or a file is damaged."""
    look = _Look(files)
    if look.plan is None and not look.tasks and look.process is None:
        raise ValueError(f"{files.place}: no study there: it has no plan.json")
    try:
        return look.status()
    except ValueError as error:
        raise ValueError(str(error).replace(str(files.folder), files.place)) from error


@dataclass(frozen=True)
class _Look:
    """A study's files, and what follows from them."""

    files: StudyFiles

    @cached_property
    def plan(self) -> dict[str, Any] | None:
        if "plan.json" not in self.files.changed:
            return None
        plan: dict[str, Any] = read_document(
            self.files.folder / "plan.json", dict[str, dict[str, Any] | list[Any] | str | float | None],
            "run the study again",
        )  # fmt: skip
        return plan

    @cached_property
    def planned(self) -> Mapping[str, Any]:
        """The planned runs by name; none before the plan."""
        return (self.plan or {}).get("runs", {})

    @cached_property
    def tasks(self) -> list[TaskProgress]:
        """The tasks so far, in the order they started."""
        return self.files.tasks(of_forecasts=False)

    @cached_property
    def process(self) -> StudyProcess | None:
        return read_process(self.files.folder)

    @cached_property
    def changed(self) -> float | None:
        return self.files.last_change(of_forecasts=False)

    @cached_property
    def lacks(self) -> dict[str, str]:
        """Return what each run is short of, by name."""
        return missing_runs(self.files.folder, self.plan) if self.plan else {}

    @cached_property
    def fitted(self) -> list[Point]:
        """The points that the laws are fitted to."""
        table = self.files.folder / "points.csv"
        return read_points(table) if {"points.csv", "fit.json", "report.html"} <= self.files.changed.keys() else []

    @cached_property
    def whole(self) -> bool:
        """Tell whether no run is missing and the laws are those of all points."""
        if self.plan is None or self.lacks or not self.fitted:
            return False
        return own_cells(self.files.folder, self.plan) <= {cell(point) for point in self.fitted}

    @cached_property
    def runs_now(self) -> bool:
        at_end = bool(self.tasks) and self.tasks[-1].task in LAST and self.tasks[-1].state != "running"
        return seems_to_run(self.process, None if at_end else self.changed)

    @cached_property
    def now(self) -> list[TaskProgress]:
        """The tasks at work."""
        return [task for task in self.tasks if task.state == "running"] if self.runs_now else []

    @cached_property
    def failed(self) -> list[TaskProgress]:
        """The tasks that failed, whose work has not been done since."""
        if self.whole:
            return []
        failed = [task for task in self.tasks if task.state == "failed" and not task.stopped]
        return [task for task in failed if _run_of(task) in {"", *self.lacks}]

    @property
    def state(self) -> str:
        if self.whole and not self.now:
            return "finished"
        if self.runs_now:
            return "running"
        return "failed" if self.failed else "stopped"

    @property
    def note(self) -> str:
        if self.state == "finished":
            return ""
        unseen = is_s3(self.files.place) and (self.process is None or self.process.runs is None)
        asks = "; --endpoint URL asks Kubeflow" if unseen and self.changed is not None else ""
        return evidence(self.process, self.changed) + asks

    def status(self) -> StudyStatus:
        runs = [self._run(name) for name in self.planned]
        seconds, at_least = self._seconds_left(runs)
        state, reasons = self.state, [one["reason"] for one in (self.plan or {}).get("cells", ()) if one["reason"]]
        report = f"{self.files.place}/report.html" if "report.html" in self.files.changed else ""
        return StudyStatus(
            name=self._name(),
            place=self.files.place,
            state=state,
            note=self.note,
            fraction=self._fraction(runs),
            parts=self._parts(runs),
            now={task.task: _at_work(task, runs) for task in self.now},
            failed={task.task: task.what for task in self.failed},
            runs=runs,
            points=sum(run.evaluated for run in runs),
            planned=sum(run.budgets for run in runs) if self.plan else None,
            left_out={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
            seconds_left=seconds,
            at_least=at_least,
            changed=self.changed,
            best=best_of(self.fitted or self._measured()),
            result=result_of(read_json(self.files.folder / "fit.json")) if self.fitted else "",
            report=report,
            go_on="" if state in {"running", "finished"} else self._go_on(),
            forecast=forecast_status(self.files),
        )

    def _name(self) -> str:
        with suppress(OSError, ValueError, yaml.YAMLError, TypeError, KeyError):
            return str(yaml.safe_load(read_text(self.files.folder / "spec.yaml"))["name"])
        return self.files.place.rstrip("/").rpartition("/")[2]

    def _table(self, step: str, run: str) -> dict[float, Point]:
        return measured(self.files.folder / step / run / "points.csv", self.planned[run])

    def _measured(self) -> list[Point]:
        """Return the points that the runs have made so far."""
        return [point for step in PER_RUN for run in self.planned for point in self._table(step, run).values()]

    def _run(self, name: str) -> RunStatus:
        budgets, (trained, evaluated) = planned_budgets(self.planned[name]), (self._table(s, name) for s in PER_RUN)
        evaluations = [n for n in self.files.matching("evaluate/*/evaluation.json") if n.split("/")[1] == name]
        now = any(_run_of(task) == name for task in self.now)
        failed = any(_run_of(task) == name for task in self.failed)
        fraction = 1.0 if len(trained) == len(budgets) else self._saved(name)
        begun = fraction > 0 or any(_run_of(task) == name for task in self.tasks)
        most = len(budgets) - (name in self.lacks)  # evaluations of another number of episodes may lie there
        state = "unfinished" if begun and not self.runs_now else "waiting"
        if name not in self.lacks:
            state = "done"
        elif now or failed:
            state = "running" if now else "failed"
        reached = [(trained | evaluated)[budget] for budget in sorted(trained | evaluated)]
        return RunStatus(
            run=name,
            state=state,
            budgets=len(budgets),
            trained=len(trained),
            evaluated=len(budgets) if state == "done" else min(max(len(evaluated), len(evaluations)), most),
            fraction=fraction,
            dev_loss=next((p.dev_loss for p in reversed(reached) if p.dev_loss is not None), None),
            return_mean=next((p.return_mean for p in reversed(reached) if p.return_mean is not None), None),
            note=learns_badly(reached),
            outlook=outlook(self.files.folder / "train" / name / "curve.csv", max(budgets)) if now else "",
        )

    def _cells(self, name: str) -> tuple[list[Cell], float]:
        """Return the cells of a run by step, and its training FLOPs per sample."""
        config = TrainConfig.model_validate(self.planned[name])
        cells = (self.plan or {}).get("cells", ())
        per_sample = next(round(one["flops"] / one["samples"]) for one in cells if one["run"] == name)
        return plan_cells(config, per_sample), per_sample

    def _saved(self, name: str) -> float:
        """Return the fraction of a run's training that its newest save or checkpoint keeps."""
        start, (cells, _) = f"train/{name}/", self._cells(name)
        work, by_name, found = Work(cells), {budget_name(one.budget): one for one in cells}, [0.0]
        for file in self.files.changed:
            parts = file.removeprefix(start).split("/")
            if not file.startswith(start) or len(parts) != 3 or parts[2] != "checkpoint.json":
                continue
            kind, _, branch = parts[0].partition("-")
            if kind == "checkpoints" and parts[1] in by_name:
                found.append(work.of_branch(by_name[parts[1]])(by_name[parts[1]].step))
            elif kind == "resume" and parts[1].isdigit() and branch in {"", *by_name}:
                found.append((work.of_branch(by_name[branch]) if branch else work.of_run)(int(parts[1])))
        return min(1.0, max(found))

    def _parts(self, runs: Sequence[RunStatus]) -> list[StudyPart]:
        ended = {task.task for task in self.tasks if task.state == "done"}
        before = [StudyPart(name, int(self.plan is not None or name in ended), 1) for name in BEFORE_RUNS]
        evaluated = sum(run.state == "done" or run.evaluated == run.budgets for run in runs)
        references = self.plan is not None and REFERENCES not in self.lacks
        return [
            *before,
            StudyPart("train", sum(run.fraction == 1 for run in runs), len(runs)),
            StudyPart("evaluate", evaluated, len(runs)),
            StudyPart(REFERENCES, int(references), 1),
            StudyPart("fit", int(self.whole), 1),
        ]

    def _fraction(self, runs: Sequence[RunStatus]) -> float:
        """Return the fraction of the study's steps that is done; a part of a step counts as that part."""
        if not runs:
            return 0.0
        parts = {part.name: part.done for part in self._parts(runs)}
        done = len(BEFORE_RUNS) + parts[REFERENCES] + parts["fit"]
        of_runs = sum(run.fraction + run.evaluated / run.budgets for run in runs)
        return (done + of_runs) / (len(BEFORE_RUNS) + 2 + 2 * len(runs))

    def _seconds_left(self, runs: Sequence[RunStatus]) -> tuple[float | None, bool]:
        """Return the seconds left, None where they cannot be told, and whether evaluations are not in them."""
        at_once = AT_ONCE if self.process is not None or not is_s3(self.files.place) else len(self.now)
        training = self._training_left(runs)
        if not runs or training is None or not at_once:
            return None, False
        evaluations = [t for t in self.tasks if t.task.startswith("evaluate-") and _run_of(t) != REFERENCES]
        known = [t.seconds / t.fraction for t in evaluations if t.fraction > MEASURABLE and t.seconds > 1]
        begun = {_run_of(task): task.fraction for task in self.now if task in evaluations}
        left = [1 - max(r.evaluated / r.budgets, begun.get(r.run, 0.0)) for r in runs if r.evaluated < r.budgets]
        each = statistics.fmean(known) if known else 0.0
        tasks = [*training, *(part * each for part in left)]
        seconds = max(sum(tasks) / at_once, max(tasks, default=0.0))
        return (None, False) if left and not known and not seconds else (seconds, bool(left) and not known)

    def _training_left(self, runs: Sequence[RunStatus]) -> list[float] | None:
        """Return the seconds that each run trains yet, by its FLOPs left and a speed seen; None: one is unknown.

        A run without a learning curve is taken for as fast as the run of its method that is nearest in size.
        """
        speeds, left = {run.run: self._speed(run.run) for run in runs}, []
        for run in (run for run in runs if run.fraction < 1):
            own, (cells, per_sample) = self.planned[run.run], self._cells(run.run)
            size = math.log(parse_size(own["size"]))
            near = [
                (abs(math.log(parse_size(self.planned[name]["size"])) - size), speed)
                for name, speed in speeds.items()
                if speed and self.planned[name]["method"] == own["method"]
            ]
            if not near:
                return None
            done = max([run.fraction, *(t.fraction for t in self.now if t.task == f"train-{run.run}")])
            flops = Work(cells).total * TrainConfig.model_validate(own).samples_per_step * per_sample
            left.append((1 - done) * flops / (speeds[run.run] or min(near)[1]))
        return left

    def _speed(self, run: str) -> float | None:
        """Return the training FLOP/s that a run was last seen at."""
        with suppress(ValueError):  # a damaged curve is the training's matter
            rows = read_curve(self.files.folder / "train" / run / "curve.csv")
            if seen := [row["samples_per_second"] for row in rows if row.get("samples_per_second")]:
                return statistics.median(seen[-RECENT:]) * self._cells(run)[1]
        return None

    def _go_on(self) -> str:
        if self.process and self.process.command:
            return self.process.command
        if is_s3(self.files.place):
            return f"playscale study submit SPEC --endpoint URL --out {self.files.place}"
        spec = f"{self.files.place}/spec.yaml" if "spec.yaml" in self.files.changed else "SPEC"
        return f"playscale study run {spec} --out {self.files.place}"


def _run_of(task: TaskProgress) -> str:
    """Return the run that a task is of; "" for a task of the whole study."""
    kind, _, run = task.task.partition("-")
    return run if kind in PER_RUN else ""


def _at_work(task: TaskProgress, runs: Sequence[RunStatus]) -> str:
    """Return how far a task is; one that resumes is as far as its saves, whatever it says at its start."""
    saved = next((run.fraction for run in runs if task.task == f"train-{run.run}"), 0.0)
    return f"{math.floor(100 * max(task.fraction, saved))} %, {task.what}"
