"""A run through its compute budgets: at each a cell, which is a checkpoint and a row of the points table."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import torch

from playscale.config import budget_name
from playscale.points import LearningCurve, Point
from playscale.storage.files import write_json
from playscale.tracking import monitor
from playscale.tracking.tracker import NullTracker, Tracker
from playscale.training.distributed import Group
from playscale.training.metrics import LossMeter, NonFiniteError
from playscale.training.optimization import resolve_precision
from playscale.training.run import Run
from playscale.training.run_state import RunState, latest
from playscale.training.schedule import Cell, Work
from playscale.training.trainer import Method, Segment, TrainContext, advance


def train_run(
    run: Run,
    group: Group,
    device: torch.device,
    method: Callable[[], Method],
    *,
    reports: int,
    dev_steps: frozenset[int],
    tracker: Tracker | None,
    progress: Callable[[str, float], None] | None,
) -> list[Point]:
    """Train a run through the budgets that it has not reached; all its points, by budget, also in OUT/points.csv.

    `method` is made only if there is something left to do; `reports` are spread over the run. Of a group of processes
    the first tracks, tells and writes. ValueError: see Run.claim, Run.check_ahead. NonFiniteError: see train_cells.
    """
    with group.in_turn():
        run.claim()
        points = run.reached()
    left = [cell for cell in run.cells if cell.budget not in points]
    monitor.describe(run=run.name, method=run.config.method)
    monitor.gauge("parameters", run.params)
    if left:
        run.check_ahead(left)
        setting = TrainContext(
            config=run.config,
            method=method(),
            device=device,
            precision=resolve_precision(run.config.precision, device),
            flops_per_sample=run.flops_per_sample,
            report_steps=max(1, Work(run.cells).total // reports),
            dev_steps=dev_steps,
            tracker=tracker if tracker is not None and group.first else NullTracker(),
            progress=progress if progress is not None and group.first else _silent,
            group=group,
        )
        train_cells(run, setting, left, points)
    if group.first:
        run.publish(points)
    return [points[budget] for budget in sorted(points)]


def train_cells(run: Run, setting: TrainContext, left: list[Cell], points: dict[float, Point]) -> None:
    """Train the constant-rate run through the cells that are left, each cell's cooldown branch as it comes.

    `points`, by budget, grows with each. NonFiniteError: OUT/nonfinite.json describes the step and its data.
    """
    work = Work(run.cells)
    devices = [setting.device] if setting.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            main = _own_columns(setting, run.state(setting.device))
            for cell in left:
                curve = LearningCurve(run.out / "curve.csv")
                advance(setting, main, Segment(cell.branch_step, run.rate, run.resume, work.of_run, curve=curve))
                whole = cell.branch_step == cell.step
                point = run.finish(cell, main, setting) if whole else _cool(run, setting, cell, work)
                points[cell.budget] = point
                if setting.group.first:
                    run.publish(points)
                setting.progress(_reached(run, point), work.of_branch(cell)(cell.step))
    except NonFiniteError as error:
        monitor.count("errors", own="non_finite")
        if setting.group.first:
            write_json(run.out / "nonfinite.json", error.record)
        raise


def _cool(run: Run, setting: TrainContext, cell: Cell, work: Work) -> Point:
    """Train a cell's cooldown branch, from the run as saved at its branch step, over the data the run will also see."""
    folder = run.branch_resume(cell)
    saved = latest(folder)
    start = saved or latest(run.resume)
    assert start is not None
    devices = [setting.device] if setting.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        branch = _own_columns(setting, run.load(start, setting.device))
        if saved is None:
            branch.meter = LossMeter()  # the steps before the branch are in the run's own curve
        rate = lambda step: cell.cooled(step, run.rate(step))  # noqa: E731
        advance(setting, branch, Segment(cell.step, rate, folder, work.of_branch(cell), branch=True))
        point = run.finish(cell, branch, setting)
    if setting.group.first:
        shutil.rmtree(folder, ignore_errors=True)
    return point


def _own_columns(setting: TrainContext, state: RunState) -> RunState:
    """The state with this process's columns of what was saved for all of them."""
    columns = setting.group.columns(setting.config.batch)
    state.recurrent = {name: value[columns] for name, value in state.recurrent.items()}
    return state


def _reached(run: Run, point: Point) -> str:
    what = "through" if point.dev_loss is None else f"dev loss {point.dev_loss:.3f} at"
    return f"train {run.config.size}: {what} {budget_name(point.flops)} FLOPs"


def _silent(what: str, fraction: float) -> None:
    del what, fraction
